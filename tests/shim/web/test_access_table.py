"""Every route, by everyone who may not call it: the table is `app.routes` itself, so a new route is tried without a line here.

What a new route may need here:

- a path parameter of a new name: a line in `_objects`, with a real object of TENANT-123;
- a query parameter that names a tenant's object: the same, under that parameter's name;
- a body that passes the route's model: a line in `BODIES`. Without it a stranger's 422 is as good as a 404.

The other tenant's user must not learn of any of it: `MARKS` stand in TENANT-123's rows and in no request.
"""

import falcon.testing
import pytest
from psycopg2.extras import Json

from shim import app, db
from shim.caller import PERMISSIONS
from shim.jobs.queue import Wakeups
from shim.tenants.tokens import ApiToken, Bound
from shim.web import operation

TENANT, OTHER = "TENANT-123", "TENANT-456"
USERS = ("owner", "admin", "dev", "billing")
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
MARKS = ("marked-host", "10.9.8.7", "marked-event", "marked-result", "marked-archive", "marked-error")

POD = {"hostname": "mine", "cores": 1, "memoryMb": 512}
BODIES = {
    "POST /jobs/{job_id}/retry": {},
    "POST /blueprints/{slug}/deploy": {"tenantId": TENANT},
    "POST /cloudpods": {**POD, "tenantId": TENANT},
    "POST /deployments/{deployment_id}/retry": {},
    "POST /cloudpods/{reference}/actions": {"action": "backup"},
    "POST /cloudpods/{reference}/backup": {"tenantId": TENANT},
    "POST /cloudpods/{reference}/destroy": {"tenantId": TENANT},
    "POST /cloudpods/{reference}/restore": {"tenantId": TENANT, "force": True},
    "POST /cloudpods/{reference}/restore-drill": {"tenantId": TENANT},
    "POST /cloudpods/{reference}/scale": {"tenantId": TENANT, "newCores": 3, "newMemoryMb": 4096},
    "POST /cloudpods/{reference}/snapshots": {"tenantId": TENANT, "name": "mine"},
    "POST /cloudpods/{reference}/snapshots/{name}/rollback": {"tenantId": TENANT},
}
QUERIES = {"DELETE /cloudpods/{reference}/snapshots/{name}": {"tenantId": TENANT}}


class Table:
    """The routes that need a token, and how to call each with objects of TENANT-123."""

    def __init__(self, settings, objects):
        self._objects = objects
        self.routes = [
            (method, path, operation.of(resource, method))
            for path, resource in app.routes(settings, Wakeups(settings.redis_url)).items()
            # /api leads to the same resources: test_access.py.
            if path.startswith("/internal") and not getattr(resource, "public", False)
            for method in METHODS
            if hasattr(resource, f"on_{method.lower()}")
        ]

    def call(self, api, method, path, headers, **query):
        """Send a request that is right in all but who sends it."""
        known = f"{method} {path.removeprefix('/internal')}"
        json = BODIES.get(known, {"tenantId": TENANT}) if method in ("POST", "PUT", "PATCH") else None
        params = {**QUERIES.get(known, {}), **query}
        return api.simulate_request(method, self.filled(path), headers=headers, json=json, params=params)

    def filled(self, path):
        """Return the path with its parameters."""
        try:
            return path.format(**self._objects)
        except KeyError as unknown:
            pytest.fail(f"{path}: no object for the path parameter {unknown}: add one of {TENANT} to _objects in {__file__}")

    def filters(self, declared):
        """Return the query parameters of a list that name an object of TENANT-123."""
        fields = declared.query.model_fields if declared and declared.query else {}
        return {field.alias or name: self._objects[name] for name, field in fields.items() if name in self._objects}


def _objects(rows, sql, token):
    """Make one of everything for TENANT-123; return what names it, by the parameters' names."""
    pod = rows.pod(vmid=9101, hostname="marked-host", ip="10.9.8.7", error="marked-error")
    backup = rows.backup(pod, volid="marked-archive")
    job = rows.job("BACKUP", pod=pod, status="success", result=Json({"said": "marked-result"}), error="marked-error")
    about = "INSERT INTO cloud_pod_events (tenant_id, cloud_pod_id, job_id, type, message) VALUES (%s, %s, %s, 'INFO', %s)"
    sql(about, TENANT, pod, job, "marked-event")
    sql("INSERT INTO cloud_pod_snapshots (cloud_pod_id, name, status) VALUES (%s, 'before', 'ready')", pod)
    deployment = _deployment(sql)
    user = sql.value("SELECT owner_user_id FROM tenants WHERE id = %s", TENANT)
    return {
        "reference": "9101",
        "cloud_pod_id": pod,
        "backup_id": backup,
        "name": "before",
        "job_id": job,
        "tenant_id": TENANT,
        # These are the site's own; no tenant's user may ask for them at all.
        "node": "lab1",
        "node_id": rows.node_id(),
        "user_id": user,
        "owner_user_id": user,
        "plan_id": "cloud-basic",
        "region": "migra-us-east-1",
        "region_id": "migra-us-east-1",
        "token_id": token,
        "batch_id": "no-such-batch",
        # Blueprints are everybody's: to see one tells nothing of a tenant.
        "slug": "no-such-blueprint",
        "deployment_id": deployment,
        "pool": "lab1-pool",
        "report_id": "no-such-report",
    }


