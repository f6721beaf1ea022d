"""Jobs that were begun and are to end: what each action makes of what a look at the node shows, and what is left then."""

import datetime

import pytest
from psycopg2.extras import Json

from shim.jobs import cancel
from shim.jobs.models import CloudPodJob
from shim.worker import on_node, outcome, run
from shim.worker.playbook import Outcome

TENANT, OTHER_TENANT = "TENANT-123", "TENANT-456"
pytestmark = pytest.mark.usefixtures("session")

PAYLOADS = {
    "SCALE": {"newCores": 4, "newMemoryMb": 4096},
    "POWER": {"action": "stop"},
    "BACKUP": {"mode": "snapshot"},
    "SNAPSHOT": {"action": "create", "name": "new"},
    "RESTORE": {"asNew": False, "archive": "a:backup/b", "backupId": "b"},
    "RESTORE_DRILL": {"archive": "a:backup/b", "backupId": "b"},
}
NEW = {"asNew": True, "archive": "a:backup/b", "backupId": "b", "fromPodId": "p"}
GONE = {"exists": False}
ENDED = Outcome({"outcome": "ended"}, None)


@pytest.fixture
def begun(rows, sql):
    """Return a way to have a job, of an active pod unless said otherwise, that was begun, asked to end, and claimed again."""

    def make(type, *, payload=None, status="active", lost=True, tries=1, **columns):
        rows.pod("lab2", vmid=9201, tenant_id=OTHER_TENANT)
        pod = rows.pod(vmid=9101, status=status, power_state="running", ip="10.1.10.91")
        said = {"vmid": 9101, **PAYLOADS.get(type, {}), **(payload or {})}
        asked = {"cancel_requested_at": sql.value("SELECT now()"), "cancel_requested_by": "user-7", "priority": 0}
        return rows.running(type, pod=pod, payload=said, attempt=2, lost=lost, tries=tries, **{**asked, **columns})

    return make


@pytest.fixture
def settle(tenants, monkeypatch, sql):
    """Return a way to settle a job by what the node shows; it returns its row and its pod's."""

    def by(job, *shown, trouble=None, ended=ENDED):
        seen = list(shown)
        played = []
        monkeypatch.setattr(on_node, "look", lambda *_: (seen.pop(0) if seen else None, trouble))
        monkeypatch.setattr(on_node, "play", lambda *given: (played.append((given[3], given[4])), ended)[1])
        ending = run._ending(job, tenants, None)
        if ending is not None:
            outcome.write(job, ending)
        assert not seen
        assert played == [("cloudpod_cancel.yml", {"vmid": played[0][1]["vmid"], "run": job.id, "for_good": True})]
        return sql.row("cloud_pod_jobs", job.id), sql.row("cloud_pods", job.cloud_pod_id)

    return by


def look(job, **other):
    """Return what `cloudpod_info` says of a pod that is as the table has it, with these differences."""
    whole = {
        "vmid": 9101,
        "exists": True,
        "in_pool": True,
        "unfinished": False,
        "busy": None,
        "status": "running",
        "lock": None,
    }
    owner = {"tenant": TENANT, "pod": job.cloud_pod_id}
    size = {"ip": "10.1.10.91", "cores": 2, "memory_mb": 2048, "swap_mb": 512}
    return {**whole, "owner": owner, **size, "snapshots": [], "backups": [], "restored": None, **other}


