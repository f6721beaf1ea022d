"""A real PostgreSQL and a real Redis for every test process, an API on them, and a whole stack for end-to-end tests.

| fixture | scope | what |
|---|---|---|
| `servers` | test process | PostgreSQL and Redis, embedded as `cloudpods up` embeds them |
| `patience` | test | limits of time that no slow machine reaches, but for tests marked `own_patience` |
| `settings` | test | settings on those servers; the schema is there, every table empty |
| `tenants` | test | `TENANT-123` and a second tenant, `TENANT-456`, each with plan, quota; the nodes lab1 and lab2 |
| `api` | test | the API in this process, called without sockets, with a good token |
| `api_on` | test | makes an API on settings of the test's own |
| `served` | test | serves the API in processes of its own, on settings of the test's own |
| `sql` | test | plain SQL on a connection of the test's own |
| `rows` | test | a maker of pods and jobs by plain SQL |
| `finish` | test | a way to run an order that the API took to an outcome |
| `session` | test | a connection of the shim's, held by the test's thread; not beside `api`, whose requests give it back |
| `empty_database` | test | the URL of a database with nothing in it |
| `sql_of_empty` | test | plain SQL on that database |
| `eventually` | test | polls a condition up to a deadline |
"""

from __future__ import annotations

import itertools
import json
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import falcon.testing
import psycopg2
import pytest
import redis
from psycopg2.extras import Json, RealDictCursor
from pydantic import TypeAdapter, ValidationError

from shim import app, config, db, migrations, redis_link
from shim.cloudpods.seed import seed
from shim.config import Settings
from shim.embedded import account
from shim.embedded.postgres import Postgres
from shim.embedded.redis_server import RedisServer
from shim.embedded.supervisor import Supervisor
from shim.jobs.catalog import ACTIONS
from shim.jobs.models import CloudPodJob
from shim.tenants.tokens import ApiToken, Bound
from shim.web import operation
from shim.worker import outcome
from shim.worker.playbook import Outcome
from tests.served import Served

TENANT, OTHER_TENANT = "TENANT-123", "TENANT-456"


@dataclass(frozen=True)
class Servers:
    """Where the test process's servers are."""

    database_url: str
    redis_url: str
    state_dir: Path


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """Start PostgreSQL and Redis in a folder that the unprivileged user can reach; stop them and remove it afterwards."""
    state_dir = Path(tempfile.mkdtemp(prefix="cloudpods-test-"))
    state_dir.chmod(0o711)
    supervisor = Supervisor()
    try:
        who = account.choose(state_dir)
        postgres, redis_server = Postgres(who, state_dir), RedisServer(who)
        service = postgres.service()
        # What a crash of the machine would lose is of no use to a test; thousands of waits for the disk are.
        service = replace(service, argv=[*service.argv, "-c", "fsync=off", "-c", "full_page_writes=off"])
        supervisor.start(service)
        redis_service = redis_server.service()
        supervisor.start(redis_service)
        assert supervisor.wait_until(service, postgres.answers, 60)
        assert supervisor.wait_until(redis_service, redis_server.answers, 60)
        db.connect(postgres.url, pool_size=4)
        with db.session():
            migrations.upgrade()
        yield Servers(postgres.url, redis_server.url, state_dir)
    finally:
        supervisor.stop()
        shutil.rmtree(state_dir, ignore_errors=True)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Let this process wait for a slow machine's locks and Redis, but for the tests that ask how long it waits."""
    if request.node.get_closest_marker("own_patience") is None:
        monkeypatch.setattr(db, "REQUESTS", db.Patience(lock_s=60, statement_s=120, idle_s=300))
        monkeypatch.setattr(redis_link, "ANSWER_S", 30.0)
    redis_link.of.cache_clear()


@pytest.fixture
def settings(servers: Servers, tmp_path: Path) -> Iterator[Settings]:
    """Return settings on the servers, whose tables and queues are empty."""
    made = config.load(database_url=servers.database_url, redis_url=servers.redis_url, state_dir=tmp_path / "state")
    redis.Redis.from_url(servers.redis_url).flushall()
    db.connect(servers.database_url, pool_size=20)
    with db.session():
        # Many times faster than TRUNCATE, which makes a new file for each table.
        db.database.execute_sql(
            "DO $$ DECLARE t text; BEGIN SET LOCAL session_replication_role = replica;"
            " FOR t IN SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
            " LOOP EXECUTE format('DELETE FROM %%I', t); END LOOP; END $$"
        )
    yield made
    db.database.close_all()


