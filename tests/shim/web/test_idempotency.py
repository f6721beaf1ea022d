"""Idempotency-Key: one request, however often it is sent, and nothing half done, wherever it breaks."""

import threading
from concurrent.futures import ThreadPoolExecutor

import falcon
import psycopg2
import pytest

from shim import db
from shim.cloudpods import accepting, create, resources
from shim.events.models import CloudPodEvent
from shim.jobs.queue import Wakeups
from shim.tenants.kept_answers import KeptAnswer
from shim.tenants.tokens import ApiToken

BODY = {"tenantId": "TENANT-123", "hostname": "client-portal", "cores": 2, "memoryMb": 2048}
OTHERS = {**BODY, "tenantId": "TENANT-456"}


def post(api, key, body=BODY, path="/internal/cloudpods", **headers):
    return api.simulate_post(path, json=body, headers={"Idempotency-Key": key, **headers})


def jobs(sql):
    return sql.value("SELECT count(*) FROM cloud_pod_jobs")


def test_the_same_request_again_is_answered_as_the_first_one_and_done_once(api, sql, settings):
    first, again = post(api, "k1"), post(api, "k1")
    assert first.status_code == again.status_code == 202
    assert again.text == first.text
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["content-type"] == first.headers["content-type"]
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert jobs(sql) == 1
    # Woken once, and only since the job is there.
    assert Wakeups(settings.redis_url).waiting("CREATE") == 1


def test_a_replay_names_its_own_request(api):
    first, again = post(api, "k1", **{"X-Request-Id": "r1"}), post(api, "k1", **{"X-Request-Id": "r2"})
    assert (first.headers["x-request-id"], again.headers["x-request-id"]) == ("r1", "r2")


def test_an_answer_outlives_the_api(api, api_on, settings, sql):
    first = post(api, "k1")
    restarted = api_on(settings)
    restarted.token = api.token
    assert post(restarted, "k1").text == first.text
    assert jobs(sql) == 1


def test_the_order_of_fields_is_no_difference(api, sql):
    first = post(api, "k1")
    assert post(api, "k1", dict(reversed(BODY.items()))).text == first.text
    assert jobs(sql) == 1


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({**BODY, "cores": 3}, "/internal/cloudpods"),
        ({**BODY, "more": 1}, "/internal/cloudpods"),
        (BODY, "/api/cloudpods"),
        (BODY, "/internal/cloudpods?dryRun=1"),
        (BODY, "/internal/cloudpods/9101/backup"),
    ],
)
def test_another_request_under_a_used_key_is_refused(api, sql, assert_problem, body, path):
    post(api, "k1")
    assert_problem(post(api, "k1", body, path), 422, "idempotency_key_reused")
    assert jobs(sql) == 1


def test_another_key_another_tenant_and_another_token_are_independent(api, api_on, settings, sql):
    other_token = api_on(settings)
    answers = [post(api, "k1"), post(api, "k2"), post(api, "k1", OTHERS), post(other_token, "k1")]
    assert [answer.status_code for answer in answers] == [202] * 4
    assert len({answer.json["job"]["id"] for answer in answers}) == jobs(sql) == 4


def test_without_a_key_each_request_is_done(api, sql):
    for _ in range(2):
        api.simulate_post("/internal/cloudpods", json=BODY)
    assert jobs(sql) == 2


@pytest.mark.parametrize("key", ["", "a b", "ä", "x" * 256, "a\tb"])
def test_a_key_that_is_none_is_refused(api, sql, assert_problem, key):
    assert_problem(post(api, key), 422, "invalid_request", field="Idempotency-Key")
    assert jobs(sql) == 0


@pytest.mark.parametrize("key", ["!", "~", "x" * 255, '"quoted"', "9f1c-4b"])
def test_any_visible_ascii_is_a_key(api, key):
    assert post(api, key).status_code == 202


def test_a_key_on_a_get_says_nothing(api, sql):
    for _ in range(2):
        answer = api.simulate_get("/internal/cloudpods", headers={"Idempotency-Key": "a b"})
        assert (answer.status_code, answer.headers.get("idempotency-replayed")) == (200, None)
    assert sql.value("SELECT count(*) FROM idempotency_keys") == 0


def test_a_refusal_is_answered_again_even_when_it_would_be_granted_now(api, rows, assert_problem):
    path = "/internal/cloudpods/9101/backup"
    first = post(api, "k1", {"tenantId": "TENANT-123"}, path)
    assert_problem(first, 404, "cloudpod_not_found")
    rows.pod(vmid=9101)
    again = post(api, "k1", {"tenantId": "TENANT-123"}, path)
    assert_problem(again, 404, "cloudpod_not_found")
    assert again.headers["idempotency-replayed"] == "true"


@pytest.mark.parametrize("body", [b"no json", b"", b"\xff\xfe"])
def test_a_body_that_is_no_json_is_refused_alike_with_a_key(api, body):
    headers = {"Idempotency-Key": "k1", "Content-Type": "application/json"}
    answers = [api.simulate_post("/internal/cloudpods", body=body, headers=headers) for _ in range(2)]
    plain = api.simulate_post("/internal/cloudpods", body=body, headers={"Content-Type": "application/json"})
    assert [answer.status_code for answer in answers] == [plain.status_code] * 2


def test_a_huge_body_is_refused_before_the_key_is_looked_at(api, sql, assert_problem):
    assert_problem(post(api, "k1", {**BODY, "reason": "x" * 70_000}), 413)
    assert sql.value("SELECT count(*) FROM idempotency_keys") == 0


