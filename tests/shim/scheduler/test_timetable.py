"""What the scheduler does by the clock, and that two of them are as good as one."""

import os
import signal
import subprocess
import sys

import pytest
import redis

from shim import db, old_run
from shim.jobs.queue import Wakeups
from shim.scheduler import timetable
from shim.scheduler.timetable import MAX_WAITING, announce, entries


@pytest.fixture
def wakeups(settings):
    return Wakeups(settings.redis_url)


def queued(sql, number, type="BACKUP"):
    """Insert queued jobs of no pod that nobody was woken for."""
    sql(
        "INSERT INTO cloud_pod_jobs (type, node_id) SELECT %s, n.id FROM cloud_pod_nodes n, generate_series(1, %s)"
        " WHERE n.name = 'lab1'",
        type,
        number,
    )


def test_no_more_wake_ups_wait_than_can_be_taken_soon(session, sql, wakeups):
    queued(sql, MAX_WAITING + 30)
    for _ in range(3):
        announce(wakeups, 10.0)
    assert wakeups.waiting("BACKUP") == MAX_WAITING


def test_wake_ups_that_were_taken_make_room(session, sql, wakeups, settings):
    queued(sql, MAX_WAITING + 30)
    announce(wakeups, 10.0)
    redis.Redis.from_url(settings.redis_url).ltrim("rq:queue:cloudpods:backup", 5, -1)
    announce(wakeups, 10.0)
    assert wakeups.waiting("BACKUP") == MAX_WAITING


def test_one_full_queue_does_not_hold_up_another(session, sql, wakeups):
    queued(sql, MAX_WAITING + 30)
    queued(sql, 3, "HEALTH_CHECK")
    announce(wakeups, 10.0)
    assert wakeups.waiting("HEALTH_CHECK") == 3


def test_what_a_wiped_redis_forgot_is_announced_again(session, sql, wakeups, settings):
    queued(sql, 3)
    announce(wakeups, 10.0)
    redis.Redis.from_url(settings.redis_url).flushall()
    announce(wakeups, 10.0)
    assert wakeups.waiting("BACKUP") == 0
    sql("UPDATE cloud_pod_jobs SET woken_at = woken_at - interval '11 s'")
    announce(wakeups, 10.0)
    assert wakeups.waiting("BACKUP") == 3


def test_without_redis_nothing_is_noted_as_announced(session, sql):
    queued(sql, 3)
    announce(Wakeups("unix:///nowhere/redis.sock"), 10.0)
    assert sql.value("SELECT count(*) FROM cloud_pod_jobs WHERE woken_at IS NULL") == 3


def test_lost_jobs_are_announced_at_once(session, rows, sql, wakeups):
    rows.running(pod=rows.pod(), lease_until="2026-01-01", woken_at=sql.value("SELECT now()"))
    timetable.collect_lost()
    announce(wakeups, 10.0)
    assert wakeups.waiting("BACKUP") == 1


def test_every_entry_has_a_name_of_its_own(settings, wakeups):
    timetable = entries(settings, wakeups)
    assert len({entry.name for entry in timetable}) == len(timetable)
    assert all(entry.interval_s > 0 for entry in timetable)


def test_the_clock_forgets_what_was_printed_long_ago(session, rows, sql, wakeups, settings):
    job_id = rows.job("BACKUP")
    for seq, days in ((1, 31), (2, 29)):
        sql(
            "INSERT INTO cloud_pod_job_logs (job_id, attempt, seq, text, created_at)"
            " VALUES (%s, 1, %s, 'x', now() - make_interval(days => %s))",
            job_id,
            seq,
            days,
        )
    (entry,) = [entry for entry in entries(settings, wakeups) if entry.name == "forget old logs"]
    entry.function()
    assert sql("SELECT seq FROM cloud_pod_job_logs") == [(2,)]


@pytest.fixture
def scheduler(tenants, tmp_path):
    """Return a way to start a scheduler process; those still running are killed afterwards."""
    started = []
    tenants.state_dir.mkdir(parents=True)
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith("CLOUDPODS_")},
        "CLOUDPODS_DATABASE_URL": tenants.database_url,
        "CLOUDPODS_REDIS_URL": tenants.redis_url,
        "CLOUDPODS_STATE_DIR": str(tenants.state_dir),
        "CLOUDPODS_TICK_S": "0.1",
        # Announced again by nobody: each wake-up is counted.
        "CLOUDPODS_ANNOUNCE_AFTER_S": "3600",
    }

    def start():
        started.append(subprocess.Popen([sys.executable, "-m", "shim.cli", "scheduler"], env=environ))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