HALF = {"name": "new", "job": None, "complete": False}
LEFT = [
    ("SCALE", {}, {}, "nothing"),
    ("SCALE", {}, {"cores": 4}, "container 9101 with cores 4, memory_mb 2048, swap_mb 512"),
    ("SCALE", {}, GONE, "unknown"),
    ("POWER", {}, {}, "nothing"),
    ("POWER", {"action": "start"}, {"status": "stopped"}, "container 9101, stopped"),
    ("POWER", {"action": "reboot"}, {"status": "stopped"}, "container 9101, stopped"),
    (
        "POWER",
        {"action": "shutdown"},
        {},
        "container 9101, running, whose guest may have been asked to shut down and may yet do so",
    ),
    ("BACKUP", {}, {}, "nothing"),
    ("BACKUP", {}, {"lock": "backup"}, "lock backup on container 9101"),
    ("BACKUP", {"mode": "stop"}, {"status": "stopped"}, "container 9101, stopped"),
    ("SNAPSHOT", {}, {}, "nothing"),
    ("SNAPSHOT", {}, {"snapshots": [HALF]}, "snapshot new of container 9101, half of it"),
    ("SNAPSHOT", {}, {"lock": "snapshot"}, "lock snapshot on container 9101"),
    ("SNAPSHOT", {"action": "delete"}, {"snapshots": [{**HALF, "complete": True}]}, "nothing"),
    ("SNAPSHOT", {"action": "rollback"}, {}, "container 9101, running; unknown whether it went back to new"),
    ("RESTORE", {}, {}, "nothing"),
    ("RESTORE", {}, {"status": "stopped"}, "container 9101, stopped"),
    ("RESTORE", {}, {"unfinished": True, "status": "stopped"}, "container 9101, unfinished: restore it again"),
    ("RESTORE", {}, GONE, "container 9101, gone: restore it again"),
    ("RESTORE_DRILL", {}, GONE, "nothing"),
    ("RESTORE_DRILL", {}, {}, "its copy, container 900009101; the next drill of the pod removes it"),
    ("DESTROY", {"before": "active"}, {}, "nothing"),
    ("DESTROY", {"before": "active"}, {"status": "stopped"}, "container 9101, stopped"),
]


@pytest.mark.parametrize(("type", "payload", "shown", "left"), LEFT)
def test_it_says_what_it_left(begun, settle, sql, type, payload, shown, left):
    job = begun(type, payload=payload, status="deleting" if type == "DESTROY" else "active")
    ended, pod = settle(job, look(job, **shown))
    assert (ended["status"], ended["failure"]["left_behind"], ended["failure"]["retryable"]) == ("cancelled", left, False)
    assert (pod["status"], pod["power_state"] in (shown.get("status", "running"), "unknown")) == ("active", True)
    assert ended["error"].startswith("cancelled by user-7")
    told = sql("SELECT type, data->>'action', data->>'leftBehind' FROM cloud_pod_events WHERE job_id = %s", job.id)
    assert told[0][1:] == (f"{type}_CANCELLED", left)
    assert sql("SELECT 1 FROM cloud_pod_jobs WHERE status <> 'cancelled'") == []


MADE = {"name": "new", "complete": True}
DONE = [
    ("SCALE", {}, {"cores": 4, "memory_mb": 4096}),
    ("POWER", {}, {"status": "stopped"}),
    ("SNAPSHOT", {"action": "delete"}, {}),
    ("BACKUP", {}, {"backups": True}),
    ("SNAPSHOT", {}, {"snapshots": True}),
    ("RESTORE", {}, {"restored": True}),
]


@pytest.mark.parametrize(("type", "payload", "shown"), DONE)
def test_what_was_done_all_the_same_is_a_success_and_told_to_be_too_late(begun, settle, sql, type, payload, shown):
    job = begun(type, payload=payload)
    of_job = {
        "backups": [{"volid": "s:backup/x", "pod": job.cloud_pod_id, "job": job.id, "size_bytes": 1}],
        "snapshots": [{**MADE, "job": job.id}],
        "restored": {"job": job.id, "archive": "a:backup/b"},
    }
    shown = {name: of_job[name] if value is True else value for name, value in shown.items()}
    ended, pod = settle(job, look(job, **shown))
    assert (ended["status"], ended["cancel_requested_by"], pod["status"]) == ("success", "user-7", "active"), ended["error"]
    assert sql.value("SELECT count(*) FROM cloud_pod_events WHERE data->>'action' = 'CANCEL_TOO_LATE'") == 1