@pytest.fixture
def tenants(settings: Settings) -> Settings:
    """Make two tenants and two nodes; return the settings."""
    common = {"plan": "cloud-basic", "region": "migra-us-east-1", "max_jobs": 4}
    with db.session():
        lab1 = {"node": "lab1", "pool": "10.1.10.50-10.1.10.249", "gateway": "10.1.10.1"}
        lab2 = {"node": "lab2", "pool": "10.1.20.50-10.1.20.249", "gateway": "10.1.20.1"}
        list(seed(tenant=TENANT, owner="a@example.com", **lab1, **common))
        list(seed(tenant=OTHER_TENANT, owner="b@example.com", **lab2, **common))
    return settings


class Declared:
    """Middleware: holds every good answer against what its route declares, so that the OpenAPI document cannot tell tales."""

    def __init__(self) -> None:
        self.broken: list[str] = []

    def process_response(self, request: Any, response: Any, resource: Any, req_succeeded: bool) -> None:
        """Note an answer that has another status or shape than declared."""
        declared = operation.of(resource, request.method) if req_succeeded and resource else None
        if declared is None or declared.answer is None or response.media is None:
            return
        text = json.dumps(response.media, default=str)
        try:
            assert response.status_code in (declared.status, *declared.statuses), (
                f"answers {response.status_code}, declares {declared.status}"
            )
            TypeAdapter(declared.answer).validate_json(text, strict=True)
        except (AssertionError, ValidationError) as error:
            self.broken.append(f"{request.method} {request.path}: {error}")


class Api(falcon.testing.TestClient):
    """The API called in this process, as the holder of a good token."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(app.create(settings))
        self._declared = Declared()
        self.app.add_middleware(self._declared)
        with db.session():
            self.token = ApiToken.issue("test").secret

    def simulate_request(self, *args: Any, **kwargs: Any) -> Any:
        """Send a request, with the token unless `headers` has another Authorization."""
        kwargs["headers"] = {"Authorization": f"Bearer {self.token}", **(kwargs.get("headers") or {})}
        answer = super().simulate_request(*args, **kwargs)
        assert not self._declared.broken, self._declared.broken
        return answer

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """Send a body as the standard library's json writes it: also what a client may send though it should not, NaN say."""
        text = None if body is None else json.dumps(body)
        headers = {"Content-Type": "application/json", **headers}
        return self.simulate_request(method, f"/internal{path}", body=text, headers=headers)

    def as_user(self, role: str, tenant: str = TENANT, user: str = "user-1") -> dict[str, str]:
        """Return the headers of a user who acts in this tenant with this role."""
        with db.session():
            return {"Authorization": f"Bearer {ApiToken.issue(role, Bound(tenant, role, user)).secret}"}


@pytest.fixture
def api_on() -> type[Api]:
    """Return a way to make an API on settings of the test's own."""
    return Api


@pytest.fixture
def api(tenants: Settings) -> Api:
    """Return the API over two tenants and two nodes."""
    return Api(tenants)


@pytest.fixture
def served(tenants: Settings) -> Iterator[Callable[..., Served]]:
    """Return a way to serve an API with settings of the test's own."""
    started: list[Served] = []

    def serve(**more: Any) -> Served:
        made = Served(tenants, **more)
        started.append(made)
        made.start()
        return made

    yield serve
    for made in started:
        made.stop()


