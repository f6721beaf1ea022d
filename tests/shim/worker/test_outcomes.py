"""What the end of a run means: for the job, the pod, its share of the node, and the events."""

import pytest
from psycopg2.extras import Json

from shim.cloudpods.destroy import destroy
from shim.cloudpods.schemas import DestroyPod
from shim.jobs import cancel, state
from shim.jobs.catalog import ACTIONS
from shim.jobs.models import CloudPodJob
from shim.worker import outcome
from shim.worker.playbook import Outcome

TENANT = "TENANT-123"
pytestmark = pytest.mark.usefixtures("session")

SCALE = {"vmid": 9101, "newCores": 4, "newMemoryMb": 4096}
PAYLOADS = {
    "SCALE": SCALE,
    "POWER": {"vmid": 9101, "action": "start", "shutdownTimeoutS": 60},
    "SNAPSHOT": {"vmid": 9101, "action": "create", "name": "before"},
    "RESTORE": {"vmid": 9101, "asNew": False, "archive": "a:backup/b", "backupId": "b"},
    "RESTORE_DRILL": {"vmid": 9101, "archive": "a:backup/b", "backupId": "b"},
}
CREATED = {"vmid": 9101, "ip": "10.1.10.91", "changed": True}
HEALTHY = {"vmid": 9101, "verdict": "ok", "status": "running", "reasons": []}


def failed(msg="no space left", *, retryable=False, left_behind="nothing"):
    return Outcome(None, {"msg": msg, "retryable": retryable, "left_behind": left_behind})


@pytest.fixture
def run(rows):
    """Return a way to make a pod in some state with a running job of some type."""

    def make(type, status="active", payload=None, **pod):
        made = rows.pod(vmid=9101, status=status, **pod)
        return rows.running(type, pod=made, payload=payload or PAYLOADS.get(type, {"vmid": 9101}))

    return make


@pytest.fixture
def after(sql):
    """Return a way to see what an outcome wrote: job, pod, number of allocations, actions of the events but the ledger's."""

    def see(job):
        pod = sql.row("cloud_pods", job.cloud_pod_id)
        shares = sql.value("SELECT count(*) FROM cloud_pod_allocations WHERE cloud_pod_id = %s", job.cloud_pod_id)
        named = "coalesce(job_id, data->>'job')"
        but_quota = "WHERE data->>'action' NOT LIKE 'QUOTA_%' ORDER BY seq"
        events = sql(f"SELECT type, data->>'action', tenant_id, {named} FROM cloud_pod_events {but_quota}")
        assert all(event[2:] == (TENANT, job.id) for event in events)
        return sql.row("cloud_pod_jobs", job.id), pod, shares, [event[:2] for event in events]

    return see


def test_a_created_pod_is_active_and_has_its_address(run, after):
    job = run("CREATE", "provisioning", error="an earlier try's")
    outcome.write(job, Outcome(CREATED, None))
    row, pod, shares, events = after(job)
    assert (row["status"], row["result"]) == ("success", CREATED)
    assert (pod["status"], pod["ip"], pod["power_state"], pod["error"]) == ("active", "10.1.10.91", "running", None)
    assert (shares, events) == (1, [("STATE_CHANGE", "CREATED")])


def test_a_pod_whose_destruction_was_asked_for_while_it_was_made_stays_deleting(run, after):
    job = run("CREATE", "deleting")
    outcome.write(job, Outcome(CREATED, None))
    row, pod, shares, _ = after(job)
    assert (row["status"], pod["status"], pod["ip"], shares) == ("success", "deleting", "10.1.10.91", 1)


def test_a_create_that_failed_clean_frees_vmid_address_and_share(run, after, rows):
    job = run("CREATE", "provisioning", ip="10.1.10.91")
    outcome.write(job, failed("no space left on device"))
    row, pod, shares, events = after(job)
    assert (row["status"], row["error"]) == ("failed", "no space left on device")
    assert (pod["status"], pod["error"]) == ("failed", "no space left on device")
    assert (shares, events) == (0, [("ERROR", "CREATE_FAILED")])
    rows.pod(vmid=9101, ip="10.1.10.91")


