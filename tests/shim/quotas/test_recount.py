"""`cloudpods quota recount`: every way in which ledger, pods, quotas and shares can differ is found, told and mended."""

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg2
import pytest
from click.testing import CliRunner

from shim import db
from shim.cli import main
from shim.cloudpods import recount_nodes
from shim.cloudpods.drift_models import DriftReport
from shim.cloudpods.recount import recount
from shim.worker import outcome
from shim.worker.playbook import Outcome

TENANT, OTHER = "TENANT-123", "TENANT-456"
BODY = {"tenantId": TENANT, "hostname": "client-portal", "cores": 2, "memoryMb": 2048, "diskGb": 8}
FAULTS = {
    "used": "UPDATE tenant_quotas SET used_cpu_cores = used_cpu_cores + 1 WHERE tenant_id = 'TENANT-123'",
    "used below nothing in between": "UPDATE tenant_quotas SET used_cloud_pods = 0, used_cpu_cores = 0",
    "pod": "UPDATE cloud_pods SET cores = 7 WHERE vmid = 9101",
    "pod that ended": "UPDATE cloud_pods SET status = 'deleted' WHERE vmid = 9101",
    "pod that failed clean": (
        "DELETE FROM cloud_pod_allocations a USING cloud_pods p WHERE p.id = a.cloud_pod_id AND p.vmid = 9101;"
        "UPDATE cloud_pods SET status = 'failed' WHERE vmid = 9101"
    ),
    "pod that is deleting with nothing left": (
        "DELETE FROM cloud_pod_allocations a USING cloud_pods p WHERE p.id = a.cloud_pod_id AND p.vmid = 9101;"
        "UPDATE cloud_pods SET status = 'deleting' WHERE vmid = 9101"
    ),
    "entry": "DELETE FROM quota_entries WHERE job_id IS NULL",
    "entry of a pod that is being made": "DELETE FROM quota_entries WHERE state = 'reserved'",
    "entry too small of a pod that is being made": "UPDATE quota_entries SET cpu_cores = 1 WHERE state = 'reserved'",
    "entry too large": "UPDATE quota_entries SET cpu_cores = 100 WHERE state = 'committed'",
    "reservation": "UPDATE cloud_pod_jobs SET status = 'cancelled'",
    "share": "UPDATE cloud_pod_allocations SET used_memory_mb = 1",
    "share of a disk": "UPDATE cloud_pod_allocations SET used_disk_gb = 1",
    "no share": "DELETE FROM cloud_pod_allocations",
}


@pytest.fixture
def cloudpods(servers, tmp_path):
    """Return a way to run the command on the test's database."""
    environ = {
        "CLOUDPODS_DATABASE_URL": servers.database_url,
        "CLOUDPODS_REDIS_URL": servers.redis_url,
        "CLOUDPODS_STATE_DIR": str(tmp_path),
    }
    return lambda *words: CliRunner().invoke(main, ["quota", "recount", *words], env=environ)


@pytest.fixture
def estate(rows, api):
    """Make a pod of each tenant, and one of the first that is being made."""
    rows.pod(vmid=9101)
    rows.pod(vmid=9201, tenant_id=OTHER, node="lab2")
    answer = api.simulate_post("/internal/cloudpods", json={**BODY, "vmid": 9102})
    assert answer.status_code == 202
    return answer


def kinds(result):
    return {row["kind"] for row in json.loads(result.stdout)["differences"]}


def test_an_estate_without_a_fault_has_no_difference(estate, cloudpods):
    result = cloudpods("--dry-run")
    assert (result.exit_code, result.output) == (0, "2 tenants counted, 0 differences\n")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_by_a_dry_run_which_writes_nothing_and_then_mended_once(estate, cloudpods, sql, fault):
    sql(FAULTS[fault])
    before = sql("SELECT * FROM quota_entries ORDER BY id"), sql("SELECT * FROM tenant_quotas ORDER BY id"), sql.counts()
    dry = cloudpods("--dry-run", "--json")
    assert dry.exit_code == 1
    assert fault.split(maxsplit=1)[0].replace("entry", "pod").replace("no", "share") in kinds(dry)
    assert before == (
        sql("SELECT * FROM quota_entries ORDER BY id"),
        sql("SELECT * FROM tenant_quotas ORDER BY id"),
        sql.counts(),
    )
    events = sql.value("SELECT count(*) FROM cloud_pod_events")
    mended = cloudpods("--json")
    assert mended.exit_code == 0
    assert kinds(mended) == kinds(dry)
    assert sql.value("SELECT count(*) FROM cloud_pod_events") > events, "nothing was told"
    again = cloudpods("--dry-run", "--json")
    assert (again.exit_code, kinds(again)) == (0, set()), again.output


def test_a_line_says_whose_what_and_how_much(estate, cloudpods, sql):
    sql("UPDATE cloud_pods SET cores = 7 WHERE vmid = 9101")
    line = cloudpods("--tenant", TENANT).output.splitlines()[0]
    assert line.startswith("TENANT-123: pod 9101: 1 pods, 2 cores")
    assert "1 pods, 7 cores" in line


def test_one_tenants_recount_leaves_the_others_alone(estate, cloudpods, sql):
    sql("UPDATE tenant_quotas SET used_cpu_cores = 99")
    assert cloudpods("--tenant", TENANT).output.count("mended") == 1
    assert sql.value("SELECT used_cpu_cores FROM tenant_quotas WHERE tenant_id = %s", OTHER) == 99


