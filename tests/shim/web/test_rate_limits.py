"""How often a tenant may have pods made and destroyed. Every limit is per hour, so that no window ends while a test runs."""

import logging
from pathlib import Path

import pytest

from shim import redis_link
from shim.errors import Invalid, RateLimited
from shim.jobs.models import CloudPodJob
from shim.web.rate_limit import RateLimits

POD = {"tenantId": "TENANT-123", "hostname": "client-portal", "cores": 1, "memoryMb": 512}
OTHERS = {**POD, "tenantId": "TENANT-456", "node": "lab2"}


@pytest.fixture
def limited(tenants):
    """Return settings with three pods an hour to be made, and one to be destroyed."""
    return tenants.model_copy(update={"rate_create": "3/hour", "rate_destroy": "1/hour"})


@pytest.fixture
def api(api_on, limited):
    """Return the API under these limits."""
    return api_on(limited)


def create(api, body=POD, **kwargs):
    return api.simulate_post("/internal/cloudpods", json=body, **kwargs)


def refused(assert_problem, answer):
    assert_problem(answer, 429, "rate_limited")
    assert 3000 < int(answer.headers["retry-after"]) <= 3600
    return True


def test_what_is_over_the_limit_is_refused_and_writes_nothing(api, sql, assert_problem):
    assert [create(api).status_code for _ in range(3)] == [202] * 3
    before = sql.counts()
    assert refused(assert_problem, create(api))
    assert sql.counts() == before


def test_one_tenants_limit_is_not_anothers_though_one_service_asks_for_both(api, assert_problem):
    for _ in range(3):
        create(api)
    assert refused(assert_problem, create(api))
    assert create(api, OTHERS).status_code == 202


def test_a_tenants_tokens_share_its_limit(api, assert_problem):
    for headers in (api.as_user("owner"), api.as_user("admin", user="user-2"), None):
        assert create(api, headers=headers).status_code == 202
    assert refused(assert_problem, create(api))


def test_a_user_who_names_another_tenant_uses_up_its_own_share(api):
    mallory = api.as_user("owner", "TENANT-456", "mallory")
    for _ in range(4):
        assert create(api, headers=mallory).status_code in (404, 429)
    assert create(api).status_code == 202


def test_processes_count_together(api, api_on, limited, assert_problem):
    another = api_on(limited)
    for each in (api, another, api):
        assert create(each).status_code == 202
    assert refused(assert_problem, create(another))


def test_a_body_that_breaks_a_rule_does_not_count(api):
    assert [create(api, {**POD, "cores": 0}).status_code for _ in range(5)] == [422] * 5
    assert create(api).status_code == 202


def test_a_replay_does_not_count(api, sql):
    answers = [create(api, headers={"Idempotency-Key": "k1"}) for _ in range(6)]
    assert {answer.status_code for answer in answers} == {202}
    assert sql.value("SELECT count(*) FROM cloud_pods") == 1


def test_a_refusal_is_not_kept_with_its_idempotency_key(api, api_on, tenants):
    for _ in range(3):
        create(api)
    assert create(api, headers={"Idempotency-Key": "k1"}).status_code == 429
    unlimited = api_on(tenants)
    unlimited.token = api.token
    assert create(unlimited, headers={"Idempotency-Key": "k1"}).status_code == 202


@pytest.mark.parametrize("path", ["/internal/cloudpods/{}/destroy", "/api/cloudpods/{}/actions"])
def test_destroying_has_a_limit_of_its_own(api, rows, assert_problem, path):
    rows.pod(vmid=9101), rows.pod(vmid=9102), rows.pod("lab2", vmid=9103, tenant_id="TENANT-456")
    action = {"action": "destroy"} if path.endswith("actions") else {}

    def destroy(vmid, tenant="TENANT-123"):
        return api.simulate_post(path.format(vmid), json={"tenantId": tenant, **action})

    assert destroy(9101).status_code == 202
    assert refused(assert_problem, destroy(9102))
    assert destroy(9103, "TENANT-456").status_code == 202
    assert create(api).status_code == 202


