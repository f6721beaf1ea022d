"""Orders with conditions: a backup first, a protected pod, a version that must still be the one read, and parts of a size."""

import pytest

from shim import db
from shim.jobs.catalog import ACTIONS
from shim.jobs.claim import claim
from shim.jobs.many import to_announce
from shim.jobs.models import CloudPodJob
from shim.worker import outcome
from shim.worker.playbook import Outcome

TENANT, OTHER_TENANT = "TENANT-123", "TENANT-456"
POD = "/internal/cloudpods/9101"
FIRST = {"tenantId": TENANT, "backupFirst": True}
ARCHIVE = {"archive": {"volid": "a:backup/b", "storage": "a", "size_bytes": 1, "mode": "snapshot"}, "changed": True}
NO_SPACE = {"msg": "no space left", "retryable": False, "left_behind": "nothing"}


def order(api, verb, **body):
    return api.simulate_post(f"{POD}/{verb}", json={"tenantId": TENANT, **body})


def take():
    """Claim the best job; return its id."""
    with db.session():
        job = claim(list(ACTIONS), worker="w1", lease_s=60)
        return job.id if job else None


def end(job_id, result=None, failure=None):
    """End a claimed job."""
    with db.session():
        outcome.write(CloudPodJob.find(job_id), Outcome(result, failure))


@pytest.fixture(params=["destroy", "scale"])
def after_backup(request, api, rows):
    """Order a change with a backup first; return the answer."""
    rows.pod(vmid=9101)
    size = {"newCores": 4} if request.param == "scale" else {}
    answer = order(api, request.param, backupFirst=True, **size)
    assert answer.status_code == 202, answer.text
    return answer.json


def test_the_change_waits_for_its_backups_success(after_backup, sql):
    job, backup = after_backup["job"], after_backup["backupJob"]
    assert (backup["type"], job["afterJobId"]) == ("BACKUP", backup["id"])
    assert [take(), take()] == [backup["id"], None]
    with db.session():
        assert to_announce([job["type"]], 10, 0.0) == []
    end(backup["id"], ARCHIVE)
    with db.session():
        assert to_announce([job["type"]], 10, 0.0) == [(job["id"], job["type"])]
    assert take() == job["id"]
    assert sql.value("SELECT count(*) FROM cloud_pod_backups") == 1


def test_when_the_backup_fails_the_change_never_begins_and_the_pod_stays(after_backup, sql):
    job, backup = after_backup["job"], after_backup["backupJob"]
    take()
    end(backup["id"], failure=NO_SPACE)
    row = sql.row("cloud_pod_jobs", job["id"])
    assert (row["status"], row["tries"], row["attempt"]) == ("failed", 0, 0)
    assert "no space left" in row["error"]
    assert backup["id"] in row["error"]
    pod = sql.row("cloud_pods", job["cloudPodId"])
    assert (pod["status"], pod["cores"]) == ("active", 2)
    assert sql("SELECT used_cpu_cores FROM cloud_pod_allocations") == [(2,)]
    assert sql.value("SELECT count(*) FROM quota_entries WHERE state = 'reserved'") == 0
    told = sql("SELECT data->>'action' FROM cloud_pod_events WHERE job_id = %s", job["id"])
    assert {("DESTROY_NOT_BEGUN",), ("SCALE_FAILED",)} & set(told)
    assert take() is None


def test_what_a_pod_is_not_whole_for_is_told_still_when_its_end_was_not_begun(api, rows, sql):
    pod = rows.pod(vmid=9101, error="not restored; restore it again")
    answer = order(api, "destroy", backupFirst=True)
    take()
    end(answer.json["backupJob"]["id"], failure=NO_SPACE)
    row = sql.row("cloud_pods", pod)
    assert (row["status"], row["error"]) == ("active", "not restored; restore it again")


