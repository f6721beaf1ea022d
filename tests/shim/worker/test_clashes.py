"""A new pod whose node says that somebody has its vmid or its address: another one, if nobody asked for just this one."""

import pytest
from psycopg2.extras import Json

from shim.cloudpods import clash
from shim.jobs import state
from shim.jobs.catalog import ACTIONS
from shim.jobs.models import CloudPodJob
from shim.worker import outcome
from shim.worker.playbook import Outcome

TENANT, OTHER_TENANT = "TENANT-123", "TENANT-456"
AUTO = {"vmid": 10000, "autoVmid": True, "autoIp": True, "region": "migra-us-east-1"}
COPY = {"asNew": True, "archive": "a:backup/b", "backupId": "b", "fromVmid": 9101, "fromPodId": "p"}
MAKERS = pytest.mark.parametrize(("type", "further"), [("CREATE", {}), ("RESTORE", COPY)], ids=["CREATE", "RESTORE"])


@pytest.fixture(autouse=True)
def pool(session, sql):
    """Let both nodes share a pool, and the region have vmids."""
    sql("UPDATE cloud_pod_nodes SET address_pool_id = (SELECT id FROM address_pools WHERE name = 'lab1-pool')")
    sql(
        "INSERT INTO regions (name, vmid_first, vmid_auto_first, vmid_last, next_vmid)"
        " VALUES ('migra-us-east-1', 9000, 10000, 10100, 10001)"
    )


@pytest.fixture
def run(rows):
    """Return a way to make a new pod with the running job that makes it."""

    def make(type="CREATE", *, status="provisioning", ip="", held=None, **payload):
        pod = rows.pod(vmid=10000, status=status, ip=ip)
        return rows.running(type, pod=pod, payload={**AUTO, **payload}, **(held or {}))

    return make


def taken(what, *, left_behind="nothing"):
    failure = {"msg": f"{what} is somebody's", "retryable": False, "left_behind": left_behind, "rc": 73, "taken": what}
    return Outcome(None, failure)


def claimed(sql, job):
    held = "status = 'running', attempt = attempt + 1, tries = tries + 1, lease_until = now() + interval '1 hour'"
    sql(f"UPDATE cloud_pod_jobs SET {held} WHERE id = %s", job.id)
    return CloudPodJob.find(job.id)


def events(sql, job):
    kept = "job_id = %s AND data->>'action' NOT LIKE 'QUOTA_%%'"
    return sql(f"SELECT data->>'action', data->'before', data->'after' FROM cloud_pod_events WHERE {kept} ORDER BY seq", job.id)


def shares(sql):
    return sql("SELECT cloud_pod_id, node_id, used_cpu_cores FROM cloud_pod_allocations"), sql("SELECT * FROM quota_entries")


@MAKERS
def test_a_vmid_that_was_picked_is_picked_anew(run, sql, type, further):
    job = run(type, **further)
    before = shares(sql)
    outcome.write(job, taken("vmid"))
    row, pod = sql.row("cloud_pod_jobs", job.id), sql.row("cloud_pods", job.cloud_pod_id)
    assert (row["status"], row["tries"], row["lost"], row["lease_until"]) == ("queued", 0, False, None)
    assert row["payload"] == {**job.payload, "vmid": 10001, "clashes": 1}
    assert (pod["vmid"], pod["status"], pod["error"]) == (10001, "provisioning", None)
    assert sql.value("SELECT run_after <= now() FROM cloud_pod_jobs")
    assert shares(sql) == before
    assert events(sql, job) == [("VMID_CHANGED", 10000, 10001)]
    assert ACTIONS[type].handler.variables(CloudPodJob.find(job.id))["vmid"] == 10001


@MAKERS
def test_an_address_that_was_picked_is_picked_anew(run, sql, type, further):
    job = run(type, ip="10.1.10.50", **further)
    before = shares(sql)
    outcome.write(job, taken("ip"))
    row, pod = sql.row("cloud_pod_jobs", job.id), sql.row("cloud_pods", job.cloud_pod_id)
    assert (row["status"], row["tries"], row["payload"]["vmid"]) == ("queued", 0, 10000)
    assert (pod["vmid"], pod["ip"]) == (10000, "10.1.10.51")
    assert shares(sql) == before
    assert events(sql, job) == [("IP_CHANGED", "10.1.10.50", "10.1.10.51")]
    assert ACTIONS[type].handler.variables(CloudPodJob.find(job.id))["ip"] == "10.1.10.51"