def test_a_restore_as_a_new_pod_counts_as_one_made(api, rows, assert_problem):
    rows.backup(rows.pod(vmid=9101))
    new = {"tenantId": "TENANT-123", "asNew": True}
    answers = [api.simulate_post("/internal/cloudpods/9101/restore", json=new) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [202, 202, 202, 429]
    assert refused(assert_problem, answers[-1])
    in_place = {"tenantId": "TENANT-123", "force": True}
    assert api.simulate_post("/internal/cloudpods/9101/restore", json=in_place).status_code == 202


def test_other_changes_have_a_limit_of_their_own(api_on, limited, rows, assert_problem):
    api = api_on(limited.model_copy(update={"rate_orders": "4/hour"}))
    rows.pod(vmid=9101)
    rows.pod(vmid=9102, tenant_id="TENANT-456")
    mine, path = {"tenantId": "TENANT-123"}, "/internal/cloudpods/9101"
    assert create(api).status_code == 202
    assert api.simulate_post(f"{path}/backup", json=mine).status_code == 202
    assert api.simulate_post(f"{path}/snapshots", json={**mine, "name": "before"}).status_code == 202
    assert api.simulate_post(f"{path}/snapshots/gone/rollback", json=mine).status_code == 404
    assert api.simulate_delete(f"{path}/snapshots/gone", params=mine).status_code == 404
    bulk = {**mine, "items": [{"action": "backup", "vmid": 9101}]}
    for answer in (
        api.simulate_post(f"{path}/backup", json=mine),
        api.simulate_post(f"{path}/snapshots", json={**mine, "name": "again"}),
        api.simulate_post(f"{path}/snapshots/gone/rollback", json=mine),
        api.simulate_delete(f"{path}/snapshots/gone", params=mine),
        api.simulate_post("/internal/cloudpods/bulk", json=bulk),
    ):
        assert refused(assert_problem, answer)
    theirs = {"tenantId": "TENANT-456"}
    assert api.simulate_post("/internal/cloudpods/9102/backup", json=theirs).status_code == 202


def test_a_tenant_has_no_more_unfinished_jobs_than_it_may(api_on, tenants, rows, sql, assert_problem):
    api = api_on(tenants.model_copy(update={"tenant_jobs": 3}))
    rows.pod(vmid=9101)
    rows.pod(vmid=9102, tenant_id="TENANT-456")
    mine, theirs = {"tenantId": "TENANT-123"}, {"tenantId": "TENANT-456"}
    assert create(api).status_code == 202
    many = {**mine, "items": [{"action": "backup", "vmid": 9101}] * 3}
    before = sql.counts()
    assert_problem(api.simulate_post("/internal/cloudpods/bulk", json=many), 409, "too_many_jobs")
    assert sql.counts() == before
    assert [api.simulate_post("/internal/cloudpods/9101/backup", json=mine).status_code for _ in range(3)] == [202, 202, 409]
    assert_problem(create(api), 409, "too_many_jobs")
    assert api.simulate_post("/internal/cloudpods/9102/backup", json=theirs).status_code == 202
    sql("UPDATE cloud_pod_jobs SET status = 'failed' WHERE type = 'CREATE'")
    assert api.simulate_post("/internal/cloudpods/9101/backup", json=mine).status_code == 202


def test_many_at_once_are_admitted_together_or_not_at_all(limited):
    rates = RateLimits(limited, CloudPodJob.unfinished_of_tenant)
    rates.take("TENANT-123", {"create": 2})
    with pytest.raises(RateLimited):
        rates.take("TENANT-123", {"create": 2})
    rates.take("TENANT-123", {"create": 1})


def test_more_at_once_than_the_limit_would_never_be_admitted_and_are_told_so(limited):
    with pytest.raises(Invalid, match="more than the limit of 3 per 1 hour"):
        RateLimits(limited, CloudPodJob.unfinished_of_tenant).take("TENANT-123", {"create": 4})


def test_a_share_is_free_again_when_its_time_is_over(tenants, eventually):
    rates = RateLimits(tenants.model_copy(update={"rate_create": "1/second"}), CloudPodJob.unfinished_of_tenant)

    def admitted():
        try:
            rates.take("TENANT-123", {"create": 1})
        except RateLimited as error:
            assert error.retry_after_s == 1
            return False
        return True

    assert admitted()
    eventually(admitted)


def test_without_redis_each_process_limits_by_itself_says_so_once_and_comes_back(
    limited, servers, tmp_path, caplog, assert_problem, api_on, monkeypatch
):
    monkeypatch.setattr(redis_link, "PAUSE_S", 0.0)
    socket = tmp_path / "redis.sock"
    api = api_on(limited.model_copy(update={"redis_url": f"unix://{socket}"}))

    def said():
        return [record.message for record in caplog.records if record.name == "shim.web.rate_limit"]

    with caplog.at_level(logging.INFO, logger="shim.web.rate_limit"):
        assert [create(api).status_code for _ in range(3)] == [202] * 3
        assert refused(assert_problem, create(api))
        assert len(said()) == 1
        # Redis is there again; what it counts is its own.
        socket.symlink_to(Path(servers.redis_url.removeprefix("unix://").split("?")[0]))
        assert create(api).status_code == 202
    assert ["answers again" in message for message in said()] == [False, True]


def test_a_dry_run_is_no_pod_made(api):
    for path, body in (("", POD), ("/bulk", bulk_of(POD))):
        asked = [api.simulate_post(f"/internal/cloudpods{path}", json=body, params={"dryRun": "1"}) for _ in range(4)]
        assert [answer.status_code for answer in asked] == [202] * 4, path
    assert [create(api).status_code for _ in range(3)] == [202] * 3


def test_a_batch_that_is_refused_for_one_kind_uses_up_none(api, rows, assert_problem):
    for vmid in (9101, 9102):
        rows.pod(vmid=vmid)
    api.simulate_post("/internal/cloudpods/9101/destroy", json={"tenantId": "TENANT-123"})
    both = bulk_of(POD, POD, POD, {"action": "destroy", "vmid": 9102})
    assert refused(assert_problem, api.simulate_post("/internal/cloudpods/bulk", json=both))
    assert [create(api).status_code for _ in range(3)] == [202] * 3


def test_a_batch_over_the_quota_uses_up_nothing(api, sql, assert_problem):
    sql("UPDATE tenant_quotas SET max_cloud_pods = 1")
    for _ in range(4):
        assert_problem(api.simulate_post("/internal/cloudpods/bulk", json=bulk_of(POD, POD)), 409, "quota_exceeded")
    assert create(api).status_code == 202


def bulk_of(*items):
    return {"tenantId": "TENANT-123", "items": [{key: of for key, of in item.items() if key != "tenantId"} for item in items]}
