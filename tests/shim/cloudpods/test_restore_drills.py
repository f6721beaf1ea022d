"""Restore drills over HTTP: what is ordered and refused, and what their end writes to the archive."""

import pytest

from shim.worker.playbook import Outcome

TENANT, OTHER_TENANT = "TENANT-123", "TENANT-456"
PATH = "/internal/cloudpods/9101/restore-drill"
PASSED = Outcome(
    {"vmid": 9101, "drill_vmid": 900009101, "passed": True, "verdict": "ok", "reasons": [], "duration_s": 12}, None
)


def volid(vmid, day=1):
    return f"vzdump-backups:backup/vzdump-lxc-{vmid}-2026_11_{day:02}-00_05_47.tar.zst"


def failed(msg="the pod does not start", *, retryable=False, **details):
    return Outcome(None, {"msg": msg, "retryable": retryable, "left_behind": "nothing", **(details or {"passed": False})})


@pytest.fixture
def pod(rows):
    """Make an active pod with two archives and return its id."""
    made = rows.pod(vmid=9101)
    for day in (1, 2):
        rows.backup(made, volid=volid(9101, day), created_at=f"2026-11-0{day}")
    return made


@pytest.fixture
def drill(api):
    """Return a way to order a drill."""
    return lambda path=PATH, tenant=TENANT, **fields: api.simulate_post(path, json={"tenantId": tenant, **fields})


@pytest.fixture
def archive(api):
    """Return a way to see an archive of the pod as clients do, by its day."""

    def see(day):
        items = api.simulate_get("/internal/cloudpods/9101/backups").json["items"]
        return next(item for item in items if item["volid"] == volid(9101, day))

    return see


def last_event(sql):
    return sql("SELECT type, data->>'action' FROM cloud_pod_events ORDER BY seq")[-1]


@pytest.mark.parametrize("prefix", ["/internal", "/api"])
def test_a_drill_that_passed_is_noted_on_the_newest_archive(pod, drill, finish, archive, sql, prefix):
    answer = drill(PATH.replace("/internal", prefix))
    job = answer.json["job"]
    assert (job["type"], job["cloudPodId"]) == ("RESTORE_DRILL", pod)
    run = {"vmid": 9101, "tenant_id": TENANT, "pod_id": pod, "run_id": f"{job['id']}.1", "archive": volid(9101, 2)}
    assert finish(answer, PASSED) == run
    assert (archive(2)["drillPassed"], archive(2)["drillError"], archive(1)["drillPassed"]) == (True, None, None)
    assert archive(2)["drilledAt"]
    assert last_event(sql) == ("BACKUP", "RESTORE_DRILL_PASSED")


def test_an_older_archive_can_be_drilled(pod, drill, archive):
    assert drill(backupId=archive(1)["id"]).json["job"]["payload"]["archive"] == volid(9101, 1)


def test_a_drill_leaves_the_pod_alone(pod, drill, finish, sql):
    before = sql.row("cloud_pods", pod)
    finish(drill(), failed())
    finish(drill(), PASSED)
    assert sql.row("cloud_pods", pod) == before


def test_a_drill_that_failed_is_noted_with_its_reason(pod, drill, finish, archive, sql):
    finish(drill(), failed())
    assert (archive(2)["drillPassed"], archive(2)["drillError"]) == (False, "the pod does not start")
    assert archive(2)["drilledAt"]
    assert last_event(sql) == ("ERROR", "RESTORE_DRILL_FAILED")
    finish(drill(), PASSED)
    assert (archive(2)["drillPassed"], archive(2)["drillError"]) == (True, None)


@pytest.mark.parametrize(
    "details",
    [{"retryable": True}, {"retryable": True, "stderr": ""}, {"retryable": False, "stderr": ""}],
    ids=["another run may end otherwise", "the node is away", "the node is not let in"],
)
def test_a_drill_that_could_not_be_held_says_nothing_about_the_archive(pod, drill, finish, archive, sql, details):
    answer = drill()
    sql("UPDATE cloud_pod_jobs SET max_tries = 1")
    finish(answer, failed("cannot reach node lab1", **details))
    seen = archive(2)
    assert (seen["drilledAt"], seen["drillPassed"], seen["drillError"]) == (None, None, "cannot reach node lab1")
    assert last_event(sql) == ("ERROR", "RESTORE_DRILL_FAILED")


def test_a_drill_that_passed_but_left_its_copy_says_both(pod, drill, finish, archive, sql):
    left = {"msg": "its copy could not be removed", "retryable": False, "left_behind": "container 900009101", "passed": True}
    finish(drill(), Outcome(None, left))
    seen = archive(2)
    assert (seen["drillPassed"], seen["drillError"]) == (True, "its copy could not be removed")
    assert last_event(sql) == ("ERROR", "RESTORE_DRILL_FAILED")


@pytest.mark.parametrize("result", [{}, {"passed": False}, {"passed": None}, {"passed": "yes"}], ids=str)
def test_a_drill_that_ended_well_without_having_passed_has_not_passed(pod, drill, finish, archive, result):
    finish(drill(), Outcome(result, None))
    assert archive(2)["drillPassed"] is None
    assert "unusable" in archive(2)["drillError"]


def test_one_drill_of_a_pod_at_a_time(pod, drill, finish, assert_problem):
    first = drill()
    again = drill()
    assert_problem(again, 409, "job_pending")
    assert again.json["jobId"] == first.json["job"]["id"]
    finish(first, PASSED)
    assert drill().status_code == 202


def test_a_deleted_pods_archives_can_be_drilled(pod, drill, sql):
    sql("UPDATE cloud_pods SET status = 'deleted', deleted_at = now()")
    assert drill().status_code == 202


def test_another_tenants_pod_is_not_there(pod, drill, sql, assert_problem):
    assert_problem(drill(tenant=OTHER_TENANT), 404, "cloudpod_not_found")
    assert sql.counts()["cloud_pod_jobs"] == 0


def test_without_a_backup_there_is_nothing_to_drill(rows, drill, assert_problem):
    rows.pod(vmid=9101)
    assert_problem(drill(), 404, "backup_not_found")


def test_a_vmid_that_leaves_none_for_the_drill_is_refused(rows, drill, assert_problem):
    for vmid, status in ((99_999_999, 202), (100_000_000, 409)):
        rows.backup(rows.pod(vmid=vmid), volid=volid(vmid))
        answer = drill(f"/internal/cloudpods/{vmid}/restore-drill")
        assert answer.status_code == status
    assert_problem(answer, 409, "vmid_not_drillable")


@pytest.mark.parametrize("fields", [{"force": True}, {"backupId": 5}, {"reason": 5}], ids=str)
def test_a_bad_order_is_refused(pod, drill, assert_problem, fields):
    assert_problem(drill(**fields), 422, "invalid_request", field=next(iter(fields)))
