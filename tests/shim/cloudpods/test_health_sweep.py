"""The health of all pods of a node: when a sweep is due, what its outcome writes, what it costs."""

import time
from contextlib import contextmanager

import peewee
import psycopg2
import pytest

from shim.cloudpods import power, sweep
from shim.jobs import many
from shim.jobs.catalog import FORGOTTEN
from shim.jobs.submit import submit
from shim.scheduler import timetable
from shim.worker import on_node, outcome, run
from shim.worker.playbook import Outcome

TENANT, OTHER_TENANT = "TENANT-123", "TENANT-456"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ7p0q0Yk3oXv0m2bq1WkYw0Q5y5l6f7h8j9k0l1m2n3"
OLD = "2026-01-01"
pytestmark = pytest.mark.usefixtures("session")


def row(vmid, verdict="ok", status="running", **other):
    return {"vmid": vmid, "exists": True, "status": status, "verdict": verdict, "reasons": [], **other}


@pytest.fixture
def pod(rows):
    """Return a maker of pods that were last changed long ago."""
    return lambda vmid, **columns: rows.pod(vmid=vmid, **{"updated_at": OLD, **columns})


@pytest.fixture
def begun(rows, sql):
    """Return a way to make a sweep that began just now."""

    def make(node="lab1", **columns):
        now = sql.value("SELECT now()")
        return rows.running("HEALTH_SWEEP", node=node, tenant_id=None, payload={}, started_at=now, **columns)

    return make


@pytest.fixture
def swept(begun, sql):
    """Return a way to write a sweep's outcome; it gives the job's row."""

    def write(*seen, node="lab1", job=None):
        job = job or begun(node)
        outcome.write(job, Outcome({node: {"node": node, "health": list(seen)}}, None))
        return sql.row("cloud_pod_jobs", job.id)

    return write


@pytest.fixture
def health(sql):
    """Return a way to read what is known of a pod's health."""
    return lambda pod_id: tuple(
        sql.row("cloud_pods", pod_id)[name] for name in ("last_health_status", "power_state", "host_key", "status")
    )


def events(sql):
    return sql("SELECT cloud_pod_id, tenant_id, data FROM cloud_pod_events WHERE type = 'HEALTH' ORDER BY seq")


# When


def test_every_active_node_with_pods_is_swept_once(rows, sql):
    rows.pod()
    rows.pod()
    (job,) = sweep.order_due(300)
    assert (job.node.name, job.type, job.tenant_id, job.cloud_pod_id) == ("lab1", "HEALTH_SWEEP", None, None)
    assert sweep.order_due(0.0) == []


@pytest.mark.parametrize("status", ["deleted", "failed"])
def test_a_node_without_live_pods_is_not_swept(rows, status):
    rows.pod(status=status, allocation=False)
    assert sweep.order_due(300) == []


def test_a_node_that_is_not_active_is_not_swept(rows, sql):
    rows.pod()
    sql("UPDATE cloud_pod_nodes SET status = 'cordoned'")
    assert sweep.order_due(300) == []


def test_the_next_sweep_waits_for_its_time_even_after_a_restart(rows, sql):
    rows.pod()
    (job,) = sweep.order_due(300)
    sql("UPDATE cloud_pod_jobs SET status = 'success'")
    assert sweep.order_due(300) == []
    sql("UPDATE cloud_pod_jobs SET created_at = created_at - interval '301 s'")
    assert [each.id for each in sweep.order_due(300)] not in ([], [job.id])


def test_the_database_itself_refuses_a_second_unfinished_sweep_of_a_node(rows):
    rows.job("HEALTH_SWEEP", tenant_id=None)
    with pytest.raises(psycopg2.errors.UniqueViolation):
        rows.job("HEALTH_SWEEP", tenant_id=None, status="running", lease_until="2036-01-01")
    rows.job("HEALTH_SWEEP", tenant_id=None, node="lab2")


def test_the_timetable_sweeps_at_the_interval_that_is_set_and_never_when_it_is_zero(settings):
    def named(interval):
        return [
            e for e in timetable.entries(settings.model_copy(update={"health_sweep_s": interval}), None) if "sweep" in e.name
        ]

    assert [entry.interval_s for entry in named(300.0)] == [10.0]
    assert [entry.interval_s for entry in named(2.0)] == [2.0]
    assert named(0.0) == []


