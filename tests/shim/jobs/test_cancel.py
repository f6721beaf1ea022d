"""POST …/jobs/{id}/cancel: at once what nobody began, as if it had never been ordered; asked for what was."""

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from shim import db
from shim.jobs import cancel, ending, state
from shim.jobs.catalog import ACTIONS
from shim.jobs.claim import claim
from shim.jobs.models import CloudPodJob

TENANT, OTHER_TENANT = "TENANT-123", "TENANT-456"
NEW = {"tenantId": TENANT, "hostname": "a", "cores": 1, "memoryMb": 512}
SIZE = {"newCores": 4, "newMemoryMb": 4096}
HELD = "status = 'running', attempt = 1, tries = %s, lease_until = now() + interval '1 hour', started_at = now()"
# What an order may write to, in an order that does not change.
KEPT = {
    "pods": "SELECT id, vmid, ip, status, error, power_state, wanted_power, cores, memory_mb FROM cloud_pods ORDER BY id",
    "shares": "SELECT cloud_pod_id, used_cpu_cores, used_memory_mb, used_disk_gb FROM cloud_pod_allocations ORDER BY 1",
    "quota": "SELECT tenant_id, used_cloud_pods, used_cpu_cores, used_ram_mb, used_disk_gb FROM tenant_quotas ORDER BY 1",
    "open": "SELECT job_id FROM quota_entries WHERE state = 'reserved'",
    "snapshots": "SELECT name, status FROM cloud_pod_snapshots ORDER BY name",
    "backups": "SELECT id, status, drilled_at, drill_error FROM cloud_pod_backups ORDER BY id",
}


def kept(sql):
    return {name: sql(query) for name, query in KEPT.items()}


@pytest.fixture
def pod(rows, sql):
    """Make an active pod with a snapshot and an archive, and one of another tenant; return its id."""
    rows.pod("lab2", vmid=9201, tenant_id=OTHER_TENANT)
    made = rows.pod(vmid=9101, ip="10.1.10.91", power_state="running")
    rows.backup(made)
    sql(
        "INSERT INTO cloud_pod_snapshots (cloud_pod_id, name, status, cores, memory_mb) VALUES (%s, 'old', 'ready', 8, 512)",
        made,
    )
    return made


ORDERS = {
    "scale": ("POST", "/cloudpods/9101/scale", SIZE),
    "stop": ("POST", "/cloudpods/9101/actions", {"action": "stop"}),
    "start": ("POST", "/cloudpods/9101/actions", {"action": "start"}),
    "backup": ("POST", "/cloudpods/9101/backup", {}),
    "destroy": ("POST", "/cloudpods/9101/destroy", {}),
    "snapshot": ("POST", "/cloudpods/9101/snapshots", {"name": "new"}),
    "rollback": ("POST", "/cloudpods/9101/snapshots/old/rollback", {}),
    "delete snapshot": ("DELETE", f"/cloudpods/9101/snapshots/old?tenantId={TENANT}", None),
    "restore": ("POST", "/cloudpods/9101/restore", {"force": True}),
    "drill": ("POST", "/cloudpods/9101/restore-drill", {}),
    "dry run": ("POST", "/cloudpods/9101/scale?dryRun=1", SIZE),
    "dry run of a create": ("POST", "/cloudpods?dryRun=1", NEW),
    "look": ("POST", "/nodes/lab1/reconcile", None),
}


def order(api, method, path, body):
    answer = api.send(method, path, {"tenantId": TENANT, **body} if body is not None else None)
    assert answer.status_code == 202, answer.text
    return answer.json.get("job", answer.json)


def stop(api, job, **headers):
    return api.simulate_post(f"/internal/jobs/{job}/cancel", headers=headers)


@pytest.mark.parametrize("ordered", ORDERS.values(), ids=ORDERS)
def test_what_nobody_began_is_cancelled_as_if_it_had_never_been_ordered(api, pod, sql, ordered):
    before = kept(sql)
    job = order(api, *ordered)
    answer = stop(api, job["id"])
    assert (answer.status_code, answer.json["status"]) == (200, "cancelled"), answer.text
    assert answer.json["failure"]["left_behind"] == "nothing"
    assert answer.json["cancelRequestedBy"] == "service:test"
    assert kept(sql) == before
    told = sql(
        "SELECT data->>'action', data->>'cancelledBy' FROM cloud_pod_events WHERE %s IN (job_id, data->>'job')"
        " AND data->>'action' NOT LIKE 'QUOTA_%%' ORDER BY seq DESC LIMIT 1",
        job["id"],
    )
    assert told == [(f"{job['type']}_CANCELLED", "service:test")]