def test_an_unknown_tenant_is_said_in_a_line(estate, cloudpods):
    result = cloudpods("--tenant", "nobody")
    assert result.exit_code == 1
    assert "there is no tenant 'nobody'" in result.output


@pytest.mark.parametrize("fault", ["entry of a pod that is being made", "entry too small of a pod that is being made"])
@pytest.mark.parametrize("ending", ["success", "failed"])
def test_what_was_mended_while_a_pod_was_made_ends_right_with_its_job(estate, cloudpods, finish, sql, fault, ending):
    sql(FAULTS[fault])
    cloudpods()
    created = Outcome({"vmid": 9102, "ip": "10.1.10.91", "changed": True}, None)
    failed = Outcome(None, {"msg": "no", "retryable": False, "left_behind": "nothing"})
    finish(estate, created if ending == "success" else failed)
    assert cloudpods("--dry-run").exit_code == 0
    used = sql.value("SELECT used_cloud_pods FROM tenant_quotas WHERE tenant_id = %s", TENANT)
    assert used == (2 if ending == "success" else 1)


@pytest.mark.usefixtures("estate")
def test_another_tenants_orders_do_not_wait_for_a_recount(settings, api):

    with db.session(), db.database.atomic():
        recount(TENANT, mend=True)
        body = {**BODY, "tenantId": OTHER}
        import threading

        answers = []
        other = threading.Thread(target=lambda: answers.append(api.simulate_post("/internal/cloudpods", json=body)))
        other.start()
        other.join(10)
        assert [answer.status_code for answer in answers] == [202]


@pytest.fixture
def looked(rows):
    """Return a way to have the node lab1 looked at, where the pod is as given; it gives the report."""

    def look(pod, **facts):
        there = {"exists": True, "in_pool": True, "status": "running", "owner": {"tenant": TENANT, "pod": pod}}
        size = {"cores": 2, "memory_mb": 2048, "swap_mb": 512, "disk_gb": 8}
        seen = {"vmid": 9101, "unfinished": False, "busy": None, **there, **size, **facts}
        with db.session():
            job = rows.running("RECONCILE", tenant_id=None, payload={"mends": []})
            outcome.write(job, Outcome({"lab1": {"node": "lab1", "pods": [seen]}}, None))
            return DriftReport.newest(rows.node_id())

    return look


def test_a_pods_real_size_is_taken_over_and_counted(rows, looked, cloudpods, sql):
    pod = rows.pod(vmid=9101)
    report = looked(pod, cores=4, disk_gb=20)
    with db.session():
        (item,) = recount_nodes.items(report, TENANT)
        assert recount_nodes.items(report, OTHER) == []
        assert recount_nodes.take_over(report, item)
    assert kinds(cloudpods("--json")) == {"pod", "share"}
    used = "SELECT used_cloud_pods, used_cpu_cores, used_ram_mb, used_disk_gb FROM tenant_quotas WHERE tenant_id = %s"
    assert sql(used, TENANT) == [(1, 4, 2048, 20)]
    assert sql("SELECT used_cpu_cores, used_disk_gb FROM cloud_pod_allocations") == [(4, 20)]
    told = sql.value("SELECT data FROM cloud_pod_events WHERE data->>'action' = 'SIZE_RECOUNTED'")
    assert (told["before"], told["after"]) == ({"cores": 2, "disk_gb": 8}, {"cores": 4, "disk_gb": 20})


def test_a_pod_that_was_changed_since_the_look_stays_as_it_is(rows, looked, sql):
    pod = rows.pod(vmid=9101)
    report = looked(pod, cores=4)
    sql("UPDATE cloud_pods SET updated_at = now() + interval '2 hours'")
    with db.session():
        assert not recount_nodes.take_over(report, report.items[0])
    assert sql.row("cloud_pods", pod)["cores"] == 2


def test_what_a_pod_is_ordered_to_grow_or_shrink_to_is_no_difference(estate, api, cloudpods):
    for size in ({"newCores": 4, "newMemoryMb": 1024}, {"newCores": 1, "newMemoryMb": 4096}):
        answer = api.simulate_post("/internal/cloudpods/9101/scale", json={"tenantId": TENANT, **size})
        assert answer.status_code == 202
    result = cloudpods("--dry-run")
    assert result.exit_code == 0, result.output


def test_a_recount_waits_for_a_pods_order_before_it_holds_the_quota(rows, sql, servers, eventually):
    pod = rows.pod(vmid=9101)
    sql("UPDATE cloud_pods SET cores = 7")
    with closing(psycopg2.connect(servers.database_url)) as other, ThreadPoolExecutor(1) as thread:
        cursor = other.cursor()
        # As every order: first its pod, then the quota.
        cursor.execute("SELECT id FROM cloud_pods WHERE id = %s FOR UPDATE", (pod,))

        def mend():
            with db.session():
                return recount(TENANT, mend=True)

        mending = thread.submit(mend)
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        eventually(lambda: sql.value(waiting) == 1)
        cursor.execute("SET lock_timeout = '2s'")
        cursor.execute("SELECT 1 FROM tenant_quotas WHERE tenant_id = %s FOR UPDATE", (TENANT,))
        cursor.execute("UPDATE cloud_pods SET cores = 3")
        other.commit()
        found = mending.result()
    assert [(row.kind, row.expected.cores, row.found.cores) for row in found] == [("pod", 3, 2), ("share", 3, 2)]
    assert sql.value("SELECT used_cpu_cores FROM tenant_quotas WHERE tenant_id = %s", TENANT) == 3
