"""Who may end which job: a tenant's users what its users may order; what the house ordered is not theirs."""

import pytest

from shim import db
from shim.cloudpods import backup, destroy, power, restore_drill, retrying
from shim.cloudpods.models import CloudPod
from shim.cloudpods.schemas import BackupPod, DrillPod, PowerPod
from shim.db import database
from shim.jobs.models import CloudPodJob
from shim.jobs.schemas import RetryJob
from shim.worker.playbook import Outcome

TENANT, OTHER_TENANT = "TENANT-123", "TENANT-456"


def stop(api, job, **headers):
    return api.simulate_post(f"/internal/jobs/{job}/cancel", headers=headers)


@pytest.fixture
def pod(rows):
    """Make an active pod with an archive, and one of another tenant; return its id."""
    rows.pod("lab2", vmid=9201, tenant_id=OTHER_TENANT)
    made = rows.pod(vmid=9101, ip="10.1.10.91", power_state="running")
    rows.backup(made)
    return made


def scheduled_backup(pod, rows, settings):
    return backup.backup(pod, BackupPod(tenantId=TENANT), scheduled=True)[0].id


def scheduled_drill(pod, rows, settings):
    return restore_drill.drill(pod, DrillPod(tenantId=TENANT), scheduled=True)[0].id


def mended(pod, rows, settings):
    return power.power("start", pod, PowerPod(tenantId=TENANT, reason="drift"))[0].id


def taken_away(pod, rows, settings):
    cancelled = CloudPodJob.find(rows.job("CREATE", pod=pod, status="cancelled", requested_by="user-7"))
    with database.atomic():
        destroy.follow(cancelled, CloudPod.hold(pod))
    return CloudPodJob.pending(pod, "DESTROY").id


def ordered_anew_at_a_terminal(pod, rows, settings):
    first = rows.job(pod=pod, status="failed", payload={"vmid": 9101, "tenantId": TENANT, "mode": "snapshot"})
    return retrying.retry(first, RetryJob(), settings)[0].id


HOUSE = [scheduled_backup, scheduled_drill, mended, taken_away, ordered_anew_at_a_terminal]


@pytest.mark.parametrize("order", HOUSE, ids=lambda order: order.__name__)
@pytest.mark.parametrize("begun", [False, True], ids=["queued", "running"])
def test_what_the_house_ordered_is_not_a_tenants_to_end(api, pod, rows, sql, settings, assert_problem, order, begun):
    with db.session():
        job = order(pod, rows, settings)
    if begun:
        held = "status = 'running', attempt = 1, tries = 1, lease_until = now() + interval '1 hour'"
        sql(f"UPDATE cloud_pod_jobs SET {held} WHERE id = %s", job)
    before, counts = sql.row("cloud_pod_jobs", job), sql.counts()
    for role in ("owner", "admin"):
        assert_problem(stop(api, job, **api.as_user(role)), 403, "ordered_by_house")
    assert_problem(stop(api, job, **api.as_user("owner", OTHER_TENANT)), 404, "job_not_found")
    assert (sql.row("cloud_pod_jobs", job), sql.counts()) == (before, counts)
    assert stop(api, job).status_code == (202 if begun else 200)
    # Once it is, too.
    assert_problem(stop(api, job, **api.as_user("owner")), 403, "ordered_by_house")


def test_the_way_back_to_a_size_within_the_quota_is_not_a_tenants_to_end(api, pod, sql, finish, assert_problem):
    sql("INSERT INTO cloud_pod_snapshots (cloud_pod_id, name, status) VALUES (%s, 'large', 'ready')", pod)
    sql("UPDATE tenant_quotas SET max_cpu_cores = 2, follows_plan = false WHERE tenant_id = %s", TENANT)
    rollback = api.simulate_post(
        "/internal/cloudpods/9101/snapshots/large/rollback", json={"tenantId": TENANT}, headers=api.as_user("owner")
    )
    seen = {"cores": 8, "memory_mb": 512, "swap_mb": 0, "status": "running"}
    finish(rollback, Outcome({"changed": True, "cloudpod": seen, "snapshots": []}, None))
    ordered = sql.value("SELECT id FROM cloud_pod_jobs WHERE type = 'SCALE'")
    assert_problem(stop(api, ordered, **api.as_user("owner")), 403, "ordered_by_house")
    assert sql.row("cloud_pod_jobs", ordered)["status"] == "queued"


def test_an_adoption_is_not_a_tenants_to_end(api, rows, sql, assert_problem):
    job = rows.job("ADOPT", pod=rows.pod(status="provisioning"))
    before = sql.row("cloud_pod_jobs", job)
    assert_problem(stop(api, job, **api.as_user("owner")), 403, "forbidden")
    assert sql.row("cloud_pod_jobs", job) == before


ORDERERS = {"its panel": {}, "its owner": {"role": "owner"}, "its admin": {"role": "admin"}}


@pytest.mark.parametrize("by", ORDERERS.values(), ids=ORDERERS)
def test_what_was_ordered_for_the_tenant_is_its_users_to_end(api, pod, by):
    headers = api.as_user(by["role"]) if by else {}
    answer = api.simulate_post("/internal/cloudpods/9101/backup", json={"tenantId": TENANT}, headers=headers)
    assert stop(api, answer.json["job"]["id"], **api.as_user("admin")).json["status"] == "cancelled"


def test_what_many_at_once_ordered_is_its_users_to_end(api, tenants):
    new = {"tenantId": TENANT, "hostname": "a", "cores": 1, "memoryMb": 512}
    answer = api.simulate_post("/internal/cloudpods/bulk", json={"tenantId": TENANT, "items": [new]})
    assert answer.status_code == 202, answer.text
    job = api.simulate_get(f"/internal/batches/{answer.json['batch']['id']}/jobs").json["items"][0]
    assert stop(api, job["id"], **api.as_user("owner")).json["status"] == "cancelled"