NEW_PODS = {
    "create": ("POST", "/cloudpods", NEW),
    "restore as new": ("POST", "/cloudpods/9101/restore", {"asNew": True}),
}


@pytest.mark.parametrize("ordered", NEW_PODS.values(), ids=NEW_PODS)
def test_a_new_pod_nobody_began_is_failed_and_frees_everything(api, pod, sql, ordered):
    before = kept(sql)
    job = order(api, *ordered)
    assert stop(api, job["id"]).json["status"] == "cancelled"
    made = sql.row("cloud_pods", job["cloudPodId"])
    assert (made["status"], made["error"]) == ("failed", "cancelled by service:test")
    after = kept(sql)
    after["pods"] = [row for row in after["pods"] if row[0] != made["id"]]
    assert after == before


WAS = {
    "a pod being made": ("queued", 0, "provisioning"),
    "a pod being made just now": ("running", 1, "provisioning"),
    "a pod that stands by now": ("success", 1, "active"),
    "a pod that came to nothing": ("failed", 1, "failed"),
}


@pytest.mark.parametrize(("status", "tries", "expected"), WAS.values(), ids=WAS)
def test_a_pod_whose_destruction_nobody_began_is_what_it_would_be_without(api, sql, status, tries, expected):
    made = order(api, "POST", "/cloudpods", NEW)
    destroy = order(api, "POST", f"/cloudpods/{made['cloudPodId']}/destroy", {})
    lease = "now() + interval '1 hour'" if status == "running" else "NULL"
    sql(f"UPDATE cloud_pod_jobs SET status = %s, tries = %s, lease_until = {lease} WHERE id = %s", status, tries, made["id"])
    assert stop(api, destroy["id"]).json["status"] == "cancelled"
    assert sql.row("cloud_pods", made["cloudPodId"])["status"] == expected


def test_a_destroy_ordered_again_and_cancelled_leaves_the_pod_deleting(api, pod, sql):
    first = order(api, "POST", "/cloudpods/9101/destroy", {})
    sql("UPDATE cloud_pod_jobs SET status = 'failed', tries = 5 WHERE id = %s", first["id"])
    again = order(api, "POST", "/cloudpods/9101/destroy", {})
    assert stop(api, again["id"]).json["status"] == "cancelled"
    assert sql.row("cloud_pods", pod)["status"] == "deleting"


def test_what_waits_for_a_cancelled_backup_fails_and_its_pod_stays(api, pod, sql):
    destroy = order(api, "POST", "/cloudpods/9101/destroy", {"backupFirst": True})
    backup = destroy["afterJobId"]
    assert stop(api, backup).json["status"] == "cancelled"
    ended = sql.row("cloud_pod_jobs", destroy["id"])
    assert (ended["status"], "was cancelled" in ended["error"]) == ("failed", True)
    assert sql.row("cloud_pods", pod)["status"] == "active"


def test_a_follower_is_cancelled_alone(api, pod, sql):
    scale = order(api, "POST", "/cloudpods/9101/scale", {**SIZE, "backupFirst": True})
    assert stop(api, scale["id"]).json["status"] == "cancelled"
    assert sql.row("cloud_pod_jobs", scale["afterJobId"])["status"] == "queued"


BEGUN = {
    "running": HELD % 1,
    "lost": "status = 'queued', attempt = 1, tries = 1, lost = true",
    "queued for another try": "status = 'queued', attempt = 1, tries = 1, run_after = now() + interval '1 hour'",
}