def _deployment(sql):
    """Make an active deployment of TENANT-123 without pods; return its id."""
    spec = Json({"version": 1, "resources": []})
    blueprint = sql.value("INSERT INTO blueprints (name, slug, spec) VALUES ('B', 'b', %s) RETURNING id", spec)
    return sql.value(
        "INSERT INTO blueprint_deployments (blueprint_id, tenant_id, status, spec, error, secrets)"
        " VALUES (%s, %s, 'active', %s, 'marked-error', %s) RETURNING id",
        blueprint,
        TENANT,
        spec,
        Json({"password": "marked-result"}),
    )


@pytest.fixture
def token(api):
    """Return the id of a token bound to TENANT-123 that nobody uses."""
    with db.session():
        return ApiToken.issue("theirs", Bound(TENANT, "owner", "user-9")).token.id


@pytest.fixture
def table(tenants, rows, sql, token):
    """Return the table of routes, over one of everything."""
    return Table(tenants, _objects(rows, sql, token))


@pytest.fixture
def written(sql):
    """Return a way to count the rows of every table."""
    names = [name for (name,) in sql("SELECT tablename FROM pg_tables WHERE schemaname IN ('public', 'cloudpods')")]
    return lambda: {name: sql.value(f"SELECT count(*) FROM {name}") for name in names}


def leaks(answer):
    return [mark for mark in MARKS if mark in answer.text]


NOBODY = {
    "no header": {},
    "no token": {"Authorization": "Bearer"},
    "another scheme": {"Authorization": "Basic dTpw"},
    "two words": {"Authorization": "Bearer cpods_a b"},
    "unknown": {"Authorization": "Bearer cpods_unknown"},
    "a JWT where none is taken": {"Authorization": "Bearer eyJhbGciOiJub25lIn0.e30."},
}


@pytest.mark.parametrize("headers", NOBODY.values(), ids=NOBODY)
def test_nobody_may_call_any_route(api, tenants, table, written, headers):
    client, before = falcon.testing.TestClient(api.app), written()
    answers = {f"{m} {p}": table.call(client, m, p, headers) for m, p, _ in table.routes}
    assert {route: a.status_code for route, a in answers.items() if a.status_code != 401} == {}
    assert {route: a.headers.get("www-authenticate") for route, a in answers.items()} == dict.fromkeys(answers, "Bearer")
    assert written() == before