def test_a_create_that_left_something_keeps_its_share(run, after):
    job = run("CREATE", "provisioning")
    outcome.write(job, failed(left_behind="container 9101"))
    _, pod, shares, _ = after(job)
    assert (pod["status"], shares) == ("failed", 1)


def test_a_create_that_failed_while_its_destruction_was_asked_for_leaves_that_to_the_destroy(run, after):
    job = run("CREATE", "deleting")
    outcome.write(job, failed())
    row, pod, _, _ = after(job)
    assert (row["status"], pod["status"]) == ("failed", "deleting")


def test_a_pod_destroyed_while_it_was_made_ends_deleted(run, after, sql):
    create = run("CREATE", "provisioning")
    waiting, _ = destroy("9101", DestroyPod(tenantId=TENANT))
    outcome.write(create, Outcome(CREATED, None))
    held = "status = 'running', attempt = 1, lease_until = now() + interval '1 h'"
    sql(f"UPDATE cloud_pod_jobs SET {held} WHERE id = %s", waiting.id)
    outcome.write(CloudPodJob.find(waiting.id), Outcome({"changed": True}, None))
    pod = sql.row("cloud_pods", create.cloud_pod_id)
    assert pod["status"] == "deleted"
    assert sql.counts()["cloud_pod_allocations"] == 0


@pytest.mark.parametrize("changed", [True, False])
def test_a_destroyed_pod_frees_everything(run, after, rows, changed):
    job = run("DESTROY", "deleting", ip="10.1.10.91", error="an earlier one's")
    outcome.write(job, Outcome({"changed": changed}, None))
    row, pod, shares, events = after(job)
    assert (row["status"], pod["status"], pod["error"], shares) == ("success", "deleted", None, 0)
    assert pod["deleted_at"] is not None
    assert events == [("STATE_CHANGE", "DESTROYED")]
    rows.pod(vmid=9101, ip="10.1.10.91")


def test_a_failed_destroy_keeps_the_pod_deleting_with_the_reason_and_everything_taken(run, after):
    job = run("DESTROY", "deleting", ip="10.1.10.91")
    outcome.write(job, failed("CT is locked", left_behind="container 9101"))
    row, pod, shares, events = after(job)
    assert (row["status"], pod["status"], pod["error"], shares) == ("failed", "deleting", "CT is locked", 1)
    assert events == [("ERROR", "DESTROY_FAILED")]


VOLID = "vzdump-backups:backup/vzdump-lxc-9101-2026_11_21-00_05_47.tar.zst"
BACKED_UP = {"archive": {"volid": VOLID, "size_bytes": 5_000_000_000, "mode": "snapshot"}, "changed": True}


def test_a_backup_sets_when_the_pod_was_last_backed_up(run, after, sql):
    job = run("BACKUP")
    outcome.write(job, Outcome(BACKED_UP, None))
    row, pod, _, events = after(job)
    assert (row["status"], pod["status"], events) == ("success", "active", [("BACKUP", "BACKED_UP")])
    assert sql.value("SELECT now() - last_backup_at < interval '1 minute' FROM cloud_pods")
    assert sql.value("SELECT data->'archive'->>'volid' FROM cloud_pod_events") == VOLID


