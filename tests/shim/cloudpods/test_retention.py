"""Retention beside restores and drills: what is going to be read is not removed, whichever was ordered first."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from shim import db
from shim.cloudpods import retention
from shim.cloudpods.models import CloudPod
from shim.jobs.catalog import ACTIONS
from shim.jobs.claim import claim
from shim.worker.playbook import Outcome

TENANT, OTHER_TENANT = "TENANT-123", "TENANT-456"
ENDED = Outcome(None, {"msg": "no space left", "retryable": False, "left_behind": "nothing"})
READERS = {
    "in place": ("restore", {"force": True}),
    "as new": ("restore", {"asNew": True}),
    "drill": ("restore-drill", {}),
}
EACH_READER = pytest.mark.parametrize(("verb", "fields"), READERS.values(), ids=READERS)


@pytest.fixture
def order(api):
    """Return a way to order something of pod 9101."""
    return lambda verb, **fields: api.simulate_post(f"/internal/cloudpods/9101/{verb}", json={"tenantId": TENANT, **fields})


@pytest.fixture
def archives(rows):
    """Make an active pod with three archives; return their ids, the oldest first."""
    pod = rows.pod(vmid=9101)
    return [rows.backup(pod, created_at=f"2026-11-0{day}") for day in (1, 2, 3)]


@pytest.fixture
def begun(order):
    """Return a way to order a backup and have a worker take it; it returns the job and its playbook's variables."""

    def begin():
        order("backup")
        with db.session():
            job = claim(["BACKUP"], worker="w", lease_s=60)
            return job, ACTIONS["BACKUP"].handler.variables(job)

    return begin


@EACH_READER
@pytest.mark.parametrize("first", ["the reader", "the backup"])
def test_a_backup_removes_nothing_while_an_archive_is_to_be_read(order, archives, begun, finish, sql, verb, fields, first):
    if first == "the backup":
        order("backup")
    reader = order(verb, **fields, backupId=archives[0])
    with db.session():
        pod = CloudPod.find("9101")
        assert retention.of(pod) is None
        finish(reader, ENDED)
        assert retention.of(pod) == {"keep_last": 2}


def test_the_reader_of_another_pods_archive_is_none_of_its_business(order, archives, rows):
    rows.job("RESTORE", pod=rows.pod(vmid=9102), payload={"vmid": 9102, "asNew": False})
    rows.job("RESTORE", pod=rows.pod(vmid=9104), payload={"vmid": 9101, "asNew": True, "fromVmid": 9103})
    with db.session():
        assert retention.of(CloudPod.find("9101")) == {"keep_last": 2}


@EACH_READER
def test_beside_a_running_backup_only_the_newest_archive_can_be_named(
    order, archives, begun, sql, assert_problem, verb, fields
):
    job, given = begun()
    assert given["retention"] == {"keep_last": 2}
    answer = order(verb, **fields, backupId=archives[1])
    assert_problem(answer, 409, "backup_running")
    assert answer.json["jobId"] == job.id
    assert order(verb, **fields, backupId=archives[2]).status_code == 202
    sql("UPDATE cloud_pod_jobs SET status = 'failed', lease_until = NULL, finished_at = now()")
    assert order(verb, **fields, backupId=archives[1]).status_code == 202


def test_a_lost_backup_may_still_be_removing_archives(order, archives, begun, sql, assert_problem):
    job, _ = begun()
    sql("UPDATE cloud_pod_jobs SET status = 'queued', lost = true, lease_until = NULL WHERE id = %s", job.id)
    assert_problem(order("restore", asNew=True, backupId=archives[0]), 409, "backup_running")


def test_a_backup_that_begins_while_a_restore_is_being_ordered_waits_for_the_order(rows, archives, tenants, sql, eventually):
    db.connect(tenants.database_url, pool_size=4)

    def begin():
        with db.session():
            return retention.of(CloudPod.find("9101"))

    with db.session(), ThreadPoolExecutor(1) as pool:
        with db.database.atomic():
            retention.choose(CloudPod.find("9101"), archives[0], here=True)
            beginning = pool.submit(begin)
            eventually(lambda: sql("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"))
            rows_of = "INSERT INTO cloud_pod_jobs (type, payload) VALUES ('RESTORE', '{\"vmid\": 9101}')"
            db.database.execute_sql(rows_of)
        assert beginning.result(timeout=20) is None


ON_THE_PODS_NODE = pytest.mark.parametrize(
    ("verb", "fields"), [READERS["in place"], READERS["drill"]], ids=["in place", "drill"]
)


@ON_THE_PODS_NODE
def test_an_archive_on_another_node_than_the_pod_is_refused(order, archives, rows, sql, assert_problem, verb, fields):
    sql("UPDATE cloud_pod_backups SET node_id = %s WHERE id = %s", rows.node_id("lab2"), archives[2])
    answer = order(verb, **fields, backupId=archives[2])
    assert_problem(answer, 409, "archive_elsewhere")
    assert "lab2" in answer.json["detail"]
    assert order(verb, **fields).json["job"]["payload"]["backupId"] == archives[1]


@ON_THE_PODS_NODE
def test_without_one_on_the_pods_node_there_is_none(order, archives, rows, sql, assert_problem, verb, fields):
    sql("UPDATE cloud_pod_backups SET node_id = %s", rows.node_id("lab2"))
    assert_problem(order(verb, **fields), 404, "backup_not_found")
    assert order("restore", asNew=True).json["job"]["nodeId"] == rows.node_id("lab2")
