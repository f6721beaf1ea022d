"""Which job is claimed next, by whom, and for how long it is held."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from shim import db
from shim.jobs import claim, many, state
from shim.jobs.catalog import ACTIONS

TENANT = "TENANT-123"
ALL = list(ACTIONS)
pytestmark = pytest.mark.usefixtures("session")


def take(types=ALL, worker="w1", lease_s=30.0):
    job = claim.claim(list(types), worker=worker, lease_s=lease_s)
    return job.id if job else None


def test_nothing_queued_gives_nothing():
    assert take() is None


def test_a_claimed_job_is_running_held_and_counted(rows, sql):
    job = rows.job("CREATE", pod=rows.pod())
    assert take(worker="w1", lease_s=30) == job
    row = sql.row("cloud_pod_jobs", job)
    assert (row["status"], row["attempt"], row["tries"], row["worker"]) == ("running", 1, 0, "w1")
    left = sql.value("SELECT extract(epoch FROM lease_until - now()) FROM cloud_pod_jobs WHERE id = %s", job)
    assert 20 < left <= 30
    assert row["started_at"] is not None


def test_a_claimed_job_is_not_claimed_again(rows):
    rows.job(pod=rows.pod())
    assert take() is not None
    assert take() is None


def test_the_order_is_priority_then_turn_then_age_then_id(rows):
    old = {"created_at": "2026-01-01"}
    elsewhere = {"pod": rows.pod(tenant_id="TENANT-456"), "tenant_id": "TENANT-456"}
    expected = [
        rows.job("DESTROY", pod=rows.pod(), created_at="2026-01-03"),
        rows.job("CREATE", pod=rows.pod(), created_at="2026-01-01"),
        rows.job("CREATE", pod=rows.pod(), created_at="2026-01-02"),
        rows.job("SCALE", pod=rows.pod(), **old),
        *sorted([rows.job("BACKUP", pod=rows.pod(), **old), rows.job("BACKUP", **elsewhere, **old)]),
        rows.job("HEALTH_CHECK", pod=rows.pod(), **old),
    ]
    assert [end(take()) for _ in expected] == expected


def end(job_id):
    """End a claimed job, so that the node's cap is not in the way; return its id."""
    db.database.execute_sql("UPDATE cloud_pod_jobs SET status = 'success', lease_until = NULL WHERE id = %s", (job_id,))
    return job_id


def test_changes_of_one_pod_run_one_at_a_time_in_the_order_asked(rows):
    pod = rows.pod()
    backup = rows.job("BACKUP", pod=pod, created_at="2026-01-01")
    scale = rows.job("SCALE", pod=pod, created_at="2026-01-02")
    destroy = rows.job("DESTROY", pod=pod, created_at="2026-01-03")
    taken = []
    for _ in range(3):
        taken.append(take())
        assert take() is None
        end(taken[-1])
    assert taken == [backup, scale, destroy]


def test_a_change_that_waits_for_its_retry_keeps_later_changes_waiting(rows):
    pod = rows.pod()
    rows.job("CREATE", pod=pod, run_after="2999-01-01")
    rows.job("DESTROY", pod=pod)
    assert take() is None


@pytest.mark.parametrize("status", ["success", "failed", "cancelled"])
def test_a_finished_change_holds_nobody_up(rows, status):
    pod = rows.pod()
    rows.job("CREATE", pod=pod, status=status, created_at="2026-01-01")
    later = rows.job("BACKUP", pod=pod)
    assert take() == later


def test_changes_of_one_moment_run_by_id(rows):
    pod = rows.pod()
    first, second = sorted(rows.job("BACKUP", pod=pod, created_at="2026-01-01") for _ in range(2))
    assert [take(), take()] == [first, None]
    end(first)
    assert take() == second


def test_reading_a_pod_needs_not_wait_for_its_changes(rows):
    pod = rows.pod()
    change, check = rows.job("BACKUP", pod=pod), rows.job("HEALTH_CHECK", pod=pod)
    assert [take(), take()] == [change, check]


def test_a_busy_pod_does_not_hold_up_others(rows):
    busy, free = rows.pod(), rows.pod()
    running, waiting, other = rows.job("DESTROY", pod=busy), rows.job("DESTROY", pod=busy), rows.job("BACKUP", pod=free)
    assert [take(), take()] == [running, other]
    assert waiting not in (running, other)


@pytest.mark.parametrize("cap", [1, 3])
def test_a_node_runs_no_more_than_its_cap(rows, sql, cap):
    sql("UPDATE cloud_pod_nodes SET max_running_jobs = %s WHERE name = 'lab1'", cap)
    for _ in range(cap + 2):
        rows.job("HEALTH_CHECK", pod=rows.pod())
    taken = [take() for _ in range(cap)]
    assert None not in taken
    assert take() is None
    end(taken[0])
    assert take() is not None