def test_a_key_counts_for_a_day(api, sql):
    first = post(api, "k1").json["job"]["id"]
    sql("UPDATE idempotency_keys SET created_at = now() - interval '23 hours 59 minutes'")
    assert post(api, "k1").json["job"]["id"] == first
    sql("UPDATE idempotency_keys SET created_at = now() - interval '24 hours 1 second'")
    second = post(api, "k1", {**BODY, "cores": 1})
    assert (second.status_code, second.json["job"]["id"] != first) == (202, True)
    assert post(api, "k1", {**BODY, "cores": 1}).text == second.text


def test_old_keys_are_removed_and_young_ones_stay(api, sql):
    post(api, "old")
    sql("UPDATE idempotency_keys SET created_at = now() - interval '25 hours'")
    post(api, "young")
    with db.session():
        KeptAnswer.forget_old()
    assert sql.value("SELECT count(*) FROM idempotency_keys") == 1


def fault(*_, **__):
    raise RuntimeError("a fault in the middle")


# Where a request may break: before its job, after it, after its event, and while its answer is kept.
PLACES = [
    (create, "submit"),
    (CloudPodEvent, "record"),
    (accepting, "accept"),
    (KeptAnswer, "keep"),
]


@pytest.mark.parametrize(("owner", "name"), PLACES, ids=[name for _, name in PLACES])
def test_what_breaks_in_the_middle_leaves_nothing_and_the_key_free(
    api, sql, monkeypatch, assert_problem, settings, owner, name
):
    with monkeypatch.context() as broken:
        broken.setattr(owner, name, fault)
        assert_problem(post(api, "k1"), 500, "internal_error")
    assert {**sql.counts(), "keys": sql.value("SELECT count(*) FROM idempotency_keys")} == {
        "cloud_pods": 0,
        "cloud_pod_jobs": 0,
        "cloud_pod_events": 0,
        "cloud_pod_allocations": 0,
        "keys": 0,
    }
    assert Wakeups(settings.redis_url).waiting("CREATE") == 0
    again = post(api, "k1")
    assert (again.status_code, again.headers.get("idempotency-replayed"), jobs(sql)) == (202, None, 1)


def test_a_connection_that_breaks_in_the_middle_leaves_nothing_and_the_api_well(api, sql, monkeypatch):
    place = create.place

    def cut(*args, **kwargs):
        sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'cloudpods' AND state <> 'idle'")
        return place(*args, **kwargs)

    with monkeypatch.context() as broken:
        broken.setattr(create, "place", cut)
        assert post(api, "k1").status_code == 503
    assert jobs(sql) == sql.value("SELECT count(*) FROM idempotency_keys") == 0
    assert post(api, "k1").status_code == 202


@pytest.mark.parametrize("status", [falcon.HTTP_401, falcon.HTTP_403, falcon.HTTP_429, falcon.HTTP_503])
def test_what_passes_by_itself_is_not_kept(api, sql, monkeypatch, status):
    def refuse(*_, **__):
        raise falcon.HTTPError(status, title="no")

    with monkeypatch.context() as refusing:
        refusing.setattr(create, "create", refuse)
        assert post(api, "k1").status == status
    assert post(api, "k1").status_code == 202


def test_two_at_once_are_done_once_and_the_second_is_told(api, sql, monkeypatch, assert_problem):
    inside, go_on, place = threading.Event(), threading.Event(), create.place

    def slow(*args, **kwargs):
        inside.set()
        assert go_on.wait(10)
        return place(*args, **kwargs)

    monkeypatch.setattr(create, "place", slow)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(post, api, "k1")
        assert inside.wait(10)
        try:
            assert_problem(post(api, "k1"), 409, "idempotency_in_flight")
            # Whatever it asks: what became of the first is not known yet.
            assert_problem(post(api, "k1", {**BODY, "cores": 1}), 409, "idempotency_in_flight")
        finally:
            go_on.set()
    assert first.result().status_code == 202
    assert post(api, "k1").text == first.result().text
    assert jobs(sql) == 1


def test_many_at_once_make_one_job(api, sql):
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: post(api, "k1"), range(16)))
    assert {answer.status_code for answer in answers} <= {202, 409}
    assert len({answer.text for answer in answers if answer.status_code == 202}) == 1
    assert jobs(sql) == 1


def test_a_key_is_kept_neither_readable_nor_before_the_work_is_committed(api, sql, servers, monkeypatch):
    seen = []
    accept = accepting.accept

    def look(*args):
        with psycopg2.connect(servers.database_url) as other, other.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM idempotency_keys")
            seen.extend(cursor.fetchone())
        other.close()
        accept(*args)

    monkeypatch.setattr(accepting, "accept", look)
    post(api, "a-secret-of-the-client")
    assert seen == [0]
    assert "a-secret-of-the-client" not in str(sql("SELECT * FROM idempotency_keys"))


def test_an_answer_that_holds_a_secret_is_not_kept(api, sql, monkeypatch, assert_problem):
    monkeypatch.setattr(resources.CloudPods, "answers_secret", True, raising=False)
    first = post(api, "k1")
    assert first.status_code == 202
    assert_problem(post(api, "k1"), 409, "idempotency_answer_not_kept")
    assert first.json["job"]["id"] not in str(sql("SELECT * FROM idempotency_keys WHERE text IS NOT NULL"))
    assert jobs(sql) == 1


def test_a_revoked_token_is_answered_nothing(api, sql, assert_problem):
    post(api, "k1")
    sql("UPDATE api_tokens SET revoked_at = now()")
    assert_problem(post(api, "k1"), 401)
    with db.session():
        api.token = ApiToken.issue("another").secret
    assert post(api, "k1").status_code == 202
    assert jobs(sql) == 2