@pytest.mark.parametrize("begun", BEGUN.values(), ids=BEGUN)
@pytest.mark.parametrize("type", sorted(ACTIONS))
def test_what_was_begun_is_asked_to_end_before_all_others(api, rows, pod, sql, type, begun):
    job = rows.job(type, pod=pod)
    sql(f"UPDATE cloud_pod_jobs SET {begun} WHERE id = %s", job)
    before = kept(sql)
    answers = [stop(api, job), stop(api, job)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json == answers[1].json
    assert answers[0].json["cancelRequestedAt"]
    row = sql.row("cloud_pod_jobs", job)
    assert (row["priority"], row["cancel_requested_by"], row["status"]) == (0, "service:test", answers[0].json["status"])
    assert sql.value("SELECT run_after <= now() FROM cloud_pod_jobs WHERE id = %s", job)
    assert kept(sql) == before


@pytest.mark.parametrize("status", ["success", "failed"])
def test_what_is_over_cannot_be_cancelled(api, rows, pod, sql, assert_problem, status):
    job = rows.job(pod=pod, status=status)
    before = sql.row("cloud_pod_jobs", job)
    assert_problem(stop(api, job), 409, "job_over")
    assert sql.row("cloud_pod_jobs", job) == before


def test_what_is_cancelled_is_cancelled(api, rows, pod, sql):
    job = rows.job(pod=pod)
    assert [stop(api, job).status_code for _ in range(2)] == [200, 200]
    assert sql.value("SELECT count(*) FROM cloud_pod_events WHERE data->>'action' = 'BACKUP_CANCELLED'") == 1


def test_who_may(api, rows, pod, sql, assert_problem):
    job, nodes = rows.job(pod=pod), rows.job("RECONCILE", tenant_id=None)
    before = [sql.row("cloud_pod_jobs", each) for each in (job, nodes)]
    for role in ("dev", "billing"):
        assert_problem(stop(api, job, **api.as_user(role)), 403, "forbidden")
    assert_problem(stop(api, job, **api.as_user("owner", OTHER_TENANT)), 404, "job_not_found")
    assert_problem(stop(api, nodes, **api.as_user("owner")), 404, "job_not_found")
    assert_problem(stop(api, "%00"), 404, "job_not_found")
    assert [sql.row("cloud_pod_jobs", each) for each in (job, nodes)] == before
    answer = stop(api, job, **api.as_user("admin", user="user-7"))
    assert (answer.status_code, answer.json["cancelRequestedBy"]) == (200, "user-7")
    assert stop(api, nodes).json["status"] == "cancelled"


def both(*functions):
    """Call functions at the same moment, each in a thread of its own; return what they gave."""
    gate = threading.Barrier(len(functions))

    def one(function):
        gate.wait()
        with db.session():
            return function()

    with ThreadPoolExecutor(len(functions)) as pool:
        return [each.result() for each in [pool.submit(one, function) for function in functions]]


def test_two_at_once_cancel_once(tenants, rows, sql):
    pod = rows.pod()
    for _ in range(10):
        job = rows.job(pod=pod)
        first, second = both(partial(cancel.cancel, job, by="a"), partial(cancel.cancel, job, by="b"))
        assert first.cancel_requested_by == second.cancel_requested_by
        assert sql.value("SELECT count(*) FROM cloud_pod_events WHERE job_id = %s", job) == 1


def test_a_claim_at_the_same_moment_is_asked_to_end_or_finds_nothing(tenants, rows, sql):
    pod, ended = rows.pod(), set()
    for _ in range(15):
        job = rows.job(pod=pod)
        cancelled, claimed = both(partial(cancel.cancel, job), lambda: claim(["BACKUP"], worker="w", lease_s=30))
        row = sql.row("cloud_pod_jobs", job)
        if claimed is None:
            assert row["status"] == cancelled.status == "cancelled"
        else:
            assert (row["status"], row["cancel_requested_at"] is None) == ("running", False)
            sql("UPDATE cloud_pod_jobs SET status = 'failed', lease_until = NULL WHERE id = %s", job)
        ended.add(row["status"])
    assert ended <= {"cancelled", "running"}


def test_a_success_at_the_same_moment_is_one_or_the_others(tenants, rows, sql):
    pod = rows.pod()
    for _ in range(10):
        with db.session():
            job = rows.running("POWER", pod=pod, payload={"vmid": 9001, "action": "stop"})

        def ask(id=job.id):
            try:
                return cancel.cancel(id).status
            except cancel.Conflict as error:
                return error.code

        def succeed(job=job):
            with db.database.atomic():
                ending.succeed(job, {"changed": True})

        told, _ = both(ask, succeed)
        row = sql.row("cloud_pod_jobs", job.id)
        assert row["status"] == "success"
        too_late = sql.value(
            "SELECT count(*) FROM cloud_pod_events WHERE job_id = %s AND data->>'action' = 'CANCEL_TOO_LATE'", job.id
        )
        assert (told, too_late) in [("job_over", 0), ("running", 1), ("success", 1)]


def test_the_reaper_leaves_a_job_that_is_to_end_to_whoever_settles_it(tenants, rows, sql):
    with db.session():
        job = rows.running(pod=rows.pod())
        cancel.cancel(job.id)
        sql("UPDATE cloud_pod_jobs SET lease_until = now() - interval '1 s'")
        assert state.collect_lost() == [(job.id, "BACKUP")]
        settling = claim(["BACKUP"], worker="w", lease_s=30)
    assert (settling.id, settling.lost, settling.cancel_requested_at is None) == (job.id, True, False)


def test_a_requeue_does_not_make_a_job_that_is_to_end_wait(tenants, rows, sql):
    with db.session():
        job = rows.running(pod=rows.pod(), attempt=40)
        cancel.cancel(job.id)
        state.hand_back(job)
        assert claim(["BACKUP"], worker="w", lease_s=30).id == job.id
        # Whoever settles it and finds the node busy waits as long as usual.
        state.hand_back(CloudPodJob.find(job.id))
        assert claim(["BACKUP"], worker="w", lease_s=30) is None


def test_a_health_check_that_is_to_end_is_nobodys_answer(api, rows, sql):
    job = rows.job("HEALTH_CHECK", pod=rows.pod(vmid=9101))
    sql(f"UPDATE cloud_pod_jobs SET {HELD % 1} WHERE id = %s", job)
    assert stop(api, job).status_code == 202
    found = api.simulate_get("/internal/cloudpods/9101/health", params={"refresh": 1}).json["job"]
    assert (found["status"], found["id"] == job) == ("queued", False)


def test_a_lock_that_somebody_has_is_waited_for_not_for_ever(tenants, rows, sql, monkeypatch):
    job = rows.job(pod=rows.pod())
    monkeypatch.setattr(cancel, "PAUSE_S", 0.01)
    with db.session(), db.database.atomic():
        db.rows("SELECT 1 FROM cloud_pod_jobs WHERE id = %s FOR UPDATE", (job,))

        def ask():
            try:
                cancel.cancel(job)
            except cancel.Unavailable as error:
                return error.code

        assert both(ask) == ["busy"]
    assert both(lambda: cancel.cancel(job).status) == ["cancelled"]


def test_between_its_tries_a_cancel_holds_nothing(tenants, rows, sql, monkeypatch):
    """Also in a request's own transaction, as with an Idempotency-Key: an outcome that has the job may wait for its pod."""
    pod = rows.pod()
    job, free = rows.job(pod=pod), []
    monkeypatch.setattr(cancel, "LOOKS", 1)
    monkeypatch.setattr(
        cancel.time,
        "sleep",
        lambda _: free.extend(both(lambda: db.rows("SELECT 1 FROM cloud_pods WHERE id = %s FOR UPDATE NOWAIT", (pod,)))),
    )
    monkeypatch.setattr(state, "hold_unbegun", lambda _: False)
    with db.session(), db.database.atomic(), pytest.raises(cancel.Unavailable):
        cancel.cancel(job)
    assert free == [[(1,)]]


def test_a_follower_cancelled_at_the_same_moment_is_not_failed_as_well(api, pod, sql, monkeypatch):
    destroy = order(api, "POST", "/cloudpods/9101/destroy", {"backupFirst": True})
    waiting = CloudPodJob.waiting_for

    def found(job_id):
        jobs = waiting(job_id)
        if jobs:
            # By the time that it is written to, somebody cancelled it and ordered another.
            both(lambda: cancel.cancel(destroy["id"], by="a"))
            order(api, "POST", "/cloudpods/9101/destroy", {})
        return jobs

    monkeypatch.setattr(CloudPodJob, "waiting_for", found)
    with db.session():
        backup = CloudPodJob.find(destroy["afterJobId"])
        ending.fail_followers(backup, "no space")
    assert sql.row("cloud_pods", pod)["status"] == "deleting"
    assert sql.row("cloud_pod_jobs", destroy["id"])["status"] == "cancelled"
    told = "SELECT count(*) FROM cloud_pod_events WHERE job_id = %s AND data->>'action' LIKE 'DESTROY_%%'"
    assert sql.value(told, destroy["id"]) == 1
