"""A real PostgreSQL and a real Redis for every test process, an API on them, and a whole stack for end-to-end tests.

| fixture | scope | what |
|---|---|---|
| `servers` | test process | PostgreSQL and Redis, embedded as `cloudpods up` embeds them |
| `settings` | test | settings on those servers; the schema is there, every table empty |
| `tenants` | test | `TENANT-123` and a second tenant, `TENANT-456`, each with plan, quota; the nodes lab1 and lab2 |
| `api` | test | the API in this process, called without sockets, with a good token |
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import falcon.testing
import pytest
import redis

from shim import app, config, db, migrations
from shim.cloudpods.seed import seed
from shim.config import Settings
from shim.embedded import account
from shim.embedded.postgres import Postgres
from shim.embedded.redis_server import RedisServer
from shim.embedded.supervisor import Supervisor
from shim.tenants.models import ApiToken

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
        supervisor.start(postgres.service())
        supervisor.start(redis_server.service())
        postgres.wait()
        redis_server.wait()
        db.connect(postgres.url, pool_size=4)
        with db.session():
            migrations.upgrade()
        yield Servers(postgres.url, redis_server.url, state_dir)
    finally:
        supervisor.stop()
        shutil.rmtree(state_dir, ignore_errors=True)


@pytest.fixture
def settings(servers: Servers, tmp_path: Path) -> Iterator[Settings]:
    """Return settings on the servers, whose tables and queues are empty."""
    made = config.load(database_url=servers.database_url, redis_url=servers.redis_url, state_dir=tmp_path / "state")
    redis.Redis.from_url(servers.redis_url).flushall()
    db.connect(servers.database_url, pool_size=20)
    with db.session():
        db.database.execute_sql(
            "DO $$ BEGIN EXECUTE (SELECT 'TRUNCATE ' || string_agg(format('%%I', tablename), ', ') || ' CASCADE'"
            " FROM pg_tables WHERE schemaname = 'public'); END $$"
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


class Api(falcon.testing.TestClient):
    """The API called in this process, as the holder of a good token."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(app.create(settings))
        with db.session():
            self.token = ApiToken.issue("test")

    def simulate_request(self, *args: Any, **kwargs: Any) -> Any:
        """Send a request, with the token unless `headers` has another Authorization."""
        kwargs["headers"] = {"Authorization": f"Bearer {self.token}", **(kwargs.get("headers") or {})}
        return super().simulate_request(*args, **kwargs)


@pytest.fixture
def api(tenants: Settings) -> Api:
    """Return the API over two tenants and two nodes."""
    return Api(tenants)
