"""A run's output on its way from the run's thread to the table, by the lease's."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import peewee
import pytest

from shim import db
from shim.jobs import state
from shim.jobs.claim import claim
from shim.jobs.log_models import CloudPodJobLog
from shim.jobs.log_text import MOST
from shim.jobs.log_writing import LogWriter
from shim.jobs.models import CloudPodJob
from shim.worker import lease as lease_module
from shim.worker.lease import Lease

pytestmark = pytest.mark.usefixtures("session")
WHOLE = "SELECT coalesce(string_agg(text, '' ORDER BY seq), '') FROM cloud_pod_job_logs WHERE job_id = %s"


@pytest.fixture
def job(rows):
    # Another tenant's, whose log stays empty.
    rows.running(pod=rows.pod("lab2", tenant_id="TENANT-456"), node="lab2", tenant_id="TENANT-456")
    return rows.running(pod=rows.pod())


def test_what_is_printed_is_there_while_the_run_goes_on(job, sql, eventually):
    with Lease(job, 30.0) as lease:
        lease.log.add("TASK [a]\n")
        eventually(lambda: sql.value(WHOLE, job.id) == "TASK [a]\n")
        lease.log.add("ok: [lab1]\n")
        eventually(lambda: sql.value(WHOLE, job.id) == "TASK [a]\nok: [lab1]\n")
    assert sql("SELECT DISTINCT job_id, attempt FROM cloud_pod_job_logs") == [(job.id, 1)]


def test_everything_is_there_before_the_outcome(job, sql, monkeypatch):
    monkeypatch.setattr(lease_module, "FLUSH_S", 60.0)
    with Lease(job, 30.0) as lease:
        for number in range(200):
            lease.log.add(f"{number}\n")
            if number % 50 == 49:
                lease.flush()
                assert sql.value(WHOLE, job.id).endswith(f"\n{number}\n")
    assert sql.value(WHOLE, job.id) == "".join(f"{number}\n" for number in range(200))
    assert sql.value("SELECT count(*) FROM cloud_pod_job_logs") < 20


def test_five_megabytes_are_written_in_pieces_and_what_is_cut_is_told(job, sql, monkeypatch):
    monkeypatch.setattr(lease_module, "FLUSH_S", 60.0)
    line = "x" * 99 + "\n"
    with Lease(job, 30.0) as lease:
        for _ in range(50_000):
            lease.log.add(line)
        lease.log.add("PLAY RECAP\n")
        lease.log.end()
        lease.flush()
        whole = sql.value(WHOLE, job.id)
    assert MOST < len(whole) < MOST + 40_000
    assert "characters are left out here" in whole
    assert whole.endswith("PLAY RECAP\n")
    assert sql.value("SELECT max(length(text)) FROM cloud_pod_job_logs") <= 8000


def test_a_database_that_goes_away_in_the_middle_loses_nothing_and_doubles_nothing(job, sql, eventually):
    with Lease(job, 30.0) as lease:
        for number in range(60):
            lease.log.add(f"{number}\n")
            if number % 10 == 0:
                sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'cloudpods'")
            time.sleep(0.02)
        eventually(lambda: not lease.log.waits())
    assert sql.value(WHOLE, job.id) == "".join(f"{number}\n" for number in range(60))


def test_what_was_committed_before_the_connection_broke_is_not_written_again(job, sql, monkeypatch):
    writer = LogWriter(job)
    append = CloudPodJobLog.append

    def broken(*given):
        append(*given)
        raise db.Unavailable("gone, after the commit")

    writer.add("once\n")
    monkeypatch.setattr(CloudPodJobLog, "append", broken)
    with pytest.raises(db.Unavailable):
        writer.write()
    assert writer.waits()
    monkeypatch.setattr(CloudPodJobLog, "append", append)
    writer.add("and more\n")
    writer.write()
    assert not writer.waits()
    assert sql.value(WHOLE, job.id) == "once\nand more\n"


def test_two_attempts_follow_each_other_in_one_log(job, sql):
    first = LogWriter(job)
    first.add("first\n")
    first.write()
    state.run_again(job, {"msg": "no", "retryable": True, "left_behind": "nothing"})
    sql("UPDATE cloud_pod_jobs SET run_after = now()")
    second_job = claim([job.type], worker="w", lease_s=30)
    second = LogWriter(second_job)
    second.add("second\n")
    second.write()
    # The first one's process still has something to say, while the job is under way.
    first.add("late\n")
    first.write()
    said = sql("SELECT seq, attempt, text FROM cloud_pod_job_logs ORDER BY seq")
    assert said == [(1, 1, "first\n"), (2, 2, "second\n"), (3, 1, "late\n")]


def test_two_attempts_that_write_at_once_lose_nothing_and_number_without_a_gap(job, sql):
    sql("UPDATE cloud_pod_jobs SET attempt = 2 WHERE id = %s", job.id)

    def write(attempt):
        mine = CloudPodJob.find(job.id)
        mine.attempt = attempt
        writer = LogWriter(mine)
        for number in range(100):
            writer.add(f"{number}\n")
            while writer.waits():
                with suppress(peewee.IntegrityError), db.session():
                    writer.write()

    def in_thread(attempt):
        with db.session():
            write(attempt)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(in_thread, (1, 2)))
    assert sql("SELECT seq FROM cloud_pod_job_logs ORDER BY seq") == [(number,) for number in range(1, 201)]
    for attempt in (1, 2):
        said = sql("SELECT text FROM cloud_pod_job_logs WHERE attempt = %s ORDER BY seq", attempt)
        assert said == [(f"{number}\n",) for number in range(100)]


def test_an_older_attempt_adds_nothing_to_a_job_that_is_over(job, sql):
    sql("UPDATE cloud_pod_jobs SET attempt = 2, status = 'success', lease_until = NULL WHERE id = %s", job.id)
    writer = LogWriter(job)
    writer.add("too late\n")
    writer.write()
    assert not writer.waits()
    assert sql.value("SELECT count(*) FROM cloud_pod_job_logs") == 0


def test_a_log_goes_with_its_job(job, sql):
    writer = LogWriter(job)
    writer.add("a\n")
    writer.write()
    sql("DELETE FROM cloud_pod_jobs WHERE id = %s", job.id)
    assert sql.value("SELECT count(*) FROM cloud_pod_job_logs") == 0
    writer.add("b\n")
    writer.write()
    assert not writer.waits()


def test_old_pieces_are_removed_some_at_a_time(job, sql, monkeypatch):
    sql(
        "INSERT INTO cloud_pod_job_logs (job_id, attempt, seq, text, created_at)"
        " SELECT %s, 1, n, 'x', now() - make_interval(hours => 228 - 24 * n) FROM generate_series(1, 9) n",
        job.id,
    )
    monkeypatch.setattr("shim.jobs.log_models.FORGOTTEN_AT_ONCE", 3)
    assert [CloudPodJobLog.forget_old(5) for _ in range(3)] == [3, 1, 0]
    assert sql("SELECT seq FROM cloud_pod_job_logs ORDER BY seq") == [(5,), (6,), (7,), (8,), (9,)]