@pytest.mark.parametrize("type", ["CREATE", "RESTORE"])
@pytest.mark.parametrize("shown", [{"unfinished": True, "status": "stopped"}, {"status": "stopped"}], ids=["half", "whole"])
def test_what_is_there_of_a_new_pod_is_destroyed(begun, settle, sql, type, shown):
    by = "anna+pods@example.com"
    job = begun(type, payload=NEW if type == "RESTORE" else {}, status="provisioning", requested_by=by)
    ended, pod = settle(job, look(job, **shown))
    assert (ended["status"], ended["failure"]["left_behind"], pod["status"]) == ("cancelled", "container 9101", "deleting")
    follower = "SELECT type, status, payload->>'before', requested_by FROM cloud_pod_jobs WHERE id <> %s"
    assert sql(follower, job.id) == [("DESTROY", "queued", "failed", by)]
    assert sql.value("SELECT count(*) FROM cloud_pod_allocations WHERE cloud_pod_id = %s", pod["id"]) == 1


NOT_OURS = {
    "gone": GONE,
    "somebody else's": {"owner": {"tenant": OTHER_TENANT, "pod": "x"}},
    "out of the pool": {"in_pool": False, "owner": None},
}


@pytest.mark.parametrize("type", ["CREATE", "RESTORE"])
@pytest.mark.parametrize("shown", NOT_OURS.values(), ids=NOT_OURS)
def test_of_a_new_pod_that_is_not_there_everything_is_free(begun, settle, sql, type, shown):
    job = begun(type, payload=NEW if type == "RESTORE" else {}, status="provisioning")
    ended, pod = settle(job, look(job, **shown))
    assert (ended["status"], ended["failure"]["left_behind"], pod["status"]) == ("cancelled", "nothing", "failed")
    assert sql("SELECT 1 FROM cloud_pod_jobs WHERE id <> %s", job.id) == []
    assert sql("SELECT 1 FROM cloud_pod_allocations WHERE cloud_pod_id = %s", pod["id"]) == []


def test_a_container_without_a_marker_is_left_alone(begun, settle, sql):
    """It may be somebody's own: nobody knows whose it is."""
    job = begun("CREATE", status="provisioning")
    ended, pod = settle(job, look(job, owner=None))
    assert (ended["failure"]["left_behind"], pod["status"]) == ("container 9101", "failed")
    assert sql("SELECT 1 FROM cloud_pod_jobs WHERE id <> %s", job.id) == []


@pytest.mark.parametrize("shown", [GONE, {"lock": "destroyed", "status": "stopped"}], ids=["gone", "half"])
def test_a_pod_that_is_gone_is_destroyed_to_its_end(begun, settle, sql, shown):
    job = begun("DESTROY", payload={"before": "active"}, status="deleting")
    ended, pod = settle(job, look(job, **shown))
    assert (ended["status"], pod["status"]) == ("cancelled", "deleting")
    assert sql("SELECT type, status FROM cloud_pod_jobs WHERE id <> %s", job.id) == [("DESTROY", "queued")]


@pytest.mark.parametrize("known_by", ["its row", "a look"])
def test_a_pod_that_was_moved_is_neither_destroyed_nor_forgotten(begun, settle, rows, sql, known_by):
    job = begun("DESTROY", payload={"before": "active"}, status="deleting")
    there = rows.node_id("lab2")
    if known_by == "its row":
        sql("UPDATE cloud_pods SET node_id = %s WHERE id = %s", there, job.cloud_pod_id)
    else:
        copy = [{"kind": "duplicate", "vmid": 9101, "cloudPodId": job.cloud_pod_id, "tenantId": TENANT}]
        report = "INSERT INTO drift_reports (node_id, job_id, checked, items, looked_at) VALUES (%s, 'j', 1, %s, now())"
        sql(report, there, Json(copy))
    ended, pod = settle(job, look(job, **GONE))
    assert (ended["status"], pod["status"]) == ("cancelled", "active")
    assert ended["failure"]["left_behind"] == "unknown: container 9101 is on another node by now"
    assert sql("SELECT 1 FROM cloud_pod_jobs WHERE id <> %s", job.id) == []


def test_an_adoption_leaves_its_marker(begun, settle, sql):
    job = begun("ADOPT", status="provisioning")
    ended, pod = settle(job, look(job))
    assert (ended["status"], pod["status"]) == ("cancelled", "failed")
    assert ended["failure"]["left_behind"].startswith(f"the marker of pod {pod['id']} on container 9101")