def test_a_lost_sweep_runs_again(begun):
    job = begun(lost=True)
    assert not job.changes_pod
    assert sweep.settle(job, {}) is None
    assert sweep.variables(job) == {"reach": True}


def test_a_lost_sweep_has_no_container_to_be_looked_at(begun, settings, monkeypatch):
    monkeypatch.setattr(on_node, "play", lambda *_: pytest.fail("the node was asked"))
    assert run._settle(begun(lost=True), settings, None) is None
    ending = run._settle(begun(node="lab2", lost=True, tries=2), settings, None)
    assert (ending.failure["retryable"], ending.failure["left_behind"]) == (False, "nothing")


# What it writes


def test_verdict_details_power_and_host_key_of_every_pod_are_kept(pod, swept, health, sql):
    first, second = pod(9101), pod(9102, tenant_id=OTHER_TENANT)
    seen = row(9102, "warning", host_key=KEY, reasons=["memory 90 % of 2048 MB is at or above 85 %"])
    job = swept(row(9101), seen)
    assert health(first) == ("ok", "running", None, "active")
    assert health(second) == ("warning", "running", KEY, "active")
    assert sql.row("cloud_pods", second)["last_health"] == seen
    assert sql.row("cloud_pods", second)["last_health_checked"] is not None
    counted = {"node": "lab1", "checked": 2, "changed": 2, "ok": 1, "warning": 1, "critical": 0, "missing": []}
    counted |= {"foreign": [], "skipped": []}
    assert (job["status"], job["result"]) == ("success", counted)


def test_a_host_key_that_this_sweep_does_not_see_stays(pod, swept, health):
    known = pod(9101, host_key=KEY)
    swept(row(9101, host_key="not a key"))
    assert health(known)[2] == KEY


def test_only_a_verdict_that_changed_is_told_and_to_its_own_tenant(pod, swept, sql):
    pod(9101, last_health_status="ok")
    ill = pod(9102, last_health_status="ok", tenant_id=OTHER_TENANT)
    swept(row(9101), row(9102, "critical", reasons=["memory full"]))
    ((about, tenant, data),) = events(sql)
    assert (about, tenant) == (ill, OTHER_TENANT)
    expected = {"action": "HEALTH_CHANGED", "vmid": 9102, "verdict": "critical", "before": "ok", "reasons": ["memory full"]}
    assert data.items() >= expected.items()


def test_a_pod_that_its_node_does_not_show_is_critical(pod, swept, health, sql):
    gone = pod(9101, last_health_status="ok", power_state="running")
    job = swept()
    assert health(gone)[:2] == ("critical", "unknown")
    assert sql.row("cloud_pods", gone)["last_health"]["reasons"] == ["no such container"]
    assert job["result"]["missing"] == [9101]


def test_containers_that_are_no_live_pod_of_ours_are_named(pod, swept):
    pod(9101)
    pod(9102, status="failed")
    pod(9103, status="deleted")
    pod(9104, node="lab2")
    pod(9105, status="deleting")
    assert swept(*map(row, (9101, 9102, 9103, 9104, 9105, 500)))["result"]["foreign"] == [500, 9102, 9103]


@pytest.mark.parametrize("status", ["provisioning", "deleting", "failed", "deleted"])
@pytest.mark.parametrize("seen", [True, False])
def test_a_pod_that_is_not_active_is_left_alone(pod, swept, sql, status, seen):
    other = pod(9101, status=status)
    before = sql.row("cloud_pods", other)
    swept(*([row(9101, "critical", "stopped")] if seen else []))
    assert sql.row("cloud_pods", other) == before
    assert events(sql) == []


def test_a_pod_of_another_node_is_left_alone(pod, swept, health):
    other = pod(9101, node="lab2")
    swept(row(9101, "critical"))
    assert health(other)[0] is None


@pytest.mark.parametrize("seen", [[], [row(9101, "critical", "stopped")], [row(9101)]], ids=["absent", "stopped", "running"])
def test_what_changed_since_the_sweep_began_is_left_to_the_next(rows, begun, swept, health, sql, seen):
    job = begun()
    new = rows.pod(vmid=9101, power_state="running")
    gone = rows.pod(vmid=9102, status="deleted")
    result = swept(*seen, row(9102), job=job)["result"]
    assert health(new) == (None, "running", None, "active")
    assert result["foreign"] == []
    assert sql.row("cloud_pods", gone)["last_health_status"] is None


