"""Restores over HTTP: in place and as a new pod, what is refused, and how each ends."""

import pytest

from shim.jobs.catalog import ACTIONS
from shim.jobs.models import CloudPodJob
from shim.worker.playbook import Outcome

TENANT, OTHER_TENANT = "TENANT-123", "TENANT-456"
SEEN = {"status": "running", "cores": 1, "memory_mb": 512, "swap_mb": 256}
RESTORED = Outcome({"vmid": 9101, "changed": True, "cloudpod": SEEN}, None)
NEW = Outcome({"vmid": 9301, "ip": "10.1.10.91", "changed": True, "cloudpod": SEEN}, None)


def volid(vmid, day=1):
    return f"vzdump-backups:backup/vzdump-lxc-{vmid}-2026_11_{day:02}-00_05_47.tar.zst"


def failed(left_behind):
    return Outcome(None, {"msg": "no space left", "retryable": False, "left_behind": left_behind})


@pytest.fixture
def source(rows):
    """Make an active pod with an archive of November 1st and one of the 2nd; return its id."""
    pod = rows.pod(vmid=9101, ip="10.1.10.90", storage="clients-fast", bridge="vmbr1")
    for day in (1, 2):
        rows.backup(pod, volid=volid(9101, day), created_at=f"2026-11-0{day}")
    return pod


@pytest.fixture(params=["own route", "actions"])
def restore(request, api):
    """Return a way to order a restore: by its own route, or by the panel's one for all."""

    def order(reference=9101, tenant=TENANT, prefix="/api", **fields):
        fields = {"tenantId": tenant, **fields}
        if request.param == "actions":
            return api.simulate_post(f"{prefix}/cloudpods/{reference}/actions", json={"action": "restore", **fields})
        return api.simulate_post(f"{prefix}/cloudpods/{reference}/restore", json=fields)

    return order


def backup_id(sql, day, vmid=9101):
    return sql.value("SELECT id FROM cloud_pod_backups WHERE volid = %s", volid(vmid, day))


@pytest.mark.parametrize("prefix", ["/internal", "/api"])
def test_in_place_overwrites_the_pod_with_its_newest_archive(restore, source, finish, sql, prefix):
    answer = restore(prefix=prefix, force=True, reason="broken update")
    job = answer.json["job"]
    assert answer.headers["location"] == f"{prefix}/jobs/{job['id']}"
    assert (job["type"], job["cloudPodId"], answer.json["cloudPod"]["id"]) == ("RESTORE", source, source)
    assert job["payload"].items() >= {"vmid": 9101, "asNew": False, "reason": "broken update"}.items()
    given = finish(answer, RESTORED)
    assert given == {
        "vmid": 9101,
        "tenant_id": TENANT,
        "pod_id": source,
        "run_id": f"{job['id']}.1",
        "archive": volid(9101, 2),
        "force": True,
    }


def test_in_place_takes_the_size_and_power_of_then_and_keeps_the_pod(restore, source, finish, sql):
    sql("UPDATE cloud_pods SET error = 'an earlier restore failed'")
    finish(restore(force=True), RESTORED)
    pod = sql.row("cloud_pods", source)
    assert (pod["status"], pod["power_state"], pod["error"], pod["ip"]) == ("active", "running", None, "10.1.10.90")
    assert (pod["cores"], pod["memory_mb"], pod["swap_mb"]) == (1, 512, 256)
    assert sql("SELECT used_cpu_cores, used_memory_mb FROM cloud_pod_allocations") == [(1, 512)]
    assert sql("SELECT type, data->>'action' FROM cloud_pod_events ORDER BY seq")[-1] == ("STATE_CHANGE", "RESTORED")


ODD = [{"cores": None}, {"cores": 0}, {"memory_mb": None}, {"swap_mb": "many"}, {"status": None}, {"cores": 2**40}]