def test_a_backup_that_is_tried_again_keeps_the_change_waiting(after_backup, sql):
    job, backup = after_backup["job"], after_backup["backupJob"]
    take()
    end(backup["id"], failure={**NO_SPACE, "retryable": True})
    assert sql.row("cloud_pod_jobs", job["id"])["status"] == "queued"
    assert take() is None


def test_a_destroy_after_a_backup_marks_the_pod_at_once_and_is_not_asked_for_twice(api, rows, sql, assert_problem):
    pod = rows.pod(vmid=9101)
    order(api, "destroy", backupFirst=True)
    assert sql.row("cloud_pods", pod)["status"] == "deleting"
    assert_problem(order(api, "destroy"), 409, "job_pending")


@pytest.mark.parametrize("status", ["failed", "provisioning", "deleting"])
def test_only_an_active_pod_is_backed_up_before_its_end(api, rows, sql, assert_problem, status):
    rows.pod(vmid=9101, status=status)
    assert_problem(order(api, "destroy", backupFirst=True), 409, "cloudpod_not_active")
    assert sql.counts()["cloud_pod_jobs"] == 0


def put(api, document, **headers):
    return api.simulate_put(POD, json=document, headers=headers)


def test_a_protected_pod_is_not_destroyed_until_it_is_not(api, rows, sql, assert_problem):
    pod = rows.pod(vmid=9101)
    answer = put(api, {"protected": True})
    assert (answer.status_code, answer.json["protected"]) == (200, True)
    assert_problem(order(api, "destroy"), 409, "pod_protected")
    assert_problem(order(api, "destroy", backupFirst=True), 409, "pod_protected")
    assert (sql.row("cloud_pods", pod)["status"], sql.counts()["cloud_pod_jobs"]) == ("active", 0)
    assert put(api, {"protected": False}).json["protected"] is False
    assert order(api, "destroy").status_code == 202
    told = sql("SELECT data->>'action', tenant_id FROM cloud_pod_events WHERE cloud_pod_id = %s AND job_id IS NULL", pod)
    assert told == [("PROTECTED", TENANT), ("UNPROTECTED", TENANT)]


def test_protecting_a_protected_pod_is_no_change(api, rows, sql):
    rows.pod(vmid=9101, protected=True)
    before = api.simulate_get(POD).headers["etag"]
    assert put(api, {"protected": True, "tenantId": TENANT}).headers["etag"] == before
    assert sql.counts()["cloud_pod_events"] == 0


def test_another_tenants_pod_is_not_protected(api, rows, sql, assert_problem):
    pod = rows.pod(vmid=9101)
    assert_problem(put(api, {"protected": True, "tenantId": OTHER_TENANT}), 404, "cloudpod_not_found")
    assert sql.row("cloud_pods", pod)["protected"] is False


@pytest.mark.parametrize(
    ("document", "field"), [({}, "protected"), ({"protected": 1}, "protected"), ({"protected": True, "cores": 9}, "cores")]
)
def test_a_bad_edit_is_refused(api, rows, assert_problem, document, field):
    rows.pod(vmid=9101)
    assert_problem(put(api, document), 422, "invalid_request", field=field)


def test_a_deleted_pod_is_not_edited(api, rows, assert_problem):
    rows.pod(vmid=9101, status="deleted")
    assert_problem(put(api, {"protected": True}), 409, "cloudpod_deleted")


@pytest.mark.parametrize("protected", [True, False])
def test_a_pod_that_is_being_destroyed_is_not_edited(api, rows, sql, assert_problem, protected):
    pod = rows.pod(vmid=9101)
    assert order(api, "destroy", backupFirst=True).status_code == 202
    assert_problem(put(api, {"protected": protected}), 409, "cloudpod_not_active")
    assert sql.row("cloud_pods", pod)["protected"] is False