def test_a_scaled_pod_and_its_share_have_the_new_size(run, after, sql):
    job = run("SCALE")
    outcome.write(job, Outcome({"changed": True}, None))
    row, pod, _, events = after(job)
    assert (row["status"], pod["cores"], pod["memory_mb"]) == ("success", 4, 4096)
    assert sql("SELECT used_cpu_cores, used_memory_mb, used_disk_gb FROM cloud_pod_allocations") == [(4, 4096, 8)]
    assert events == [("STATE_CHANGE", "SCALED")]
    data = sql.value("SELECT data FROM cloud_pod_events WHERE type = 'STATE_CHANGE'")
    assert (data["before"], data["after"]) == (
        {"cores": 2, "memoryMb": 2048, "swapMb": 512},
        {"cores": 4, "memoryMb": 4096, "swapMb": 512},
    )


@pytest.mark.parametrize("verdict", ["ok", "warning", "critical"])
@pytest.mark.parametrize(
    ("seen", "power"), [("running", "running"), ("stopped", "stopped"), ("odd", "unknown"), (None, "unknown")]
)
def test_a_health_check_keeps_verdict_details_and_power(run, after, verdict, seen, power):
    job = run("HEALTH_CHECK", wanted_power="stopped" if seen == "stopped" else "running")
    mine = {**HEALTHY, "verdict": verdict, "status": seen}
    outcome.write(job, Outcome({"lab1": {"health": [{"vmid": 9102, "verdict": "critical"}, mine]}}, None))
    row, pod, _, events = after(job)
    assert row["status"] == "success"
    assert (pod["last_health_status"], pod["last_health"], pod["power_state"]) == (verdict, mine, power)
    assert pod["last_health_checked"] is not None
    assert events == [("HEALTH", "HEALTH_CHECKED")]


@pytest.mark.parametrize(
    ("type", "event"),
    [
        ("BACKUP", ("ERROR", "BACKUP_FAILED")),
        ("RESTORE", ("ERROR", "RESTORE_FAILED")),
        ("RESTORE_DRILL", ("ERROR", "RESTORE_DRILL_FAILED")),
        ("SCALE", ("ERROR", "SCALE_FAILED")),
        ("HEALTH_CHECK", ("WARN", "HEALTH_CHECK_FAILED")),
    ],
)
def test_a_failed_job_of_an_active_pod_leaves_it_active_and_as_it_was(run, after, sql, type, event):
    job = run(type, last_health_status="ok")
    before = sql.row("cloud_pods", job.cloud_pod_id)
    outcome.write(job, failed())
    row, pod, shares, events = after(job)
    assert (row["status"], row["error"], shares, events) == ("failed", "no space left", 1, [event])
    assert pod == before


@pytest.mark.parametrize("type", sorted(ACTIONS))
def test_a_failure_worth_another_run_requeues_the_job_and_leaves_the_pod(run, after, sql, type):
    job = run(type, "provisioning" if type == "CREATE" else "active")
    before = sql.row("cloud_pods", job.cloud_pod_id)
    outcome.write(job, failed(retryable=True))
    row, pod, shares, events = after(job)
    assert (row["status"], row["error"], pod, shares) == ("queued", "no space left", before, 1)
    assert events == ([("WARN", "retry")] if ACTIONS[type].keeps_events else [])


@pytest.mark.parametrize(
    ("type", "left", "lost"), [("BACKUP", "unknown", True), ("BACKUP", "nothing", False), ("HEALTH_CHECK", "unknown", False)]
)
def test_after_a_run_of_which_nobody_heard_the_end_the_next_begins_with_a_look(run, after, type, left, lost):
    """A backup whose connection was cut may be there, and its retention have taken others: its repetition could not tell."""
    job = run(type)
    outcome.write(job, failed("cannot reach node lab1", retryable=True, left_behind=left))
    row, *_ = after(job)
    assert (row["status"], row["lost"]) == ("queued", lost)


@pytest.mark.parametrize("type", sorted(ACTIONS))
def test_the_last_try_ends_a_job_however_retryable_its_failure(run, after, sql, type):
    job = run(type)
    job.tries = ACTIONS[type].tries
    outcome.write(job, failed(retryable=True))
    assert after(job)[0]["status"] == "failed"