@pytest.mark.parametrize("odd", ODD, ids=str)
def test_a_restore_that_worked_is_a_success_whatever_the_node_says_oddly(restore, source, finish, sql, odd):
    """A container without a limit of cores says null; what it does not say stays the pod's."""
    answer = restore(force=True)
    finish(answer, Outcome({"vmid": 9101, "changed": True, "cloudpod": {**SEEN, **odd}}, None))
    pod = sql.row("cloud_pods", source)
    assert (sql.row("cloud_pod_jobs", answer.json["job"]["id"])["status"], pod["error"]) == ("success", None)
    known = {"cores": 2, "memory_mb": 2048, "swap_mb": 512, "status": "active"}
    assert {name: pod[name] for name in odd} == {name: known[name] for name in odd}


def test_in_place_reserves_the_size_of_then(restore, source, rows, sql, assert_problem):
    sql("UPDATE cloud_pod_backups SET cores = 6, memory_mb = 1024")
    sql("UPDATE tenant_quotas SET max_cpu_cores = 5, follows_plan = false")
    assert_problem(restore(force=True), 409, "quota_exceeded")
    assert sql.counts()["cloud_pod_jobs"] == 0
    sql("UPDATE tenant_quotas SET max_cpu_cores = 6")
    assert restore(force=True).status_code == 202
    assert sql.value("SELECT used_cpu_cores FROM cloud_pod_allocations") == 6


def test_in_place_without_force_says_what_would_be_lost_and_how_to_go_on(restore, source, sql, assert_problem):
    answer = restore()
    assert_problem(answer, 409, "restore_needs_force")
    for word in ("2026-11-02", '"force": true', '"asNew": true'):
        assert word in answer.json["detail"]
    assert sql.counts()["cloud_pod_jobs"] == 0


@pytest.mark.parametrize("fields", [{"force": True}, {"asNew": True}], ids=["in place", "as new"])
class TestWhichArchive:
    """Of the pod's archives the one asked for, else the newest that is there."""

    def test_an_older_one_by_its_id(self, restore, source, sql, fields):
        payload = restore(**fields, backupId=backup_id(sql, 1)).json["job"]["payload"]
        assert (payload["archive"], payload["backupId"]) == (volid(9101, 1), backup_id(sql, 1))

    def test_the_newest_that_retention_left(self, restore, source, sql, fields):
        sql("UPDATE cloud_pod_backups SET status = 'removed' WHERE id = %s", backup_id(sql, 2))
        assert restore(**fields).json["job"]["payload"]["archive"] == volid(9101, 1)

    def test_one_that_was_removed_is_refused(self, restore, source, sql, assert_problem, fields):
        sql("UPDATE cloud_pod_backups SET status = 'removed'")
        assert_problem(restore(**fields, backupId=backup_id(sql, 1)), 409, "backup_removed")

    def test_without_any_there_is_nothing_to_restore(self, restore, rows, sql, assert_problem, fields):
        rows.pod(vmid=9101)
        assert_problem(restore(**fields), 404, "backup_not_found")

    def test_another_pods_archive_is_not_there(self, restore, source, rows, sql, assert_problem, fields):
        for vmid, tenant in ((9102, TENANT), (9103, OTHER_TENANT)):
            rows.backup(rows.pod(vmid=vmid, tenant_id=tenant), volid=volid(vmid))
            assert_problem(restore(**fields, backupId=backup_id(sql, 1, vmid)), 404, "backup_not_found")

    def test_another_tenants_pod_is_not_there(self, restore, source, sql, assert_problem, fields):
        before = sql.counts()
        for reference in (9101, source):
            assert_problem(restore(reference, OTHER_TENANT, **fields), 404, "cloudpod_not_found")
        assert sql.counts() == before


@pytest.mark.parametrize("status", ["provisioning", "failed", "deleting", "deleted"])
def test_in_place_needs_an_active_pod(restore, rows, assert_problem, status):
    rows.backup(rows.pod(vmid=9101, status=status), volid=volid(9101))
    assert_problem(restore(force=True), 409, "cloudpod_not_active")


def test_a_failed_restore_in_place_that_left_nothing_leaves_the_pod_as_it_was(restore, source, finish, sql):
    answer = restore(force=True)
    before = sql.row("cloud_pods", source)
    finish(answer, failed("nothing"))
    assert sql.row("cloud_pods", source) == before
    assert sql("SELECT type, data->>'action' FROM cloud_pod_events ORDER BY seq")[-1] == ("ERROR", "RESTORE_FAILED")