@pytest.mark.parametrize(("seen", "expected"), [([], None), ([row(9101, "critical", "stopped")], None), ([row(9101)], "ok")])
def test_a_pod_that_is_being_changed_is_judged_only_while_it_runs(pod, rows, swept, health, seen, expected):
    busy = pod(9101)
    rows.running("BACKUP", pod=busy)
    swept(*seen)
    assert health(busy)[0] == expected


def test_a_pod_stopped_on_purpose_is_well_and_one_that_stopped_by_itself_is_not(pod, rows, swept, health, sql):
    on_purpose, by_itself = pod(9101), pod(9102)
    order = rows.running("POWER", pod=on_purpose, payload={"vmid": 9101, "action": "shutdown", "shutdownTimeoutS": 60})
    outcome.write(order, Outcome({"changed": True, "cloudpod": {}}, None))
    sql("UPDATE cloud_pods SET updated_at = %s", OLD)
    reasons = ["stopped while onboot is set"]
    swept(row(9101, "critical", "stopped", reasons=reasons), row(9102, "critical", "stopped", reasons=reasons))
    assert (health(on_purpose)[:2], health(by_itself)[:2]) == (("ok", "stopped"), ("critical", "stopped"))


def test_a_start_that_failed_makes_a_stopped_pod_ill(pod, rows, sql, swept, health):
    stopped = pod(9101, wanted_power="stopped", power_state="stopped")
    order = rows.running("POWER", pod=stopped, payload={"vmid": 9101, "action": "start", "shutdownTimeoutS": 60})
    outcome.write(order, Outcome(None, {"msg": "no", "retryable": False, "left_behind": "nothing"}))
    sql("UPDATE cloud_pods SET updated_at = %s", OLD)
    swept(row(9101, "ok", "stopped"))
    assert health(stopped)[0] == "critical"


def test_a_failed_shutdown_still_wants_the_pod_to_run(pod, rows, sql):
    running = pod(9101)
    order = rows.running("POWER", pod=running, payload={"vmid": 9101, "action": "shutdown", "shutdownTimeoutS": 60})
    power.fail(order, {"msg": "the guest did not obey", "left_behind": "nothing"})
    assert sql.row("cloud_pods", running)["wanted_power"] == "running"


BAD = {
    "another node's": {"lab2": {"health": []}},
    "no rows": {"lab1": {}},
    "no list": {"lab1": {"health": {}}},
    "no vmid": {"lab1": {"health": [{"verdict": "ok"}]}},
    "no verdict": {"lab1": {"health": [{"vmid": 9101}]}},
    "an unknown verdict": {"lab1": {"health": [row(9101, "splendid")]}},
}


@pytest.mark.parametrize("result", BAD.values(), ids=BAD)
def test_an_unusable_result_fails_the_sweep_and_keeps_what_was_known(pod, begun, sql, result):
    known = pod(9101, last_health_status="ok")
    job = begun()
    outcome.write(job, Outcome(result, None))
    assert sql.row("cloud_pod_jobs", job.id)["status"] == "failed"
    assert sql.row("cloud_pods", known)["last_health_status"] == "ok"
    assert sql("SELECT data->>'node' FROM cloud_pod_events WHERE data->>'action' = 'HEALTH_SWEEP_FAILED'") == [("lab1",)]


ODD_ROWS = [
    {"vmid": 9102, "status": "running"},
    {"vmid": 9102, "verdict": "ok", "reasons": "abc", "status": "running"},
    {"vmid": 9102, "verdict": ["ok"], "status": "running"},
    {"vmid": 9102, "verdict": "ok", "status": ["x"]},
]
NAMELESS = [
    "x",
    None,
    {"status": "running"},
    {"vmid": None, "verdict": "ok"},
    {"vmid": 10**12, "verdict": "ok"},
    {"vmid": True},
]


@pytest.mark.parametrize(("odd", "vmid"), [*((each, 9102) for each in ODD_ROWS), *((each, None) for each in NAMELESS)], ids=str)
def test_an_odd_row_is_skipped_and_says_nothing_of_any_pod(pod, swept, health, odd, vmid):
    well, unclear = pod(9101), pod(9102, last_health_status="ok", power_state="running")
    job = swept(row(9101, "warning"), odd)
    assert (job["status"], job["result"]["skipped"], job["result"]["missing"]) == ("success", [vmid], [])
    assert health(well)[0] == "warning"
    assert health(unclear)[:2] == ("ok", "running")