UNUSABLE = [
    ("CREATE", "empty", {}),
    ("CREATE", "no ip", {"vmid": 9101}),
    ("CREATE", "ip is null", {**CREATED, "ip": None}),
    ("CREATE", "ip is a list", {**CREATED, "ip": ["10.1.10.91"]}),
    ("CREATE", "ip is no address", {**CREATED, "ip": "dhcp"}),
    ("CREATE", "ip is empty", {**CREATED, "ip": ""}),
    ("CREATE", "NUL in ip", {**CREATED, "ip": "10.1.10.91\x00"}),
    ("HEALTH_CHECK", "empty", {}),
    ("HEALTH_CHECK", "another node", {"lab2": {"health": [HEALTHY]}}),
    ("HEALTH_CHECK", "no row", {"lab1": {"health": []}}),
    ("HEALTH_CHECK", "another pod", {"lab1": {"health": [{**HEALTHY, "vmid": 9102}]}}),
    ("HEALTH_CHECK", "odd verdict", {"lab1": {"health": [{**HEALTHY, "verdict": "fine"}]}}),
    ("HEALTH_CHECK", "node is null", {"lab1": None}),
    ("HEALTH_CHECK", "node is a list", {"lab1": []}),
    ("HEALTH_CHECK", "health is null", {"lab1": {"health": None}}),
    ("HEALTH_CHECK", "rows are texts", {"lab1": {"health": ["9101 ok"]}}),
]


@pytest.mark.parametrize(("type", "result"), [(t, r) for t, _, r in UNUSABLE], ids=[f"{t}-{name}" for t, name, _ in UNUSABLE])
def test_an_unusable_result_fails_the_job_and_says_so(run, after, type, result):
    job = run(type, "provisioning" if type == "CREATE" else "active")
    job.lost = True  # the node has been looked at already
    outcome.write(job, Outcome(result, None))
    row, pod, _, events = after(job)
    assert row["status"] == "failed"
    assert "unusable" in row["error"]
    assert pod["status"] == ("failed" if type == "CREATE" else "active")
    assert [event[0] for event in events] == ["ERROR" if type == "CREATE" else "WARN"]


def test_an_unusable_result_of_a_change_is_looked_into_first(run, after):
    job = run("CREATE", "provisioning")
    outcome.write(job, Outcome({"vmid": 9101}, None))
    row, pod, shares, events = after(job)
    assert (row["status"], row["lost"], pod["status"], shares) == ("queued", True, "provisioning", 1)
    assert events == [("WARN", "look")]


@pytest.mark.parametrize("busy", [{"busy": {"pid": 1}}, {"rc": 75}], ids=["the pod", "the node"])
def test_waiting_for_another_run_is_no_try(run, after, sql, busy):
    job = run("SCALE")
    job.tries = ACTIONS["SCALE"].tries
    sql("UPDATE cloud_pod_jobs SET tries = %s", job.tries)
    outcome.write(job, Outcome(None, {"msg": "busy", "retryable": True, "left_behind": "nothing", **busy}))
    row, _, _, events = after(job)
    assert (row["status"], row["tries"], events) == ("queued", ACTIONS["SCALE"].tries - 1, [("WARN", "wait")])


def test_a_run_that_left_something_did_not_only_wait(run, after):
    """The node's lock may be in the way at a script's last step. A cancel would free what the pod took, unlooked."""
    job = run("CREATE", "provisioning")
    left = {"msg": "the address file is busy", "retryable": True, "left_behind": "container 9101", "rc": 75}
    outcome.write(job, Outcome(None, left))
    row, _, _, _ = after(job)
    assert (row["status"], row["tries"], row["failure"]["left_behind"]) == ("queued", 1, "container 9101")
    assert cancel.cancel(job.id).status == "queued"
    assert after(job)[2] == 1