READS = ["HEALTH_CHECK", "POD_SCAN", "HEALTH_SWEEP", "RECONCILE", "NODE_SYNC"]


@pytest.mark.parametrize("type", [*READS, "SCALE", "CREATE"])
def test_what_only_looks_or_rehearses_is_cancelled_without_a_look(begun, tenants, sql, type):
    job = begun(type, dry_run=type not in READS)
    ending = run._ending(job, tenants, None)
    outcome.write(job, ending)
    ended = sql.row("cloud_pod_jobs", job.id)
    assert (ended["status"], ended["failure"]["left_behind"]) == ("cancelled", "nothing")
    assert sql.row("cloud_pods", job.cloud_pod_id)["status"] == "active"


def test_what_was_claimed_and_not_begun_needs_no_look(begun, tenants, sql):
    job = begun("CREATE", status="provisioning", lost=False, tries=0)
    outcome.write(job, run._ending(job, tenants, None))
    assert sql.row("cloud_pods", job.cloud_pod_id)["status"] == "failed"


BUSY = {"pid": 7, "run": "another.1", "script": "cloudpod-backup", "since": "2026-11-21T00:00:00Z"}


def test_while_the_node_is_busy_or_does_not_say_the_job_waits_and_is_never_run(begun, settle, tenants, sql):
    job = begun("SCALE")
    ended, _ = settle(job, look(job, busy=BUSY))
    assert (ended["status"], ended["lost"], ended["tries"]) == ("queued", True, 1)
    sql("UPDATE cloud_pod_jobs SET status = 'running', attempt = 3, lease_until = now() + interval '1 h' WHERE id = %s", job.id)
    job.attempt, job.status = 3, "running"
    trouble = {"msg": "no route", "looking": True}
    ended, _ = settle(job, None, trouble=trouble)
    assert (ended["status"], ended["error"]) == ("queued", "no route")


@pytest.mark.parametrize(("age_s", "status"), [(0, "queued"), (121, "cancelled")])
def test_a_node_that_cannot_be_told_to_begin_nothing_more_is_believed_only_later(begun, settle, sql, age_s, status):
    """A call may be on its way there still, and make after the look what the look did not see."""
    since = sql.value("SELECT now()") - datetime.timedelta(seconds=age_s)
    job = begun("CREATE", status="provisioning", cancel_requested_at=since)
    old = Outcome(None, {"msg": "sudo: a password is required", "retryable": False, "left_behind": "nothing"})
    ended, pod = settle(job, look(job, **GONE), ended=old)
    assert (ended["status"], ended["lost"]) == (status, status == "queued")
    assert pod["status"] == ("provisioning" if status == "queued" else "failed")


class TwoDaysAhead(datetime.datetime):
    """The clock of a host that somebody set."""

    @classmethod
    def now(cls, tz=None):
        """Return the time that it takes it to be."""
        return super().now(tz) + datetime.timedelta(days=2)


@pytest.mark.parametrize("shown", [{"busy": {"run": "another.1"}}, GONE], ids=["busy", "not told"])
def test_how_long_was_waited_the_database_says_not_the_workers_clock(begun, settle, monkeypatch, shown):
    for where in (run, outcome):
        monkeypatch.setattr(where, "datetime", TwoDaysAhead, raising=False)
    job = begun("CREATE", status="provisioning")
    old = Outcome(None, {"msg": "sudo: a password is required", "retryable": False, "left_behind": "nothing"})
    assert settle(job, look(job, **shown), ended=old)[0]["status"] == "queued"


def test_a_node_that_never_says_is_waited_for_a_day(begun, settle, sql):
    before = sql.value("SELECT now()") - outcome.WAIT_AT_MOST
    job = begun("SCALE", cancel_requested_at=before)
    ended, pod = settle(job, look(job, busy=BUSY))
    assert (ended["status"], ended["failure"]["left_behind"].split(":")[0]) == ("cancelled", "unknown")
    assert pod["status"] == "active"


BROKEN = {
    "no address": {"ip": None},
    "another pod's address": {"ip": "10.1.10.99"},
    "an unusable owner": {"owner": "anna"},
}


