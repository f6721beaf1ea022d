"""What was to make a pod on a node that went offline: it is failed after an hour, and what it held is free again."""

import pytest

from shim import db
from shim.jobs import ending

TENANT, OTHER_TENANT = "TENANT-123", "TENANT-456"


@pytest.fixture
def create(api):
    """Return a way to order a pod on a node; it gives the ids of pod and job."""

    def order(node="lab1", tenant=TENANT):
        body = {"tenantId": tenant, "hostname": "a", "cores": 1, "memoryMb": 512, "node": node}
        answer = api.simulate_post("/internal/cloudpods", json=body)
        return answer.json["cloudPod"]["id"], answer.json["job"]["id"]

    return order


def strand():
    with db.session():
        ending.fail_stranded()


def test_it_is_failed_after_an_hour_and_gives_back_what_it_held(create, sql):
    (pod, job), (other_pod, other_job) = create(), create("lab2", OTHER_TENANT)
    sql("UPDATE cloud_pod_nodes SET status = 'offline' WHERE name = 'lab1'")
    strand()
    assert sql.row("cloud_pod_jobs", job)["status"] == "queued"
    sql("UPDATE cloud_pod_jobs SET created_at = created_at - interval '61 min'")
    strand()
    ended = sql.row("cloud_pod_jobs", job)
    assert (ended["status"], sql.row("cloud_pods", pod)["status"]) == ("failed", "failed")
    assert "lab1 is offline" in ended["error"]
    assert sql("SELECT cloud_pod_id FROM cloud_pod_allocations") == [(other_pod,)]
    assert sql("SELECT state FROM quota_entries WHERE job_id = %s", job) == [("released",)]
    assert sql.row("cloud_pod_jobs", other_job)["status"] == "queued"


def test_what_was_begun_or_is_of_a_pod_that_is_there_waits(create, rows, sql):
    pod, begun = create()
    waiting = rows.job("SCALE", pod=rows.pod())
    sql("UPDATE cloud_pod_nodes SET status = 'offline'")
    sql("UPDATE cloud_pod_jobs SET created_at = created_at - interval '61 min', attempt = (type = 'CREATE')::int")
    strand()
    assert {sql.row("cloud_pod_jobs", job)["status"] for job in (begun, waiting)} == {"queued"}
    assert sql.row("cloud_pods", pod)["status"] == "provisioning"