def test_a_failed_restore_in_place_that_took_the_pod_away_says_so_and_can_be_repeated(restore, source, finish, sql):
    finish(restore(force=True), failed("container 9101 is gone; repeat from the archive"))
    pod = sql.row("cloud_pods", source)
    assert (pod["status"], pod["power_state"]) == ("active", "unknown")
    said = sql("SELECT message FROM cloud_pod_events ORDER BY seq")[-1][0]
    for text in (pod["error"], said):
        assert "container 9101 is gone; repeat from the archive" in text
        assert "no space left" in text
    finish(restore(force=True), RESTORED)
    assert sql.row("cloud_pods", source)["error"] is None


def snapshots(sql):
    return sql("SELECT cloud_pod_id, name FROM cloud_pod_snapshots ORDER BY name")


@pytest.fixture
def kept(rows, sql, source):
    """Give the pod a snapshot that is there and one that is still to be made, and another pod one; return the pod's id."""
    other = rows.pod(vmid=9102, tenant_id=OTHER_TENANT)
    for pod, name, status in ((source, "before", "ready"), (source, "later", "creating"), (other, "theirs", "ready")):
        columns = "INSERT INTO cloud_pod_snapshots (id, cloud_pod_id, name, status) VALUES"
        sql(f"{columns} (%s, %s, %s, %s)", f"{pod}-{name}", pod, name, status)
    return source


def test_in_place_takes_the_snapshots_of_what_it_overwrites(restore, kept, finish, sql):
    finish(restore(force=True), RESTORED)
    assert [name for _, name in snapshots(sql)] == ["later", "theirs"]


@pytest.mark.parametrize(("by_us", "left"), [(True, ["later", "theirs"]), (False, ["before", "later", "theirs"])])
def test_a_cancelled_restore_takes_the_snapshots_if_it_got_so_far(restore, kept, finish, sql, by_us, left):
    answer = restore(force=True)
    seen = {"exists": True, "unfinished": False, "lock": None, "status": "stopped"}
    seen["restored"] = {"job": answer.json["job"]["id"] if by_us else "another"}
    failure = {"msg": "cancelled by anna", "retryable": False, "left_behind": "container 9101, restored, stopped"}
    finish(answer, Outcome(None, {**failure, "cancelled": True, "by": "anna", "seen": seen}))
    assert [name for _, name in snapshots(sql)] == left


def test_as_new_is_a_pod_like_its_source_on_the_archives_node(restore, source, finish, sql):
    answer = restore(asNew=True, requestedBy="anna", reason="test the update")
    new, job = answer.json["cloudPod"], answer.json["job"]
    assert new["id"] != source
    assert (new["status"], new["node"], new["vmid"], new["ip"]) == ("provisioning", "lab1", 10000, "")
    assert (new["hostname"], new["storage"], new["bridge"], new["diskGb"]) == ("client-portal", "clients-fast", "vmbr1", 8)
    assert (new["cores"], new["memoryMb"], new["swapMb"]) == (2, 2048, 512)
    assert (job["type"], job["cloudPodId"], job["requestedBy"]) == ("RESTORE", new["id"], "anna")
    assert job["payload"].items() >= {"fromPodId": source, "reason": "test the update", "vmid": 10000}.items()
    assert sql("SELECT used_memory_mb FROM cloud_pod_allocations WHERE cloud_pod_id = %s", new["id"]) == [(2048,)]
    given = finish(answer, NEW)
    assert given == {
        "vmid": 10000,
        "tenant_id": TENANT,
        "pod_id": new["id"],
        "run_id": f"{job['id']}.1",
        "archive": volid(9101, 2),
        "from_vmid": 9101,
        "from_pod_id": source,
        "hostname": "client-portal",
        "auto_ip": True,
        "storage": "clients-fast",
        "bridge": "vmbr1",
        "cores": 2,
        "memory_mb": 2048,
        "swap_mb": 512,
    }
    row = sql.row("cloud_pods", new["id"])
    assert (row["status"], row["ip"], row["power_state"]) == ("active", "10.1.10.91", "running")
    assert sql.row("cloud_pods", source)["status"] == "active"
    assert sql("SELECT type, data->>'action' FROM cloud_pod_events ORDER BY seq")[-1] == ("STATE_CHANGE", "RESTORED")