class Sql:
    """Statements on a connection of the test's own, each committed at once: what the test sees, everybody sees."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg2.connect(url, options="-c search_path=cloudpods,public -c timezone=UTC")
        self._connection.autocommit = True

    def __call__(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a statement, none for one that has no result."""
        with self._connection.cursor() as cursor:
            cursor.execute(statement, parameters or None)
            return list(cursor.fetchall()) if cursor.description else []

    def value(self, statement: str, *parameters: Any) -> Any:
        """Return the one value a statement gives."""
        ((value,),) = self(statement, *parameters)
        return value

    def row(self, table: str, id: str) -> dict[str, Any]:
        """Return a row as a dict."""
        with self._connection.cursor(cursor_factory=RealDictCursor) as cursor:
            cursor.execute(f"SELECT * FROM {table} WHERE id = %s", (id,))
            (found,) = cursor.fetchall()
            return dict(found)

    def counts(self) -> dict[str, int]:
        """Return how many rows each table has that an order writes to."""
        tables = ("cloud_pods", "cloud_pod_jobs", "cloud_pod_events", "cloud_pod_allocations")
        counts = {table: self.value(f"SELECT count(*) FROM {table}") for table in tables}
        # Of events those of the order itself; the ledger tells what it writes beside them.
        counts["cloud_pod_events"] -= self.value("SELECT count(*) FROM cloud_pod_events WHERE data->>'action' LIKE 'QUOTA_%'")
        return counts

    def close(self) -> None:
        """Give the connection back."""
        self._connection.close()


@pytest.fixture
def sql(servers: Servers) -> Iterator[Sql]:
    """Return a way to look into the database past the shim."""
    made = Sql(servers.database_url)
    yield made
    made.close()


@pytest.fixture
def sql_of_empty(empty_database: str) -> Iterator[Sql]:
    """Return a way to look into the database that has nothing in it."""
    made = Sql(empty_database)
    yield made
    made.close()


@pytest.fixture
def session(tenants: Settings) -> Iterator[None]:
    """Hold a connection of the shim's for the test's own thread, over two tenants and two nodes."""
    with db.session():
        yield


class Rows:
    """Makes rows by plain SQL, with what a test does not care about filled in."""

    def __init__(self, sql: Sql) -> None:
        self._sql = sql
        self._vmids = itertools.count(9001)

    def node_id(self, name: str = "lab1") -> str:
        """Return a node's id."""
        return str(self._sql.value("SELECT id FROM cloud_pod_nodes WHERE name = %s", name))

    def pod(self, node: str = "lab1", *, allocation: bool = True, **columns: Any) -> str:
        """Insert a pod, active unless said otherwise, with its share of node and quota; return its id."""
        given = {"tenant_id": TENANT, "node_id": self.node_id(node), "vmid": next(self._vmids), "hostname": "client-portal"}
        values = {**given, "status": "active", "cores": 2, "memory_mb": 2048, "swap_mb": 512, "disk_gb": 8, **columns}
        pod = self._insert("cloud_pods", values)
        if allocation:
            share = {
                "used_cpu_cores": values["cores"],
                "used_memory_mb": values["memory_mb"],
                "used_disk_gb": values["disk_gb"],
            }
            mine = {"node_id": values["node_id"], "cloud_pod_id": pod, "tenant_id": values["tenant_id"]}
            self._insert("cloud_pod_allocations", {**mine, **share})
            self._count(pod, values)
        return pod

    def _count(self, pod: str, values: dict[str, Any]) -> None:
        size = (1, values["cores"], values["memory_mb"], values["disk_gb"])
        self._sql(
            "INSERT INTO quota_entries (tenant_id, cloud_pod_id, pods, cpu_cores, ram_mb, disk_gb, state, reason, settled_at)"
            " VALUES (%s, %s, %s, %s, %s, %s, 'committed', 'test', now())",
            values["tenant_id"],
            pod,
            *size,
        )
        self._sql(
            "UPDATE tenant_quotas SET used_cloud_pods = used_cloud_pods + %s, used_cpu_cores = used_cpu_cores + %s,"
            " used_ram_mb = used_ram_mb + %s, used_disk_gb = used_disk_gb + %s WHERE tenant_id = %s",
            *size,
            values["tenant_id"],
        )

    def backup(self, pod: str, **columns: Any) -> str:
        """Insert an archive of a pod, there unless said otherwise; return its id."""
        of = self._sql.row("cloud_pods", pod)
        given = {"cloud_pod_id": pod, "volid": f"vzdump-backups:backup/{uuid.uuid4()}"}
        return self._insert(
            "cloud_pod_backups", {**{name: of[name] for name in ("tenant_id", "node_id", "vmid")}, **given, **columns}
        )

    def job(self, type: str = "BACKUP", *, pod: str | None = None, node: str = "lab1", **columns: Any) -> str:
        """Insert a queued job as `submit` would; return its id."""
        action = ACTIONS[type]
        given = {"type": type, "tenant_id": TENANT, "cloud_pod_id": pod, "node_id": self.node_id(node)}
        limits = {"priority": action.priority, "changes_pod": action.changes_pod, "max_tries": action.tries}
        created = {} if "created_at" in columns else {"created_at": self._sql.value("SELECT clock_timestamp()")}
        payload = Json(columns.pop("payload", {"vmid": 9001}))
        return self._insert("cloud_pod_jobs", {**given, **limits, **created, "payload": payload, **columns})

    def running(self, type: str = "BACKUP", **columns: Any) -> CloudPodJob:
        """Insert a job that is running in its first attempt, and return it as its worker holds it. Needs `session`."""
        far = self._sql.value("SELECT now() + interval '1 hour'")
        held = {"status": "running", "attempt": 1, "tries": 1, "worker": "test", "lease_until": far, "started_at": far}
        return CloudPodJob.find(self.job(type, **{**held, **columns}))

    def _insert(self, table: str, values: dict[str, Any]) -> str:
        names, marks = ", ".join(values), ", ".join(["%s"] * len(values))
        return str(self._sql.value(f"INSERT INTO {table} ({names}) VALUES ({marks}) RETURNING id", *values.values()))