@MAKERS
@pytest.mark.parametrize(("what", "given"), [("vmid", {"autoVmid": False}), ("ip", {"autoIp": False})])
def test_what_was_asked_for_fails_and_says_what_is_taken(run, sql, type, further, what, given):
    job = run(type, ip="10.1.10.50", **further, **given)
    outcome.write(job, taken(what))
    row, pod = sql.row("cloud_pod_jobs", job.id), sql.row("cloud_pods", job.cloud_pod_id)
    assert (row["status"], row["failure"]["taken"], row["error"]) == ("failed", what, f"{what} is somebody's")
    assert (pod["status"], pod["vmid"], pod["ip"]) == ("failed", 10000, "10.1.10.50")
    assert sql.value("SELECT count(*) FROM cloud_pod_allocations") == 0


@pytest.mark.parametrize(
    ("failure", "held"),
    [
        (taken("vmid", left_behind="container 10000"), {}),
        (taken("disk"), {}),
        (taken("ip"), {}),
        (Outcome(None, {"msg": "no", "retryable": False, "left_behind": "nothing"}), {}),
    ],
    ids=["something is left", "another word", "an address that the node chose", "no word"],
)
def test_any_other_failure_stands(run, sql, failure, held):
    # No pool is shared: the nodes choose.
    sql("UPDATE cloud_pod_nodes SET address_pool_id = NULL")
    job = run(held=held)
    outcome.write(job, failure)
    assert sql.row("cloud_pod_jobs", job.id)["status"] == "failed"
    assert sql.row("cloud_pods", job.cloud_pod_id)["vmid"] == 10000


def test_a_restore_in_place_has_no_vmid_to_choose(rows, sql):
    pod = rows.pod(vmid=10000)
    job = rows.running("RESTORE", pod=pod, payload={"vmid": 10000, "asNew": False, "archive": "a", "backupId": "b"})
    outcome.write(job, taken("vmid"))
    assert (sql.row("cloud_pod_jobs", job.id)["status"], sql.row("cloud_pods", pod)["vmid"]) == ("failed", 10000)


def test_what_an_earlier_run_may_have_left_is_looked_for_before_the_pod_goes_elsewhere(run, sql):
    job = run(held={"failure": Json({"msg": "cannot reach node", "retryable": True, "left_behind": "unknown"})})
    outcome.write(job, taken("vmid"))
    row = sql.row("cloud_pod_jobs", job.id)
    assert (row["status"], row["lost"], row["payload"]["vmid"]) == ("queued", True, 10000)

    looked = claimed(sql, job)
    # The look found nothing of it.
    looked.failure = {**looked.failure, "left_behind": "nothing"}
    outcome.write(looked, taken("vmid"))
    row = sql.row("cloud_pod_jobs", job.id)
    assert (row["status"], row["lost"], row["payload"]["vmid"], row["failure"]["left_behind"]) == (
        "queued",
        False,
        10001,
        "nothing",
    )


def test_vmids_of_other_pods_and_those_known_as_foreign_are_passed_over(run, rows, sql):
    rows.pod(vmid=10001, tenant_id=OTHER_TENANT)
    rows.job(
        "POD_SCAN", pod=None, tenant_id=None, status="success", result=Json({"foreign": [{"vmid": 10002, "ip": "10.1.10.9"}]})
    )
    job = run()
    outcome.write(job, taken("vmid"))
    assert sql.row("cloud_pods", job.cloud_pod_id)["vmid"] == 10003


def test_an_address_that_was_lost_to_another_pod_while_it_was_asked_for_is_picked_anew(run, rows, sql):
    rows.pod(ip="10.1.10.50", tenant_id=OTHER_TENANT)
    job = run(ip="")
    outcome.write(job, taken("ip"))
    assert (sql.row("cloud_pod_jobs", job.id)["status"], sql.row("cloud_pods", job.cloud_pod_id)["ip"]) == (
        "queued",
        "10.1.10.51",
    )