@pytest.mark.parametrize("how", ["put", "scale", "destroy", "actions"])
def test_a_change_of_what_was_read_too_long_ago_is_refused(api, rows, sql, assert_problem, how):
    rows.pod(vmid=9101)
    stale = api.simulate_get(POD).headers["etag"]
    fresh = put(api, {"protected": True}).headers["etag"]
    put(api, {"protected": False})
    now = api.simulate_get(POD).headers["etag"]
    assert len({stale, fresh, now}) == 3

    def change(tag):
        if how == "put":
            return put(api, {"protected": True}, **{"If-Match": tag})
        body = {"tenantId": TENANT, **({"newCores": 4} if how == "scale" else {})}
        body = {**body, "action": "backup"} if how == "actions" else body
        return api.simulate_post(f"{POD}/{how}", json=body, headers={"If-Match": tag})

    assert_problem(change(stale), 412, "precondition_failed")
    assert sql.counts()["cloud_pod_jobs"] == 0
    assert change(now).status_code in (200, 202)


def test_what_a_scale_does_not_name_stays(api, rows, sql, finish):
    pod = rows.pod(vmid=9101)
    result = {"cloudpod": {"status": "running"}, "pending": [], "changed": True}
    given = finish(order(api, "scale", newCores=4), Outcome(result, None))
    assert (given["cores"], given["memory_mb"], "swap_mb" in given, given["force"]) == (4, 2048, False, False)
    given = finish(order(api, "scale", newMemoryMb=4096, force=True), Outcome(result, None))
    assert (given["cores"], given["memory_mb"], given["force"]) == (4, 4096, True)
    given = finish(order(api, "scale", swapMb=0), Outcome(result, None))
    assert given["swap_mb"] == 0
    row = sql.row("cloud_pods", pod)
    assert (row["cores"], row["memory_mb"], row["swap_mb"]) == (4, 4096, 0)
    assert sql("SELECT used_cpu_cores, used_memory_mb FROM cloud_pod_allocations") == [(4, 4096)]


@pytest.mark.parametrize(
    ("status", "pending", "effect"),
    [
        ("running", [], {"cores": "now", "memoryMb": "now"}),
        ("running", ["memory", "searchdomain"], {"cores": "now", "memoryMb": "at next start"}),
        ("stopped", [], {"cores": "at next start", "memoryMb": "at next start"}),
    ],
)
def test_a_scale_says_what_takes_effect_when(api, rows, sql, finish, status, pending, effect):
    rows.pod(vmid=9101)
    answer = order(api, "scale", newCores=4, newMemoryMb=4096)
    finish(answer, Outcome({"cloudpod": {"status": status}, "pending": pending, "changed": True}, None))
    assert sql.row("cloud_pod_jobs", answer.json["job"]["id"])["result"]["takesEffect"] == effect


def test_growth_is_booked_at_once_and_given_back_when_it_fails(api, rows, sql, finish):
    rows.pod(vmid=9101)
    answer = order(api, "scale", newCores=4, newMemoryMb=4096)
    assert sql("SELECT used_cpu_cores, used_memory_mb FROM cloud_pod_allocations") == [(4, 4096)]
    finish(answer, Outcome(None, NO_SPACE))
    assert sql("SELECT used_cpu_cores, used_memory_mb FROM cloud_pod_allocations") == [(2, 2048)]


def test_growth_that_the_node_has_no_room_for_is_refused_and_shrinking_is_not(api, rows, sql, assert_problem):
    rows.pod(vmid=9101)
    sql("UPDATE cloud_pod_nodes SET total_memory_mb = 3000, total_cpu_cores = 1, cpu_overcommit = 3")
    assert_problem(order(api, "scale", newMemoryMb=3001), 409, "no_capacity")
    assert_problem(order(api, "scale", newCores=4), 409, "no_capacity")
    assert sql("SELECT used_cpu_cores, used_memory_mb FROM cloud_pod_allocations") == [(2, 2048)]
    assert order(api, "scale", newMemoryMb=3000, newCores=3).status_code == 202
    sql("UPDATE cloud_pod_nodes SET total_memory_mb = 1")
    assert order(api, "scale", newMemoryMb=1024).status_code == 202
