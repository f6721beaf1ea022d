"""Who may ask: every route of the table needs a live token, but for those that say they are public."""

import falcon.testing
import pytest

from shim import app, db
from shim.jobs.queue import Wakeups
from shim.tenants.tokens import ApiToken

PUBLIC = {"/", "/healthz", "/docs", "/redoc", "/openapi.json"}
EXPECTED = {
    "/cloudpods": ["GET", "POST"],
    "/cloudpods/{reference}": ["GET", "PUT"],
    "/cloudpods/{reference}/actions": ["POST"],
    "/cloudpods/{reference}/backup": ["POST"],
    "/cloudpods/{reference}/destroy": ["POST"],
    "/cloudpods/{reference}/health": ["GET"],
    "/cloudpods/{reference}/scale": ["POST"],
    "/cloudpods/{reference}/snapshots": ["GET", "POST"],
    "/cloudpods/{reference}/backups": ["GET"],
    "/cloudpods/{reference}/restore": ["POST"],
    "/cloudpods/{reference}/restore-drill": ["POST"],
    "/cloudpods/{reference}/snapshots/{name}": ["DELETE"],
    "/cloudpods/{reference}/snapshots/{name}/rollback": ["POST"],
    "/tenants/{tenant_id}/cloudpods": ["GET"],
    "/tenants": ["GET", "POST"],
    "/tenants/{tenant_id}": ["GET", "PUT", "DELETE"],
    "/tenants/{tenant_id}/quota": ["GET", "PUT"],
    "/tenants/{tenant_id}/usage": ["GET"],
    "/users": ["GET", "POST"],
    "/users/{user_id}": ["GET", "PUT", "DELETE"],
    "/plans": ["GET", "POST"],
    "/plans/{plan_id}": ["GET", "PUT", "DELETE"],
    "/nodes/{node}/foreign": ["GET"],
    "/nodes/{node}/adopt": ["POST"],
    "/nodes/{node}/reconcile": ["POST"],
    "/nodes/{node}/sync": ["POST"],
    "/drift": ["GET"],
    "/tokens": ["GET", "POST"],
    "/tokens/{token_id}": ["GET", "DELETE"],
    "/cloudpods/bulk": ["POST"],
    "/batches/{batch_id}": ["GET"],
    "/batches/{batch_id}/jobs": ["GET"],
    "/jobs": ["GET"],
    "/jobs/{job_id}": ["GET"],
    "/jobs/{job_id}/cancel": ["POST"],
    "/jobs/{job_id}/log": ["GET"],
    "/jobs/{job_id}/retry": ["POST"],
    "/jobs/{job_id}/events": ["GET"],
    "/cloudpods/{reference}/events": ["GET"],
    "/tenants/{tenant_id}/events": ["GET"],
    "/events": ["GET"],
    "/nodes": ["GET", "POST"],
    "/nodes/{node}": ["GET", "PUT", "DELETE"],
    "/nodes/{node}/cordon": ["POST"],
    "/nodes/{node}/uncordon": ["POST"],
    "/nodes/{node}/drain": ["POST"],
    "/address-pools": ["GET", "POST"],
    "/address-pools/{pool}": ["GET", "PUT", "DELETE"],
    "/blueprints": ["GET", "POST"],
    "/blueprints/{slug}": ["GET", "PUT", "DELETE"],
    "/blueprints/{slug}/deploy": ["POST"],
    "/deployments": ["GET"],
    "/deployments/{deployment_id}": ["GET", "DELETE"],
    "/deployments/{deployment_id}/retry": ["POST"],
    "/regions": ["GET"],
    "/regions/{region}": ["GET", "PUT"],
}
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


def table(settings):
    return app.routes(settings, Wakeups(settings.redis_url))


def methods(resource):
    return [method for method in METHODS if hasattr(resource, f"on_{method.lower()}")]


def filled(path):
    ids = {
        "batch_id": "no-such-batch",
        "job_id": "no-such-job",
        "user_id": "no-such-user",
        "plan_id": "no-such-plan",
        "token_id": "no-such-token",
        "pool": "no-such-pool",
        "region": "no-such-region",
        "slug": "no-such-blueprint",
        "deployment_id": "no-such-deployment",
    }
    return path.format(reference="9101", tenant_id="TENANT-123", name="before", node="lab1", **ids)


def walk(settings):
    """Return (method, path) of everything that needs a token."""
    routes = table(settings).items()
    return [(method, filled(path)) for path, resource in routes if path not in PUBLIC for method in methods(resource)]


def test_the_routes_are_the_seeds_under_both_prefixes(settings):
    expected = {prefix + path: verbs for prefix in ("/internal", "/api") for path, verbs in EXPECTED.items()}
    # Prometheus's own convention.
    expected["/metrics"] = ["GET"]
    assert {path: methods(resource) for path, resource in table(settings).items() if path not in PUBLIC} == expected


def test_both_prefixes_lead_to_one_resource(settings):
    routes = table(settings)
    assert all(routes[f"/internal{path}"] is routes[f"/api{path}"] for path in EXPECTED)


def test_only_the_probes_and_the_documents_are_public(settings):
    assert {path for path, resource in table(settings).items() if getattr(resource, "public", False)} == PUBLIC