@MAKERS
@pytest.mark.parametrize("left", [True, False])
def test_an_address_that_was_lost_before_the_job_began_is_replaced_by_the_pools_next(run, rows, sql, type, further, left):
    rows.pod(ip="10.1.10.50", tenant_id=OTHER_TENANT)
    if not left:
        sql("UPDATE address_pools SET first_ip = '10.1.10.50', last_ip = '10.1.10.50' WHERE name = 'lab1-pool'")
    job = run(type, ip="", **further)
    given = ACTIONS[type].handler.variables(job)
    assert (given.get("ip"), given.get("auto_ip")) == (("10.1.10.51", None) if left else (None, True))
    assert sql.row("cloud_pods", job.cloud_pod_id)["ip"] == ("10.1.10.51" if left else "")


def test_there_is_an_end_to_it(run, sql):
    job = run(clashes=clash.AT_MOST - 1)
    outcome.write(job, taken("vmid"))
    assert sql.row("cloud_pod_jobs", job.id)["status"] == "queued"
    outcome.write(claimed(sql, job), taken("vmid"))
    row = sql.row("cloud_pod_jobs", job.id)
    assert (row["status"], row["payload"]["clashes"]) == ("failed", clash.AT_MOST)


@pytest.mark.parametrize("what", ["vmid", "ip"])
def test_when_none_is_left_the_nodes_refusal_is_told(run, sql, what):
    sql("UPDATE regions SET vmid_last = 10000")
    sql("UPDATE address_pools SET first_ip = '10.1.10.50', last_ip = '10.1.10.50' WHERE name = 'lab1-pool'")
    job = run(ip="10.1.10.50")
    outcome.write(job, taken(what))
    row, pod = sql.row("cloud_pod_jobs", job.id), sql.row("cloud_pods", job.cloud_pod_id)
    assert (row["status"], row["error"]) == ("failed", f"{what} is somebody's")
    assert (pod["status"], pod["vmid"], pod["ip"]) == ("failed", 10000, "10.1.10.50")
    assert [action for action, _, _ in events(sql, job)] == ["CREATE_FAILED"]
    assert sql.value("SELECT next_vmid FROM regions") == 10001


def test_a_pod_to_be_destroyed_gets_a_vmid_that_can_be_destroyed(run, rows, sql):
    """Under the old one its destroy would find somebody else's container, and be refused for ever."""
    job = run(status="deleting")
    destroy = rows.job("DESTROY", pod=job.cloud_pod_id, payload={"vmid": 10000, "tenantId": TENANT})
    other = rows.job("DESTROY", pod=rows.pod(tenant_id=OTHER_TENANT), payload={"vmid": 10000})
    outcome.write(job, taken("vmid"))
    pod = sql.row("cloud_pods", job.cloud_pod_id)
    assert (pod["vmid"], pod["status"]) == (10001, "deleting")
    assert sql.row("cloud_pod_jobs", destroy)["payload"] == {"vmid": 10001, "tenantId": TENANT}
    assert sql.row("cloud_pod_jobs", other)["payload"]["vmid"] == 10000
    assert sql.row("cloud_pod_jobs", job.id)["status"] == "queued"


def test_a_dry_run_changes_nothing(run, sql):
    job = run(held={"dry_run": True})
    outcome.write(job, taken("vmid"))
    assert sql.row("cloud_pod_jobs", job.id)["status"] == "failed"
    assert sql.row("cloud_pods", job.cloud_pod_id)["vmid"] == 10000
    assert sql.value("SELECT next_vmid FROM regions") == 10001


@pytest.mark.parametrize("what", ["vmid", "ip"])
def test_an_older_attempt_changes_nothing(run, sql, what):
    job = run(ip="10.1.10.50")
    sql("UPDATE cloud_pod_jobs SET attempt = 2")
    before = [sql(f"SELECT * FROM {table}") for table in ("cloud_pods", "cloud_pod_jobs", "regions", "address_pools")]
    with pytest.raises(state.LostLease):
        outcome.write(job, taken(what))
    assert [sql(f"SELECT * FROM {table}") for table in ("cloud_pods", "cloud_pod_jobs", "regions", "address_pools")] == before
    assert events(sql, job) == []
