"""GET of a pod and of its health."""

import pytest

TENANT = "TENANT-123"
PREFIXES = pytest.mark.parametrize("prefix", ["/internal", "/api"])


@PREFIXES
def test_a_pod_is_read_by_vmid_and_by_id(api, rows, prefix):
    pod = rows.pod(vmid=9101, ip="10.1.10.91")
    by_vmid, by_id = (api.simulate_get(f"{prefix}/cloudpods/{reference}") for reference in (9101, pod))
    assert by_vmid.status_code == by_id.status_code == 200
    assert by_vmid.json == by_id.json
    expected = {"id": pod, "tenantId": TENANT, "vmid": 9101, "ip": "10.1.10.91", "node": "lab1", "status": "active"}
    assert by_id.json.items() >= expected.items()


def test_a_pods_answer_has_every_name_of_the_master_specs_model(api, rows):
    rows.pod(vmid=9101)
    names = (
        "id tenantId vmid hostname ip region status planSnapshot cores memoryMb swapMb storage bridge"
        " createdAt updatedAt deletedAt lastBackupAt lastHealthStatus lastHealthChecked blueprintId"
    )
    assert set(names.split()) <= set(api.simulate_get("/internal/cloudpods/9101").json)


@pytest.mark.parametrize("path", ["/cloudpods/{}", "/cloudpods/{}/health"])
@pytest.mark.parametrize(
    "reference", ["9999", "99", "1234567890", "no-such-id", "9101%00", "%00", "%ff%fe", "..%2f9101", "%F0%9F"]
)
def test_an_unknown_pod_is_not_found(api, rows, assert_problem, path, reference):
    rows.pod(vmid=9101)
    assert_problem(api.simulate_get("/internal" + path.format(reference)), 404)


@pytest.mark.parametrize("path", ["/cloudpods/9101", "/jobs/x"])
def test_a_query_where_none_is_known_is_refused(api, rows, assert_problem, path):
    rows.pod(vmid=9101)
    answer = api.simulate_get("/internal" + path, query_string="fields=id")
    assert_problem(answer, 422, "invalid_request", field="fields", rule="unknown query parameter")


@PREFIXES
def test_the_health_of_a_pod_never_checked_is_empty_and_checks_nothing(api, rows, sql, prefix):
    pod = rows.pod(vmid=9101)
    answer = api.simulate_get(f"{prefix}/cloudpods/9101/health")
    assert answer.status_code == 200
    identity = {"vmid": 9101, "cloudPodId": pod, "tenantId": TENANT}
    assert answer.json == {**identity, "lastHealthStatus": None, "lastHealthChecked": None, "details": None}
    assert sql.counts()["cloud_pod_jobs"] == 0


@pytest.mark.parametrize("word", ["1", "true", "yes"])
def test_refresh_queues_a_check_and_names_its_job(api, rows, sql, word):
    pod = rows.pod(vmid=9101)
    job = api.simulate_get("/internal/cloudpods/9101/health", query_string=f"refresh={word}").json["job"]
    assert (job["type"], job["status"], job["cloudPodId"]) == ("HEALTH_CHECK", "queued", pod)
    assert job["payload"] == {"vmid": 9101, "tenantId": TENANT, "triggeredBy": "manual"}


def test_refresh_twice_queues_one_check(api, rows, sql):
    rows.pod(vmid=9101)
    ask = {"path": "/internal/cloudpods/9101/health", "query_string": "refresh=1"}
    assert api.simulate_get(**ask).json["job"]["id"] == api.simulate_get(**ask).json["job"]["id"]
    assert sql.counts()["cloud_pod_jobs"] == 1


def test_refresh_zero_checks_nothing(api, rows, sql):
    rows.pod(vmid=9101)
    assert "job" not in api.simulate_get("/internal/cloudpods/9101/health", query_string="refresh=0").json
    assert sql.counts()["cloud_pod_jobs"] == 0


@pytest.mark.parametrize("query", ["refresh=maybe", "refresh=1&refresh=1", "refresh=%00", "fresh=1"])
def test_a_bad_refresh_is_refused_and_checks_nothing(api, rows, sql, assert_problem, query):
    rows.pod(vmid=9101)
    answer = api.simulate_get("/internal/cloudpods/9101/health", query_string=query)
    assert_problem(answer, answer.status_code)
    assert answer.status_code in (400, 422)
    assert "fresh" in answer.json["detail"]
    assert sql.counts()["cloud_pod_jobs"] == 0


@pytest.mark.parametrize("status", ["provisioning", "failed", "deleting", "deleted"])
def test_a_pod_that_is_not_active_is_not_checked_but_its_last_health_is_told(api, rows, assert_problem, status):
    rows.pod(vmid=9101, status=status, last_health_status="critical")
    assert api.simulate_get("/internal/cloudpods/9101/health").json["lastHealthStatus"] == "critical"
    answer = api.simulate_get("/internal/cloudpods/9101/health", query_string="refresh=1")
    assert_problem(answer, 409, "cloudpod_not_active")