def test_as_new_may_differ_from_its_source(restore, source, finish):
    size = {"cores": 4, "memoryMb": 4096, "swapMb": 0}
    answer = restore(asNew=True, hostname="copy", vmid=9301, ip="10.1.10.91", node="lab1", **size)
    new = answer.json["cloudPod"]
    assert new.items() >= {"hostname": "copy", "vmid": 9301, "ip": "10.1.10.91", **size}.items()
    given = finish(answer, NEW)
    assert given["ip"] == "10.1.10.91"
    assert "auto_ip" not in given


def test_as_new_may_have_a_larger_share_of_the_disk_than_its_source(restore, source, sql):
    new = restore(asNew=True, diskGb=32).json["cloudPod"]
    assert new["diskGb"] == 32
    assert sql("SELECT used_disk_gb FROM cloud_pod_allocations WHERE cloud_pod_id = %s", new["id"]) == [(32,)]


def test_as_new_of_an_adopted_pod_takes_what_no_order_could_ask_for(restore, source, finish, sql):
    sql("UPDATE cloud_pods SET hostname = 'legacy_1', memory_mb = 2097152, disk_gb = 20000")
    answer = restore(asNew=True)
    assert answer.status_code == 202, answer.text
    assert answer.json["cloudPod"].items() >= {"hostname": "legacy-1", "memoryMb": 2097152, "diskGb": 20000}.items()
    assert finish(answer, NEW)["memory_mb"] == 2097152


def test_a_deleted_pod_comes_back_as_a_new_one(restore, source, sql):
    sql("UPDATE cloud_pods SET status = 'deleted', deleted_at = now()")
    for reference in (9101, source):
        answer = restore(reference, asNew=True)
        assert answer.json["cloudPod"]["hostname"] == "client-portal", answer.text
    answer = restore(source, asNew=True, vmid=9101)
    assert answer.json["cloudPod"]["vmid"] == 9101


def test_a_new_pod_that_was_not_restored_is_failed_and_frees_its_share(restore, source, finish, sql):
    answer = restore(asNew=True)
    finish(answer, failed("nothing"))
    row = sql.row("cloud_pods", answer.json["cloudPod"]["id"])
    assert (row["status"], row["error"]) == ("failed", "no space left")
    assert sql.value("SELECT count(*) FROM cloud_pod_allocations") == 1
    assert sql("SELECT type, data->>'action' FROM cloud_pod_events ORDER BY seq")[-1] == ("ERROR", "RESTORE_FAILED")


REFUSED = [
    ({"asNew": True, "force": True}, 422, "invalid_request", "force"),
    ({"asNew": "yes"}, 422, "invalid_request", "asNew"),
    ({"force": 1}, 422, "invalid_request", "force"),
    ({"force": True, "hostname": "copy"}, 422, "invalid_request", "hostname"),
    ({"force": True, "vmid": 9301, "autoIp": True}, 422, "invalid_request", "vmid"),
    ({"asNew": True, "vmid": 999}, 422, "invalid_request", "vmid"),
    ({"asNew": True, "vmid": 900009101}, 422, "invalid_request", "vmid"),
    ({"asNew": True, "vmid": 9101}, 409, "vmid_taken", "vmid"),
    ({"asNew": True, "ip": "10.1.10.90"}, 409, "ip_taken", "ip"),
    ({"asNew": True, "ip": "10.1.20.91"}, 422, "ip_not_allowed", "ip"),
    ({"asNew": True, "ip": "10.1.10.91", "autoIp": True}, 422, "invalid_request", "ip"),
    ({"asNew": True, "autoIp": False}, 422, "invalid_request", "ip"),
    ({"asNew": True, "hostname": "a;b"}, 422, "invalid_request", "hostname"),
    ({"asNew": True, "node": "lab2"}, 422, "archive_elsewhere", "node"),
    ({"asNew": True, "diskGb": 0}, 422, "invalid_request", "diskGb"),
    ({"force": True, "backupId": "a b"}, 422, "invalid_request", "backupId"),
    ({"force": True, "colour": "red"}, 422, "invalid_request", "colour"),
]