SPOILT = {
    "expired": "UPDATE api_tokens SET expires_at = now() - interval '1 s'",
    "revoked": "UPDATE api_tokens SET revoked_at = now()",
    "tenant deleted": "UPDATE tenants SET deleted_at = now()",
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_no_route_takes_a_users_token_that_was_good_once(api, table, written, sql, spoil):
    headers = api.as_user("owner")
    assert api.simulate_get("/internal/cloudpods/9101", headers=headers).status_code == 200
    sql(spoil)
    before = written()
    answers = {f"{m} {p}": table.call(api, m, p, headers).status_code for m, p, _ in table.routes}
    assert answers == dict.fromkeys(answers, 401)
    assert written() == before


@pytest.mark.parametrize("role", USERS)
def test_another_tenants_user_learns_and_changes_nothing(api, table, written, role):
    headers = api.as_user(role, OTHER, "mallory")
    before = written()
    wrong = {}
    for method, path, declared in table.routes:
        answer = table.call(api, method, path, headers)
        allowed = declared.permission is None or declared.permission in PERMISSIONS[role]
        expected = _stranger(method, path) if allowed else {403}
        if answer.status_code not in expected or leaks(answer):
            wrong[f"{method} {path}"] = (answer.status_code, leaks(answer), answer.text)
    assert wrong == {}
    assert written() == before


def _stranger(method, path):
    """Return the statuses that may be told to who may call the route, but not see the object."""
    known = f"{method} {path.removeprefix('/internal')}"
    if method == "GET":
        return {404} if "{" in path else {200}
    return {404} if known in BODIES or known in QUERIES else {404, 422}


def test_another_tenants_filters_and_cursors_show_nothing(api, table):
    headers = api.as_user("owner", OTHER, "mallory")
    wrong, tried = {}, []
    for method, path, declared in table.routes:
        if method != "GET" or "{" in path or declared.permission == "manage":
            continue
        for name, value in table.filters(declared).items():
            tried.append(name)
            answer = table.call(api, method, path, headers, **{name: value})
            if answer.status_code not in (200, 404, 422) or leaks(answer):
                wrong[f"{path}?{name}={value}"] = (answer.status_code, leaks(answer))
        # The cursor of a list of all is no way around the tenant.
        cursor = (api.simulate_get(path, params={"limit": 1}).json or {}).get("next")
        if cursor and leaks(table.call(api, method, path, headers, cursor=cursor)):
            wrong[f"{path}?cursor"] = "leaks"
    assert wrong == {}
    assert {"tenantId", "cloudPodId", "jobId"} <= set(tried)


@pytest.mark.parametrize("role", [*USERS, "service"])
def test_a_role_may_do_what_its_permissions_say_and_nothing_else(api, table, written, role):
    headers = None if role == "service" else api.as_user(role)
    wrong = {}
    for method, path, declared in table.routes:
        before = written()
        status = table.call(api, method, path, headers).status_code
        allowed = declared.permission is None or declared.permission in PERMISSIONS[role]
        if (status == 403) == allowed or status == 401 or status >= 500 or (not allowed and written() != before):
            wrong[f"{method} {path}"] = status
    assert wrong == {}


def test_the_objects_of_the_table_are_there_for_their_own_tenant(api, table):
    """Without this a stranger's 404 would prove nothing."""
    answers = [
        table.call(api, method, path, api.as_user("owner"))
        for method, path, declared in table.routes
        if method == "GET"
        and "{" in path
        and declared.permission == "pods:read"
        # What `_objects` names only as missing.
        and "batch" not in path
        and "blueprint" not in path
    ]
    assert {answer.status_code for answer in answers} == {200}
    assert {mark for answer in answers for mark in leaks(answer)} >= {"marked-host", "marked-event", "marked-result"}


def test_billing_reads_the_quota_and_no_pod(api, table):
    headers = api.as_user("billing")
    assert api.simulate_get(f"/internal/tenants/{TENANT}/quota", headers=headers).status_code == 200
    for path in ("/cloudpods", "/cloudpods/9101", "/cloudpods/9101/health", f"/tenants/{TENANT}/cloudpods", "/events"):
        assert api.simulate_get(f"/internal{path}", headers=headers).status_code == 403


def test_to_refresh_a_pods_health_is_a_permission_of_its_own(api, table, monkeypatch, sql):
    path = "/internal/cloudpods/9101/health"
    dev = api.as_user("dev")
    assert api.simulate_get(path, headers=dev, params={"refresh": "1"}).status_code == 200
    assert sql.value("SELECT requested_by FROM cloud_pod_jobs WHERE type = 'HEALTH_CHECK'") == "user-1"
    monkeypatch.setitem(PERMISSIONS, "dev", PERMISSIONS["dev"] - {"health:refresh"})
    assert api.simulate_get(path, headers=dev).status_code == 200
    assert api.simulate_get(path, headers=dev, params={"refresh": "1"}).status_code == 403
    assert sql.value("SELECT count(*) FROM cloud_pod_jobs WHERE type = 'HEALTH_CHECK'") == 1


def test_a_user_orders_in_no_name_but_its_own(api, table, sql, assert_problem):
    headers = api.as_user("admin", user="anna@example.com")
    body = {"tenantId": TENANT, "requestedBy": "somebody-else"}
    answer = api.simulate_post("/internal/cloudpods/9101/backup", json=body, headers=headers)
    job = answer.json["job"]
    assert (job["requestedBy"], job["payload"]["requestedBy"]) == ("anna@example.com", "anna@example.com")
    assert sql("SELECT DISTINCT actor FROM cloud_pod_events WHERE job_id = %s", job["id"]) == [("anna@example.com",)]
    named = api.simulate_post("/internal/cloudpods/9101/backup", json=body, headers={**headers, "X-Acting-User": "bob"})
    assert_problem(named, 403, "forbidden")