def test_a_node_at_its_cap_does_not_hold_up_another(rows, sql):
    sql("UPDATE cloud_pod_nodes SET max_running_jobs = 1")
    rows.job("DESTROY", pod=rows.pod())
    rows.job("DESTROY", pod=rows.pod())
    elsewhere = rows.job("BACKUP", pod=rows.pod("lab2"), node="lab2")
    take()
    assert take() == elsewhere


@pytest.mark.parametrize("types", [("BACKUP", "BACKUP"), ("BACKUP", "RESTORE_DRILL"), ("RESTORE_DRILL", "BACKUP")], ids=str)
def test_a_node_makes_one_backup_or_drill_at_a_time(rows, types):
    first, second = (rows.job(type, pod=rows.pod()) for type in types)
    assert take(types[:1]) == first
    assert take() is None
    end(first)
    assert take() == second


def test_a_backup_under_way_holds_up_neither_other_work_nor_other_nodes(rows):
    backup, waiting = rows.job(pod=rows.pod()), rows.job(pod=rows.pod())
    elsewhere, other = rows.job(pod=rows.pod("lab2"), node="lab2"), rows.job("SCALE", pod=rows.pod())
    assert {take(), take(), take()} == {backup, elsewhere, other}
    assert take() is None
    end(backup)
    assert take() == waiting


def test_many_at_once_take_one_backup_of_a_node(rows, tenants):
    db.connect(tenants.database_url, pool_size=12)
    jobs = [rows.job(pod=rows.pod(allocation=False)) for _ in range(10)]
    assert [job for job in in_threads(10, lambda index: take(worker=f"w{index}")) if job] == jobs[:1]


def test_what_a_person_orders_overtakes_a_scheduled_backup_of_the_pod_that_waits(rows):
    pod = rows.pod()
    scheduled = rows.job("BACKUP", pod=pod, scheduled=True, created_at="2026-01-01")
    scale, power = (rows.job(type, pod=pod, created_at=f"2026-01-0{day}") for day, type in ((2, "SCALE"), (3, "POWER")))
    for expected in (scale, power, scheduled):
        assert [take(), take()] == [expected, None]
        end(expected)


def test_a_scheduled_backup_waits_for_what_a_person_ordered_even_for_its_retry(rows):
    pod = rows.pod()
    rows.job("BACKUP", pod=pod, scheduled=True, created_at="2026-01-01")
    rows.job("SCALE", pod=pod, run_after="2999-01-01")
    assert take() is None


@pytest.mark.parametrize("begun", [{"status": "running", "lease_until": "2999-01-01"}, {"lost": True}], ids=["runs", "lost"])
def test_a_scheduled_backup_that_was_begun_is_waited_for(rows, begun):
    pod = rows.pod()
    backup = rows.job("BACKUP", pod=pod, scheduled=True, created_at="2026-01-01", **begun)
    rows.job("SCALE", pod=pod)
    assert take() == (backup if "lost" in begun else None)


LONG_JOBS = ("BACKUP", "RESTORE", "RESTORE", "RESTORE")


def test_long_jobs_leave_a_place_of_their_node_to_others(rows, sql):
    sql("UPDATE cloud_pod_nodes SET max_running_jobs = 3 WHERE name = 'lab1'")
    for type in LONG_JOBS:
        rows.job(type, pod=rows.pod())
    assert None not in [take(), take()]
    assert take() is None
    scale = rows.job("SCALE", pod=rows.pod())
    assert take() == scale


def test_a_dry_run_of_a_backup_keeps_no_backup_waiting_nor_waits_for_one(rows, sql):
    rehearsal = {"dry_run": True, "changes_pod": False}
    first = rows.job("BACKUP", pod=rows.pod(), **rehearsal)
    assert take() == first
    real = rows.job("BACKUP", pod=rows.pod())
    assert take() == real
    second = rows.job("BACKUP", pod=rows.pod(), **rehearsal)
    assert take() == second


def to_end(rows, type):
    """Insert a job of which a run was begun, and that is to be ended; return its id."""
    job = rows.job(type, pod=rows.pod(), tries=1, attempt=1, lost=True)
    assert state.ask_to_end(claim.CloudPodJob.find(job), "anna")
    return job