@pytest.mark.parametrize(("fields", "status", "code", "field"), REFUSED, ids=[f"{n}-{r[3]}" for n, r in enumerate(REFUSED)])
def test_a_bad_order_is_refused_by_field_and_writes_nothing(restore, source, sql, assert_problem, fields, status, code, field):
    before = sql.counts()
    assert_problem(restore(**fields), status, code, field=field)
    assert sql.counts() == before


def test_a_node_without_room_refuses_a_new_pod(restore, source, sql, assert_problem):
    sql("UPDATE cloud_pod_nodes SET total_memory_mb = 3000 WHERE name = 'lab1'")
    assert_problem(restore(asNew=True), 409, "no_capacity")


def test_a_vmid_is_not_given_to_another_tenant_while_archives_bear_it(api, source, sql, assert_problem):
    sql("UPDATE cloud_pods SET status = 'deleted', deleted_at = now(), ip = ''")
    body = {"hostname": "a", "cores": 1, "memoryMb": 512, "vmid": 9101}
    theirs = api.simulate_post("/internal/cloudpods", json={**body, "tenantId": OTHER_TENANT})
    assert_problem(theirs, 409, "vmid_taken", field="vmid", rule="archives")
    assert TENANT not in theirs.text
    sql("UPDATE cloud_pod_backups SET status = 'removed'")
    assert api.simulate_post("/internal/cloudpods", json={**body, "tenantId": OTHER_TENANT}).status_code == 202


def test_retention_rests_while_an_archive_of_the_pod_is_restored_elsewhere(restore, api, source, finish):
    def retention():
        return finish(api.simulate_post("/internal/cloudpods/9101/backup", json={"tenantId": TENANT}), failed("nothing"))

    order = restore(asNew=True)
    assert "retention" not in retention()
    finish(order, failed("nothing"))
    assert retention()["retention"] == {"keep_last": 2}


@pytest.fixture
def lost(rows, session):
    """Return a way to make a lost restore of some kind, and to settle it by what the node shows."""

    def settle(as_new, job_of_description="this", before="running", **other):
        pod = rows.pod(vmid=9101, status="provisioning" if as_new else "active", power_state=before)
        payload = {"vmid": 9101, "asNew": as_new, "archive": volid(9101), "backupId": "b"}
        job = rows.running("RESTORE", pod=pod, payload=payload, lost=True)
        by = job.id if job_of_description == "this" else job_of_description
        whole = {"vmid": 9101, "exists": True, "in_pool": True, "unfinished": False, "ip": "10.1.10.91", **SEEN}
        seen = {**whole, "owner": {"tenant": TENANT, "pod": pod}, "restored": {"job": by, "archive": volid(9101)}, **other}
        result = ACTIONS["RESTORE"].handler.settle(CloudPodJob.find(job.id), seen)
        return None if result is None else result["vmid"]

    return settle


@pytest.mark.parametrize("as_new", [True, False])
def test_a_lost_restore_that_the_node_finished_is_done(lost, as_new):
    assert lost(as_new) == 9101


@pytest.mark.parametrize("as_new", [True, False])
@pytest.mark.parametrize("other", [{"exists": False}, {"unfinished": True}, {"owner": None}, {"in_pool": False}], ids=str)
def test_a_lost_restore_of_what_is_not_this_pod_whole_runs_again(lost, as_new, other):
    assert lost(as_new, **other) is None


@pytest.mark.parametrize("by", ["another job", None])
def test_a_lost_restore_in_place_that_another_job_or_none_did_runs_again(lost, by):
    assert lost(False, by) is None


def test_a_lost_restore_in_place_of_a_pod_that_was_never_restored_runs_again(lost):
    assert lost(False, restored=None) is None


@pytest.mark.parametrize(("before", "after"), [("stopped", 9101), ("running", None), ("unknown", None)])
def test_a_lost_restore_in_place_that_was_not_started_again_runs_again(lost, before, after):
    assert lost(False, before=before, status="stopped") == after


def test_a_lost_restore_as_new_that_does_not_run_runs_again(lost):
    assert lost(True, status="stopped") is None