@pytest.mark.parametrize("shown", BROKEN.values(), ids=BROKEN)
def test_a_node_that_says_what_is_unusable_is_not_asked_again(begun, settle, rows, sql, shown):
    job = begun("CREATE", status="provisioning")
    rows.pod(vmid=9102, ip="10.1.10.99")
    ended, pod = settle(job, look(job, **shown))
    assert (ended["status"], ended["failure"]["left_behind"].split(":")[0]) == ("cancelled", "unknown")
    # What is its own for sure is taken away; of what is not a person decides.
    followers = sql("SELECT type FROM cloud_pod_jobs WHERE id <> %s", job.id)
    assert (pod["status"], followers) == (("failed", []) if "owner" in shown else ("deleting", [("DESTROY",)]))
    assert sql.value("SELECT count(*) FROM cloud_pod_allocations WHERE cloud_pod_id = %s", pod["id"]) == 1


def test_a_restore_whose_pod_shows_too_little_is_cancelled_all_the_same(begun, settle):
    job = begun("RESTORE")
    ended, pod = settle(job, {"vmid": 9101, "exists": True, "restored": "yes"})
    assert (ended["status"], ended["failure"]["left_behind"].split(":")[0]) == ("cancelled", "unknown")
    assert pod["status"] == "active"


BEFORE_IT_BEGAN = {
    "busy": {"msg": "another run has it", "rc": 75, "retryable": True, "left_behind": "nothing"},
    "refused": {"msg": "ssh: connect to host", "retryable": True, "left_behind": "nothing"},
}


@pytest.mark.parametrize("failure", BEFORE_IT_BEGAN.values(), ids=BEFORE_IT_BEGAN)
def test_what_a_lost_run_left_is_not_forgotten_by_one_that_cannot_begin(rows, sql, tenants, monkeypatch, failure):
    pod = rows.pod(vmid=9101, status="provisioning")
    job = rows.running("CREATE", pod=pod, payload={"vmid": 9101}, lost=True, tries=1, max_tries=2)
    half = look(job, unfinished=True, status="stopped")
    monkeypatch.setattr(on_node, "look", lambda *_: (half, None))
    monkeypatch.setattr(on_node, "play", lambda *_: Outcome(None, failure))
    # So that it waits no longer for what is busy.
    sql("UPDATE cloud_pod_jobs SET created_at = now() - interval '2 days' WHERE id = %s", job.id)
    job = CloudPodJob.find(job.id)
    outcome.write(job, run._ending(job, tenants, None))
    ended = sql.row("cloud_pod_jobs", job.id)
    assert (ended["status"], ended["failure"]["left_behind"]) == ("failed", "container 9101")
    assert sql.value("SELECT count(*) FROM cloud_pod_allocations WHERE cloud_pod_id = %s", pod) == 1


@pytest.mark.parametrize("failure", BEFORE_IT_BEGAN.values(), ids=BEFORE_IT_BEGAN)
def test_nor_when_it_is_cancelled_meanwhile(rows, sql, tenants, monkeypatch, failure):
    pod = rows.pod(vmid=9101, status="provisioning")
    job = rows.running("CREATE", pod=pod, payload={"vmid": 9101}, lost=True, tries=1)
    half = look(job, unfinished=True, status="stopped")
    monkeypatch.setattr(on_node, "look", lambda *_: (half, None))
    monkeypatch.setattr(on_node, "play", lambda *_: Outcome(None, failure))
    ending = run._ending(job, tenants, None)
    cancel.cancel(job.id, by="a")
    outcome.write(job, ending)
    ended = sql.row("cloud_pod_jobs", job.id)
    assert (ended["status"], ended["lost"], ended["failure"]["left_behind"]) == ("queued", True, "container 9101")


STOPPED = {"msg": "the run was ended: cancelled by a", "retryable": True, "left_behind": "unknown", "stopped": True}
CLEAN = {"msg": "no space", "retryable": True, "left_behind": "nothing"}
BUSY_RC = {**CLEAN, "rc": 75}