def test_waiting_keeps_what_an_earlier_run_left(run, after, sql):
    job = run("CREATE", "provisioning")
    sql("UPDATE cloud_pod_jobs SET tries = 2, failure = %s", Json(failed(left_behind="container 9101").failure))
    job = CloudPodJob.find(job.id)
    outcome.write(job, Outcome(None, {"msg": "busy", "retryable": True, "left_behind": "nothing", "rc": 75}))
    row, _, _, events = after(job)
    assert (row["tries"], row["failure"]["left_behind"], events) == (1, "container 9101", [("WARN", "wait")])


def test_waiting_ends_after_a_day(run, after, sql):
    job = run(
        "SCALE",
    )
    job.tries, job.created_at = ACTIONS["SCALE"].tries, job.created_at - outcome.WAIT_AT_MOST
    outcome.write(job, Outcome(None, {"msg": "busy", "retryable": True, "left_behind": "nothing", "rc": 75}))
    assert after(job)[0]["status"] == "failed"


def test_what_an_earlier_try_may_have_left_is_looked_for_before_the_end(run, after):
    job = run("CREATE", "provisioning")
    job.tries = ACTIONS["CREATE"].tries
    job.failure = {"msg": "cannot reach node", "retryable": True, "left_behind": "unknown"}
    outcome.write(job, failed("no space left"))
    row, pod, shares, _ = after(job)
    assert (row["status"], row["lost"], pod["status"], shares) == ("queued", True, "provisioning", 1)


def test_an_address_that_another_active_pod_has_ends_the_job_as_failed(run, after, rows):
    rows.pod(vmid=9102, ip="10.1.10.91")
    job = run("CREATE", "provisioning")
    job.lost = True
    outcome.write(job, Outcome(CREATED, None))
    row, pod, shares, _ = after(job)
    assert (row["status"], pod["status"], shares) == ("failed", "failed", 1)


@pytest.mark.parametrize("status", ["provisioning", "deleting"])
def test_a_pod_without_its_address_on_the_node_yields_it_to_the_one_the_node_gave_it_to(run, after, rows, sql, status):
    asked = rows.pod(vmid=9102, ip="10.1.10.91", status=status)
    job = run("CREATE", "provisioning")
    outcome.write(job, Outcome(CREATED, None))
    row, pod, _, _ = after(job)
    assert (row["status"], pod["ip"], sql.row("cloud_pods", asked)["ip"]) == ("success", "10.1.10.91", "")


ODD_TEXTS = {"NUL": "bad\x00byte", "half a surrogate pair": "bad\udcffbyte", "long": "x" * 1_000_000}


@pytest.mark.parametrize("text", ODD_TEXTS.values(), ids=ODD_TEXTS)
@pytest.mark.parametrize("retryable", [True, False])
def test_a_node_may_say_anything_when_it_fails(run, after, text, retryable):
    job = run("BACKUP")
    outcome.write(job, failed(text, retryable=retryable))
    assert after(job)[0]["status"] == ("queued" if retryable else "failed")


@pytest.mark.parametrize("text", ODD_TEXTS.values(), ids=ODD_TEXTS)
def test_a_node_may_say_anything_when_it_succeeds(run, after, text):
    job = run("BACKUP")
    outcome.write(job, Outcome({"archive": {"volid": "a:backup/b", "mode": text}, "changed": True}, None))
    assert after(job)[0]["status"] == "success"


OUTCOMES = {
    "success": Outcome(CREATED, None),
    "failure": failed(),
    "retry": failed(retryable=True),
    "unusable": Outcome({}, None),
}


@pytest.mark.parametrize("end", OUTCOMES.values(), ids=OUTCOMES)
def test_an_older_attempts_outcome_writes_nothing_at_all(run, after, sql, end):
    job = run("CREATE", "provisioning")
    sql("UPDATE cloud_pod_jobs SET attempt = 2")
    before = after(job)
    with pytest.raises(state.LostLease):
        outcome.write(job, end)
    assert after(job) == before
