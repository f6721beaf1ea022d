"""Who is believed, who is told what: addresses, request ids, actors, faults, and the token of the figures."""

import json

import pytest

from shim import faults

POD = {"tenantId": "TENANT-123", "hostname": "client-portal", "cores": 1, "memoryMb": 64}
METRICS = "m" * 40


@pytest.fixture
def bound(api):
    """Return a way to make a user's token: its headers."""

    def make(role="owner", tenant="TENANT-123", user="anna"):
        wanted = {"name": role, "tenantId": tenant, "role": role, "userId": user}
        return {"Authorization": f"Bearer {api.simulate_post('/internal/tokens', json=wanted).json['secret']}"}

    return make


def last_event(sql, column):
    return sql.value(f"SELECT {column} FROM cloud_pod_events ORDER BY seq DESC LIMIT 1")


@pytest.mark.parametrize(
    ("trusted", "said", "expected"),
    [
        ("", "203.0.113.9", "127.0.0.1"),
        ("10.0.0.0/8", "203.0.113.9", "127.0.0.1"),
        ("127.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("127.0.0.1", "1.2.3.4, 203.0.113.9", "203.0.113.9"),
        ("127.0.0.1, 10.0.0.0/8", "1.2.3.4, 203.0.113.9, 10.1.2.3", "203.0.113.9"),
        ("127.0.0.1,2001:db8::/32", "203.0.113.9,2001:db8::1", "203.0.113.9"),
        ("127.0.0.1", "nonsense", "127.0.0.1"),
        ("127.0.0.1", "", "127.0.0.1"),
    ],
)
def test_only_a_trusted_proxy_says_where_a_request_comes_from(api_on, tenants, sql, trusted, said, expected):
    settings = type(tenants).model_validate({**tenants.model_dump(), "trusted_proxies": trusted})
    api = api_on(settings)
    answer = api.simulate_post("/internal/users", json={"email": "e@example.org"}, headers={"X-Forwarded-For": said})
    assert answer.status_code == 201
    assert last_event(sql, "remote_addr") == expected


def test_a_service_names_its_requests_and_a_user_does_not(api, bound):
    named = {"X-Request-Id": "mine-1"}
    assert api.simulate_get("/internal/cloudpods", headers=named).headers["x-request-id"] == "mine-1"
    assert api.simulate_get("/internal/cloudpods", headers={**bound(), **named}).headers["x-request-id"] != "mine-1"
    assert api.simulate_get("/healthz", headers=named).headers["x-request-id"] != "mine-1"


def test_a_service_without_an_acting_user_is_the_actor_by_its_name(api, sql):
    api.simulate_post("/internal/users", json={"email": "f@example.org"})
    assert last_event(sql, "actor") == "service:test"


def test_a_user_reads_no_inside_of_the_house(api, bound, rows, sql):
    said = "node lab1: /usr/local/sbin/cloudpods-create: No such file or directory"
    failure = {"msg": said, "retryable": False, "left_behind": "nothing", "rc": 127, "stderr": "root@10.0.0.1"}
    job = api.simulate_post("/internal/cloudpods", json=POD).json["job"]["id"]
    sql("UPDATE cloud_pod_jobs SET status = 'failed', error = %s, failure = %s WHERE id = %s", said, json.dumps(failure), job)
    sql("UPDATE cloud_pods SET error = %s", said)
    sql(
        "INSERT INTO cloud_pod_events (tenant_id, job_id, type, message) VALUES ('TENANT-123', %s, 'WARN', %s)",
        job,
        f"CREATE failed: {said}",
    )
    user = bound("dev")
    read = api.simulate_get(f"/internal/jobs/{job}", headers=user).json
    assert (read["error"], read["failure"]["code"]) == (faults.TOLD, faults.CODE)
    pods = api.simulate_get("/internal/cloudpods", headers=user).json["items"]
    events = api.simulate_get("/internal/events", headers=user).json["items"]
    assert f"CREATE failed: {faults.TOLD}" in [event["message"] for event in events]
    for shown in (read, pods, events):
        assert "sbin" not in json.dumps(shown)
        assert "root@" not in json.dumps(shown)
    assert api.simulate_get(f"/internal/jobs/{job}").json["failure"] == failure


def test_what_is_left_is_told_a_user_without_the_inside_of_the_house(api, bound, sql):
    """Of a job that was cancelled while its node did not answer, ssh's words are what is known."""
    said = "unknown: nobody knows yet what became of vmid 9101: cannot reach node lab1: ssh: connect to host 10.0.0.5 port 22"
    failure = {"msg": "cancelled by anna", "retryable": False, "left_behind": said, "cancelled": True, "by": "anna"}
    job = api.simulate_post("/internal/cloudpods", json=POD).json["job"]["id"]
    sql("UPDATE cloud_pods SET status = 'failed'")
    sql("UPDATE cloud_pod_jobs SET status = 'cancelled', failure = %s WHERE id = %s", json.dumps(failure), job)
    sql(
        "INSERT INTO cloud_pod_events (tenant_id, job_id, type, message, data) VALUES ('TENANT-123', %s, 'WARN', 'x', %s)",
        job,
        json.dumps({"action": "CREATE_CANCELLED", "leftBehind": said}),
    )
    user = bound("owner")
    read = api.simulate_get(f"/internal/jobs/{job}", headers=user).json
    events = api.simulate_get("/internal/events", headers=user).json["items"]
    refused = api.simulate_post(f"/internal/jobs/{job}/retry", headers=user).json
    assert (read["failure"]["left_behind"], refused["code"], refused["leftBehind"]) == ("unknown", "left_behind", "unknown")
    for shown in (read, events, refused):
        assert "10.0.0.5" not in json.dumps(shown)
    assert api.simulate_get(f"/internal/jobs/{job}").json["failure"] == failure


def test_what_concerns_the_pod_is_told_to_its_tenant():
    said = "node lab1: the disk cannot shrink from 20 to 10 GB"
    assert faults.text(said) == said
    assert faults.text(None) is None


def test_a_tenant_sees_the_tokens_and_addresses_of_its_own_users_only(api, bound):
    user = bound("owner")
    api.simulate_post("/internal/cloudpods", json=POD)
    api.simulate_post("/internal/cloudpods", json=POD, headers=user)
    by_service = {event["actor"] for event in api.simulate_get("/internal/events").json["items"] if event["remoteAddr"]}
    assert {"service:test", "anna"} <= by_service
    shown = api.simulate_get("/internal/events", headers=user).json["items"]
    assert {event["actor"] for event in shown if event["remoteAddr"] or event["tokenId"]} == {"anna"}


def test_a_token_for_the_figures_reads_the_figures_only(api_on, tenants):
    api = api_on(tenants.model_copy(update={"metrics_token": METRICS}))
    headers = {"Authorization": f"Bearer {METRICS}"}
    assert api.simulate_get("/metrics", headers=headers).status_code == 200
    assert api.simulate_get("/metrics", headers={"Authorization": f"Bearer {METRICS[1:]}"}).status_code == 401
    assert api.simulate_get("/internal/cloudpods", headers=headers).status_code == 403
    assert api.simulate_post("/internal/tokens", json={"name": "x"}, headers=headers).status_code == 403


def test_a_key_sent_again_for_another_user_is_another_request(api, assert_problem):
    key = {"Idempotency-Key": "k1"}
    assert api.simulate_post("/internal/cloudpods", json=POD, headers={**key, "X-Acting-User": "anna"}).status_code == 202
    again = api.simulate_post("/internal/cloudpods", json=POD, headers={**key, "X-Acting-User": "berta"})
    assert_problem(again, 422, "idempotency_key_reused")


def test_a_refusal_for_a_header_is_not_kept(api):
    key, body = {"Idempotency-Key": "k2"}, json.dumps(POD)
    refused = api.simulate_post("/internal/cloudpods", body=body, headers={**key, "Content-Type": "text/plain"})
    assert refused.status_code == 415
    taken = api.simulate_post("/internal/cloudpods", body=body, headers={**key, "Content-Type": "application/json"})
    assert taken.status_code == 202


def test_what_a_deleted_tenant_had_stays_readable_for_services(api, sql):
    sql("UPDATE tenants SET deleted_at = now() WHERE id = 'TENANT-456'")
    for path in ("/internal/jobs", "/internal/cloudpods"):
        assert api.simulate_get(path, params={"tenantId": "TENANT-456"}).status_code == 200
        assert api.simulate_get(path, params={"tenantId": "nobody"}).status_code == 404


def test_a_demoted_users_tokens_are_revoked_and_so_are_a_deleted_ones(api, bound, sql):
    api.simulate_post("/internal/users", json={"id": "anna", "email": "anna@example.org", "role": "owner"})
    high, low = bound("owner"), bound("dev")
    assert api.simulate_put("/internal/users/anna", json={"role": "dev"}).status_code == 200
    assert [api.simulate_get("/internal/cloudpods", headers=headers).status_code for headers in (high, low)] == [401, 200]
    assert api.simulate_delete("/internal/users/anna").status_code == 204
    assert api.simulate_get("/internal/cloudpods", headers=low).status_code == 401
    assert sql.value("SELECT count(*) FROM cloud_pod_events WHERE data ->> 'action' = 'TOKEN_REVOKED'") == 2