HEADERS = {
    "none": None,
    "empty": "",
    "no scheme": "cpods_abc",
    "another scheme": "Basic cGFuZWw6cGFuZWw=",
    "scheme alone": "Bearer",
    "blank token": "Bearer   ",
    "unknown token": "Bearer cpods_unknown",
    "not ASCII": "Bearer \xff\xfe",
    "long": "Bearer " + "a" * 10000,
    "SQL": "Bearer ' OR 1=1 --",
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_every_route_refuses_a_request_without_a_good_token(tenants, rows, sql, assert_problem, header):
    rows.pod(vmid=9101)
    before = sql.counts()
    client = falcon.testing.TestClient(app.create(tenants))
    for method, path in walk(tenants):
        headers = {} if header is None else {"Authorization": header}
        body = {"tenantId": "TENANT-123", "action": "backup"} if method == "POST" else None
        answer = client.simulate_request(method, path, headers=headers, json=body)
        assert_problem(answer, 401, "unauthenticated")
    assert sql.counts() == before


@pytest.mark.parametrize(
    "spoil",
    ["expires_at = now()", "expires_at = now() - interval '1 s'", "revoked_at = now()", "token_hash = 'x'"],
)
def test_every_route_refuses_a_token_that_was_good_once(api, settings, sql, assert_problem, spoil):
    assert api.simulate_get("/api/jobs/x").status_code == 404
    sql(f"UPDATE api_tokens SET {spoil}")
    for method, path in walk(settings):
        assert_problem(api.simulate_request(method, path), 401, "unauthenticated")


def test_a_token_is_good_until_it_expires(api, sql):
    sql("UPDATE api_tokens SET expires_at = now() + interval '1 hour'")
    assert api.simulate_get("/api/jobs/x").status_code == 404


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_schemes_case_does_not_matter(api, scheme):
    assert api.simulate_get("/api/jobs/x", headers={"Authorization": f"{scheme} {api.token}"}).status_code == 404


def test_a_token_is_stored_as_its_hash_only(session, sql):
    secret = ApiToken.issue("panel").secret
    assert secret.startswith("cpods_")
    stored = sql("SELECT id, name, kind, token_hash FROM api_tokens WHERE name = 'panel'")
    assert secret.removeprefix("cpods_") not in str(stored)
    found = ApiToken.holder(secret)
    assert (found.token_id, found.name, found.role, found.tenant_id) == (stored[0][0], "panel", "service", None)


def test_two_tokens_are_two_secrets(session):
    assert ApiToken.issue("panel").secret != ApiToken.issue("panel").secret


def test_a_wrong_method_is_answered_with_those_that_exist(api, settings, assert_problem):
    for path, resource in table(settings).items():
        for method in set(METHODS) - set(methods(resource)):
            answer = api.simulate_request(method, filled(path))
            assert_problem(answer, 405, "method_not_allowed")
            assert methods(resource)[0] in answer.headers["allow"]


@pytest.mark.parametrize("path", ["/nowhere", "/internal", "/internal/", "/internal/cloudpods/9101/reboot", "/%00", "/%ff"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_unknown_route_is_a_problem_of_its_own(api, assert_problem, path, method):
    assert_problem(api.simulate_request(method, path), 404, "not_found")


def test_a_method_that_http_does_not_know_is_a_problem(api, assert_problem):
    environ = {**falcon.testing.create_environ("/api/jobs/x"), "REQUEST_METHOD": "BREW"}
    started = falcon.testing.StartResponseMock()
    text = b"".join(api.app(environ, started))
    answer = falcon.testing.Result([text], started.status, started.headers)
    assert_problem(answer, answer.status_code)
    assert 400 <= answer.status_code < 500


def test_the_root_says_what_this_is_without_a_token(tenants):
    answer = falcon.testing.TestClient(app.create(tenants)).simulate_get("/")
    assert (answer.status_code, answer.json["name"]) == (200, "CloudPods")


def test_healthz_tells_ok_without_a_token(tenants):
    answer = falcon.testing.TestClient(app.create(tenants)).simulate_get("/healthz")
    assert (answer.status_code, answer.json) == (200, {"status": "ok", "database": True, "redis": True})


def test_healthz_is_degraded_without_redis(tenants):
    settings = tenants.model_copy(update={"redis_url": "unix:///nowhere/redis.sock"})
    answer = falcon.testing.TestClient(app.create(settings)).simulate_get("/healthz")
    assert (answer.status_code, answer.json["status"]) == (200, "degraded")


def test_healthz_is_down_without_the_database(tenants):
    settings = tenants.model_copy(update={"database_url": "postgresql://nobody@/none?host=/nowhere"})
    answer = falcon.testing.TestClient(app.create(settings)).simulate_get("/healthz")
    assert (answer.status_code, answer.json["status"]) == (503, "down")


def test_without_the_database_a_request_is_told_to_come_again(tenants, assert_problem):
    settings = tenants.model_copy(update={"database_url": "postgresql://nobody@/none?host=/nowhere"})
    client = falcon.testing.TestClient(app.create(settings))
    answer = client.simulate_get("/api/jobs/x", headers={"Authorization": "Bearer x"})
    assert_problem(answer, 503, "database_unavailable")
    assert answer.headers["retry-after"] == "5"


def test_a_database_that_was_restarted_is_found_again(api, sql, eventually):
    assert api.simulate_get("/api/jobs/x").status_code == 404
    sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'cloudpods'")

    def found():
        status = api.simulate_get("/api/jobs/x").status_code
        assert status in (404, 503)
        return status == 404

    eventually(found)


def test_many_requests_at_once_share_few_connections(api_on, tenants, sql):
    from concurrent.futures import ThreadPoolExecutor

    api = api_on(tenants.model_copy(update={"api_threads": 4}))
    with ThreadPoolExecutor(4) as pool:
        statuses = list(pool.map(lambda _: api.simulate_get("/api/jobs/x").status_code, range(80)))
    assert set(statuses) == {404}
    assert sql.value("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'cloudpods'") <= 5
    db.database.close_all()