@pytest.mark.parametrize("type", ["BACKUP", "RESTORE", "SCALE"])
@pytest.mark.parametrize("cap", [1, 2, 4])
def test_what_is_to_be_ended_waits_for_no_place(rows, sql, cap, type):
    """One cancelled backup waited for another, which had its place meanwhile, up to six hours."""
    sql("UPDATE cloud_pod_nodes SET max_running_jobs = %s", cap)
    backup = rows.job("BACKUP", pod=rows.pod())
    others = [rows.job("SCALE", pod=rows.pod()) for _ in range(cap - 1)]
    assert {take() for _ in range(cap)} == {backup, *others}
    rehearsal = rows.job("SCALE", pod=rows.pod(), dry_run=True, changes_pod=False)
    waiting = rows.job("DESTROY", pod=rows.pod())
    assert take() is None
    stopped = to_end(rows, type)
    assert [take(), take()] == [stopped, None]
    for job in (backup, stopped, *others):
        end(job)
    assert {take(), *([take()] if cap > 1 else [])} >= {waiting, *([rehearsal] if cap > 1 else [])}


def test_no_more_are_ended_at_once_than_there_are_places(rows, sql):
    sql("UPDATE cloud_pod_nodes SET max_running_jobs = 2")
    held = [rows.job("SCALE", pod=rows.pod()) for _ in range(2)]
    assert {take(), take()} == set(held)
    stopped = [to_end(rows, "SCALE") for _ in range(5)]
    taken = [take() for _ in range(3)]
    assert taken == [*stopped[:2], None]
    end(taken[0])
    assert take() == stopped[2]
    # What is being ended takes places from nothing but what is to begin.
    rows.job("DESTROY", pod=rows.pod())
    end(held[0])
    assert [take(), take()] == [stopped[3], None]


def test_a_node_with_one_place_runs_long_jobs_too(rows, sql):
    sql("UPDATE cloud_pod_nodes SET max_running_jobs = 1")
    backup = rows.job("BACKUP", pod=rows.pod())
    assert take() == backup


def test_a_drill_that_waited_long_has_its_turn_before_newer_backups(rows, sql):
    drill = rows.job("RESTORE_DRILL", pod=rows.pod(), created_at=sql.value("SELECT now() - interval '11 minutes'"))
    backup, health = rows.job("BACKUP", pod=rows.pod()), rows.job("HEALTH_CHECK", pod=rows.pod())
    young = rows.job("RESTORE_DRILL", pod=rows.pod())
    many.let_the_oldest_go_first(["BACKUP", "RESTORE_DRILL"], 600)
    assert end(take()) == drill
    assert [end(take()) for _ in range(3)] == [backup, health, young]


def test_a_job_is_not_claimed_before_its_time(rows, sql):
    job = rows.job(pod=rows.pod(), run_after="2999-01-01")
    assert take() is None
    sql("UPDATE cloud_pod_jobs SET run_after = now() WHERE id = %s", job)
    assert take() == job


@pytest.mark.parametrize("type", ALL)
def test_only_the_types_of_a_workers_queues_are_claimed(rows, type):
    job = rows.job(type, pod=rows.pod())
    assert take([t for t in ALL if t != type]) is None
    assert take([]) is None
    assert take([type]) == job


def test_the_first_start_stays_the_start_when_a_job_runs_again(rows, sql):
    job = rows.job(pod=rows.pod(), started_at="2026-01-01", attempt=1)
    assert take() == job
    row = sql.row("cloud_pod_jobs", job)
    assert (row["started_at"].year, row["attempt"]) == (2026, 2)
    assert row["started_at"].month == 1


def in_threads(number, work):
    """Run `work` in threads that start together, each with a connection of its own; return the results."""
    barrier = threading.Barrier(number)

    def one(index):
        with db.session():
            barrier.wait(timeout=20)
            return work(index)

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(one, range(number)))


def test_twenty_at_once_claim_fifty_jobs_each_once(rows, sql, tenants):
    db.connect(tenants.database_url, pool_size=25)
    sql("UPDATE cloud_pod_nodes SET max_running_jobs = 100")
    made = {rows.job("SCALE", pod=rows.pod(allocation=False)) for _ in range(50)}

    def until_empty(index):
        taken = []
        while (job := take(worker=f"w{index}")) is not None:
            taken.append(job)
        return taken

    taken = [job for jobs in in_threads(20, until_empty) for job in jobs]
    assert sorted(taken) == sorted(made)
    assert sql.value("SELECT max(attempt) FROM cloud_pod_jobs") == 1


def test_many_at_once_do_not_pass_a_nodes_cap(rows, tenants):
    db.connect(tenants.database_url, pool_size=15)
    for _ in range(12):
        rows.job("SCALE", pod=rows.pod(allocation=False))
    taken = in_threads(12, lambda index: take(worker=f"w{index}"))
    assert len([job for job in taken if job]) == 4