LOCKS = (
    "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND mode = 'ExclusiveLock'"
    " AND (classid::bigint << 32 | objid::bigint) = hashtextextended('cloudpods:scheduler', 0)"
)
CONNECTIONS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'cloudpods'"


def test_of_two_schedulers_one_works_and_the_other_takes_over(scheduler, sql, eventually):
    first = scheduler()
    ((holder,),) = eventually(lambda: sql(LOCKS))
    second = scheduler()
    # The second looks for the lock, a connection each time, and does not get it.
    eventually(lambda: sql.value(CONNECTIONS) >= 2)
    assert sql(LOCKS) == [(holder,)]
    first.send_signal(signal.SIGTERM)
    assert first.wait(timeout=10) == 0
    eventually(lambda: sql(LOCKS) not in ([], [(holder,)]))
    assert second.poll() is None


LOOKS = "SELECT count(*) FROM cloud_pod_jobs WHERE type = 'RECONCILE' GROUP BY node_id"
OLD = (
    "UPDATE cloud_pod_jobs SET status = 'success', finished_at = now(), created_at = created_at - interval '1 hour'"
    " WHERE status = 'queued'"
)


def killed(first, holder, sql):
    first.kill()


def cut_off(first, holder, sql):
    sql("SELECT pg_terminate_backend(%s)", holder)


@pytest.mark.parametrize("loses", [killed, cut_off])
def test_two_schedulers_do_everything_once_and_so_does_the_one_that_takes_over(scheduler, sql, wakeups, eventually, loses):
    first = scheduler()
    ((holder,),) = eventually(lambda: sql(LOCKS), within_s=60)
    second = scheduler()
    eventually(lambda: sql.value(CONNECTIONS) >= 2, within_s=60)
    # One job of this kind for each of the two nodes, and one wake-up for each of them.
    eventually(lambda: wakeups.waiting("RECONCILE") == 2, within_s=60)
    assert sql(LOOKS) == [(1,), (1,)]
    loses(first, holder, sql)
    eventually(lambda: sql(LOCKS) not in ([], [(holder,)]), within_s=60)
    assert second.poll() is None
    sql(OLD)
    eventually(lambda: wakeups.waiting("RECONCILE") == 4, within_s=60)
    assert sql(LOOKS) == [(2,), (2,)]


def test_a_scheduler_that_waits_finds_what_died_on_its_host(tenants, rows, sql, scheduler, eventually):
    """Whoever works may be elsewhere, where nobody sees that a process of this host is gone."""
    with db.session():
        run = old_run.Run(old_run.host(), 2**22, 1)
        died = {"run_host": run.host, "run_pid": run.pid, "run_started": run.started, "run_attempt": 1}
        lost = rows.running(pod=rows.pod(), **died)
    sql("SELECT pg_advisory_lock(hashtextextended('cloudpods:scheduler', 0))")
    try:
        scheduler()
        assert eventually(lambda: sql.row("cloud_pod_jobs", lost.id)["lost"], within_s=60)
    finally:
        sql("SELECT pg_advisory_unlock(hashtextextended('cloudpods:scheduler', 0))")


def test_a_scheduler_survives_the_loss_of_its_connection(scheduler, sql, eventually):
    process = scheduler()
    ((holder,),) = eventually(lambda: sql(LOCKS))
    sql("SELECT pg_terminate_backend(%s)", holder)
    eventually(lambda: sql(LOCKS) not in ([], [(holder,)]))
    assert process.poll() is None


def test_a_running_scheduler_announces_and_collects(scheduler, rows, sql, wakeups, eventually):
    with db.session():
        lost = rows.running(pod=rows.pod(), lease_until="2026-01-01")
    scheduler()
    assert eventually(lambda: sql.row("cloud_pod_jobs", lost.id)["lost"])
    assert eventually(lambda: wakeups.waiting("BACKUP") >= 1)