def test_a_number_that_json_has_not_is_kept_as_unknown(pod, swept, sql):
    known = pod(9101)
    assert swept(row(9101, load=float("nan")))["status"] == "success"
    assert sql.row("cloud_pods", known)["last_health"]["load"] is None


def test_a_drills_copy_is_not_named_as_foreign(pod, swept):
    pod(9101)
    assert swept(row(9101), row(900009101))["result"]["foreign"] == []


# What it costs


@contextmanager
def statements():
    """Collect every statement that is sent meanwhile."""
    sent, execute = [], peewee.PostgresqlDatabase.execute_sql

    def spy(self, statement, params=None):
        sent.append(statement)
        return execute(self, statement, params)

    peewee.PostgresqlDatabase.execute_sql = spy
    try:
        yield sent
    finally:
        peewee.PostgresqlDatabase.execute_sql = execute


def test_a_thousand_pods_cost_as_many_statements_as_one(pod, begun, rows, sql, swept, record_property):
    pod(9001)
    job = begun()
    with statements() as one:
        swept(row(9001), job=job)
    sql(
        "INSERT INTO cloud_pods (tenant_id, node_id, vmid, hostname, status, cores, memory_mb, updated_at)"
        " SELECT %s, %s, n, 'a', 'active', 1, 512, %s FROM generate_series(10000, 10998) n",
        TENANT,
        rows.node_id(),
        OLD,
    )
    seen = [row(vmid, "warning", reasons=["x" * 60]) for vmid in (9001, *range(10000, 10999))]
    job = begun()
    began = time.monotonic()
    with statements() as thousand:
        result = swept(*seen, job=job)["result"]
    record_property("outcome_ms", round(1000 * (time.monotonic() - began)))
    assert (result["checked"], result["changed"]) == (1000, 1000)
    assert sql.value("SELECT count(*) FROM cloud_pods WHERE last_health_status = 'warning'") == 1000
    assert sql.value("SELECT count(*) FROM cloud_pod_events WHERE data->>'verdict' = 'warning'") == 1000
    assert len(thousand) == len(one) <= 9


def test_old_sweeps_are_forgotten_but_not_what_they_told_of_pods_nor_what_an_event_refers_to(pod, rows, sql, swept):
    pod(9101)
    by_an_earlier_release = rows.job("HEALTH_SWEEP", tenant_id=None, status="success", created_at=OLD)
    sql("INSERT INTO cloud_pod_events (job_id, type, message) VALUES (%s, 'INFO', 'progress')", by_an_earlier_release)
    for _ in range(4):
        sweep_job = swept(row(9101))["id"]
    backup = rows.job("BACKUP", pod=rows.pod(vmid=9102), status="success")
    unfinished = rows.job("HEALTH_SWEEP", tenant_id=None, created_at=OLD)
    other = rows.job("HEALTH_SWEEP", tenant_id=None, node="lab2", status="failed", created_at=OLD)
    assert many.forget_old(["HEALTH_SWEEP"], 2) == 2
    left = {id for (id,) in sql("SELECT id FROM cloud_pod_jobs")}
    assert len(left) == 6
    assert {backup, unfinished, other, sweep_job, by_an_earlier_release} <= left
    assert len(events(sql)) == 1


@pytest.mark.parametrize("type", FORGOTTEN)
def test_no_event_refers_to_a_look_that_will_be_forgotten(rows, sql, type):
    job = submit(type, tenant_id=None, cloud_pod_id=None, node_id=rows.node_id(), payload={}, requested_by=None)
    sql("UPDATE cloud_pod_jobs SET status = 'running', attempt = 1, lease_until = now() + interval '1 hour'")
    job.attempt = 1
    outcome.write(job, Outcome(None, {"msg": "no answer", "retryable": False, "left_behind": "nothing"}))
    told = sql("SELECT type, message ~ 'no answer', job_id, data->>'job' FROM cloud_pod_events")
    assert told == [("WARN", True, None, job.id)]


def test_the_timetable_forgets_old_sweeps(rows, sql):
    for _ in range(timetable.KEEP_LOOKS + 3):
        rows.job("HEALTH_SWEEP", tenant_id=None, status="success")
    timetable.forget_old_looks()
    assert sql.counts()["cloud_pod_jobs"] == timetable.KEEP_LOOKS