def test_many_at_once_take_one_change_of_a_pod(rows, tenants):
    db.connect(tenants.database_url, pool_size=12)
    pod = rows.pod()
    jobs = [rows.job(pod=pod) for _ in range(10)]
    assert [job for job in in_threads(10, lambda index: take(worker=f"w{index}")) if job] == jobs[:1]


def test_the_database_itself_refuses_a_second_running_change_of_a_pod(rows):
    import psycopg2

    pod = rows.pod()
    rows.running(pod=pod)
    with pytest.raises(psycopg2.errors.UniqueViolation):
        rows.running(pod=pod)


def test_renewing_moves_the_lease(rows, sql):
    job = rows.running(pod=rows.pod(), lease_until="2026-01-01")
    assert claim.renew(job, lease_s=30)
    assert sql.value("SELECT lease_until > now() + interval '20 s' FROM cloud_pod_jobs")


def test_an_older_attempt_cannot_renew(rows, sql):
    job = rows.running(pod=rows.pod())
    sql("UPDATE cloud_pod_jobs SET attempt = 2, lease_until = '2026-01-01'")
    assert not claim.renew(job, lease_s=30)
    assert sql.value("SELECT lease_until < now() FROM cloud_pod_jobs")


@pytest.mark.parametrize("status", ["queued", "success", "failed", "cancelled"])
def test_a_job_that_does_not_run_cannot_be_renewed(rows, sql, status):
    job = rows.running(pod=rows.pod())
    sql("UPDATE cloud_pod_jobs SET status = %s, lease_until = NULL", status)
    assert not claim.renew(job, lease_s=30)
    assert sql.value("SELECT lease_until IS NULL FROM cloud_pod_jobs")


def test_a_dead_workers_jobs_are_put_back_at_once_and_nobody_elses(rows, sql):
    mine, other = rows.running(pod=rows.pod(), worker="w1"), rows.running(pod=rows.pod(), worker="w2")
    assert state.give_up("w1") == [(mine.id, "BACKUP")]
    assert sql.row("cloud_pod_jobs", other.id)["status"] == "running"


def test_a_claim_stays_quick_when_thousands_wait_and_nobody_told_the_planner(rows, sql):
    """It took a minute where the planner chose an index of the unfinished jobs, which it believed to be empty."""
    sql("ANALYZE")
    whose = (TENANT, rows.node_id())
    columns = "id, tenant_id, node_id, vmid, hostname, cores, memory_mb"
    sql(
        f"INSERT INTO cloud_pods ({columns}) SELECT 'p' || n, %s, %s, 20000 + n, 'a', 1, 1 FROM generate_series(1, 5000) n",
        *whose,
    )
    columns = "cloud_pod_id, tenant_id, node_id, type, priority"
    sql(f"INSERT INTO cloud_pod_jobs ({columns}) SELECT 'p' || n, %s, %s, 'BACKUP', 40 FROM generate_series(1, 5000) n", *whose)
    began = time.monotonic()
    assert [take() is None, take()] == [False, None]
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("before", ["queued", "failed", "cancelled"])
def test_a_job_is_not_claimed_before_the_success_of_the_one_it_comes_after(rows, before):
    first = rows.job("BACKUP", pod=rows.pod(), status=before, run_after="2999-01-01")
    rows.job("SCALE", pod=rows.pod(), after_job_id=first)
    assert take() is None


def test_a_job_is_claimed_after_the_success_of_the_one_it_comes_after(rows):
    first = rows.job("BACKUP", pod=rows.pod(), status="success")
    second = rows.job("SCALE", pod=rows.pod(), after_job_id=first)
    assert take() == second


@pytest.mark.parametrize("status", ["active", "cordoned", "draining", "offline"])
def test_jobs_run_on_any_node_that_is_not_offline(rows, sql, status):
    sql("UPDATE cloud_pod_nodes SET status = %s WHERE name = 'lab1'", status)
    here = rows.job("DESTROY", pod=rows.pod("lab1"))
    elsewhere = rows.job("BACKUP", pod=rows.pod("lab2", tenant_id="TENANT-456"), node="lab2", tenant_id="TENANT-456")
    if status != "offline":
        assert take() == here
    assert (take(), take()) == (elsewhere, None)
    sql("UPDATE cloud_pod_nodes SET status = 'active' WHERE name = 'lab1'")
    assert take() == (here if status == "offline" else None)


def test_a_job_is_claimed_once_the_one_it_comes_after_has_succeeded(rows, sql):
    first = rows.job("BACKUP", pod=rows.pod(), run_after="2999-01-01")
    second = rows.job("SCALE", pod=rows.pod(), after_job_id=first)
    assert take() is None
    sql("UPDATE cloud_pod_jobs SET status = 'success' WHERE id = %s", first)
    assert take() == second