@pytest.fixture
def rows(tenants: Settings, sql: Sql) -> Rows:
    """Return a maker of rows over two tenants and two nodes."""
    return Rows(sql)


@pytest.fixture
def finish(sql: Sql) -> Callable[[Any, Outcome], dict[str, Any]]:
    """Return a way to run an accepted order to an outcome of its playbook; it returns the playbook's variables."""

    def run(answer: Any, ending: Outcome) -> dict[str, Any]:
        assert answer.status_code == 202, answer.text
        job_id = answer.json["job"]["id"]
        held = "status = 'running', attempt = 1, tries = 1, lease_until = now() + interval '1 hour'"
        sql(f"UPDATE cloud_pod_jobs SET {held} WHERE id = %s", job_id)
        with db.session():
            job = CloudPodJob.find(job_id)
            given = ACTIONS[job.type].handler.variables(job)
            outcome.write(job, ending)
        return given

    return run


@pytest.fixture
def empty_database(servers: Servers) -> Iterator[str]:
    """Make a database with nothing in it; return its URL, and remove it afterwards."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    admin = Sql(servers.database_url)
    admin(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'")
    yield servers.database_url.replace("@/cloudpods?", f"@/{name}?")
    db.database.close_all()
    admin(f"DROP DATABASE {name} WITH (FORCE)")
    admin.close()


def eventually(condition: Callable[[], Any], *, within_s: float = 30.0) -> Any:
    """Return the first true value of a condition. Raises AssertionError when there is none in time."""
    deadline = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"did not come true within {within_s} s"
        time.sleep(0.02)
    return found


@pytest.fixture(name="eventually")
def eventually_fixture() -> Callable[..., Any]:
    """Return `eventually`: it polls a condition up to a deadline."""
    return eventually


@pytest.fixture
def assert_problem() -> Callable[..., None]:
    """Return a check that an answer is an RFC 9457 problem with a status, a code and, if given, the field and its rule."""

    def check(answer: Any, status: int, code: str | None = None, *, field: str | None = None, rule: str = "") -> None:
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json
        assert problem["status"] == status
        assert re.fullmatch(r"[a-z][a-z_]*", problem["code"]), f"no stable word: {problem['code']}"
        assert code is None or problem["code"] == code, answer.text
        assert problem["detail"]
        if field is not None:
            # A rule of two fields stands at the body itself and names both.
            named = [e["rule"] for e in problem["errors"] if e["field"] in (field, field or "body", "body")]
            assert any(rule in text for text in named), answer.text
            assert field in problem["detail"]

    return check