@pytest.mark.parametrize("type", ["SCALE", "DESTROY"])
@pytest.mark.parametrize(
    ("failure", "status"),
    [(STOPPED, "queued"), (CLEAN, "queued"), (BUSY_RC, "cancelled")],
    ids=["ended", "failed", "not tried"],
)
def test_a_run_that_ends_after_it_was_asked_to_is_looked_into_unless_it_tried_nothing(rows, sql, type, failure, status):
    pod = rows.pod(status="deleting" if type == "DESTROY" else "active")
    job = rows.running(type, pod=pod, payload={"vmid": 9001, **PAYLOADS.get(type, {})})
    cancel.cancel(job.id, by="a")
    outcome.write(job, Outcome(None, failure))
    row = sql.row("cloud_pod_jobs", job.id)
    assert (row["status"], row["lost"], row["tries"]) == (status, status == "queued", 1)
    assert sql.value("SELECT run_after <= now() FROM cloud_pod_jobs")
    assert status == "queued" or sql.row("cloud_pods", pod)["status"] == "active"


def test_a_run_that_succeeds_after_it_was_asked_to_end_has_succeeded(rows, sql):
    job = rows.running("SCALE", pod=rows.pod(vmid=9101), payload={"vmid": 9101, **PAYLOADS["SCALE"]})
    cancel.cancel(job.id, by="a")
    outcome.write(job, Outcome({"changed": True}, None))
    assert sql.row("cloud_pod_jobs", job.id)["status"] == "success"
    assert sql.value("SELECT count(*) FROM cloud_pod_events WHERE data->>'action' = 'CANCEL_TOO_LATE'") == 1


# For how long it is at work by its node's clock, and since when its job by ours.
AGES = {
    "within its time": (119, 3600, False),
    "a node whose clock is behind": (419, 3600, False),
    "too long": (421, 3600, True),
    "begun just now, wherever the node's clock is": (9000, 60, False),
}


@pytest.mark.parametrize(("age_s", "begun_s", "ended"), AGES.values(), ids=AGES)
def test_a_lost_run_that_is_at_work_is_ended_when_it_took_longer_than_it_may(rows, tenants, monkeypatch, age_s, begun_s, ended):
    now = datetime.datetime.now(datetime.UTC)
    begun = now - datetime.timedelta(seconds=begun_s)
    payload = {"vmid": 9101, **PAYLOADS["SCALE"]}
    job = rows.running("SCALE", pod=rows.pod(vmid=9101), payload=payload, lost=True, started_at=begun)
    since = (now - datetime.timedelta(seconds=age_s)).isoformat()
    looks = [look(job, busy={**BUSY, "run": f"{job.id}.1", "since": since}), look(job, cores=4, memory_mb=4096)]
    played = []
    monkeypatch.setattr(on_node, "look", lambda *_: (looks.pop(0), None))
    monkeypatch.setattr(on_node, "play", lambda *given: (played.append(given[4]), ENDED)[1])
    ending = run._settle(job, tenants, None)
    assert played == ([{"vmid": 9101, "run": job.id, "for_good": False}] if ended else [])
    assert (ending is not None, job.status) == (ended, "running" if ended else "queued")


def test_another_jobs_run_is_left_alone_however_old(rows, tenants, monkeypatch):
    job = rows.running("SCALE", pod=rows.pod(vmid=9101), payload={"vmid": 9101, **PAYLOADS["SCALE"]}, lost=True)
    monkeypatch.setattr(on_node, "look", lambda *_: (look(job, busy=BUSY), None))
    monkeypatch.setattr(on_node, "play", lambda *_: pytest.fail("it was ended"))
    assert run._settle(job, tenants, None) is None


def test_what_took_too_long_is_looked_into_before_another_try_and_after_the_last(rows, sql):
    for tries, max_tries in ((1, 3), (3, 3)):
        job = rows.running("SCALE", pod=rows.pod(), lost=True, tries=tries, max_tries=max_tries)
        outcome.write(job, Outcome(None, {**STOPPED, "msg": "took longer than 120 s"}))
        row = sql.row("cloud_pod_jobs", job.id)
        assert (row["status"], row["lost"]) == ("queued", True)
