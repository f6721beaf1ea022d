"""The lease's thread: it renews, writes progress, and notices when the job is no longer ours."""

import pytest

from shim import db
from shim.worker.lease import Lease

pytestmark = pytest.mark.usefixtures("session")
SHORT_S = 9.0


@pytest.fixture
def job(rows):
    return rows.running(pod=rows.pod(), lease_until="2026-01-01")


def test_a_job_that_is_held_has_its_lease_renewed(job, sql, eventually):
    with Lease(job, SHORT_S) as lease:
        ((first,),) = eventually(lambda: sql("SELECT lease_until FROM cloud_pod_jobs WHERE lease_until > now()"))
        eventually(lambda: sql.value("SELECT lease_until > %s FROM cloud_pod_jobs", first))
        assert lease.lost() is None


def test_nothing_is_renewed_after_the_end(job, sql, eventually):
    with Lease(job, SHORT_S):
        eventually(lambda: sql.value("SELECT lease_until > now() FROM cloud_pod_jobs"))
    last = sql.value("SELECT lease_until FROM cloud_pod_jobs")
    eventually(lambda: sql.value("SELECT now() > %s", last), within_s=30)
    assert sql.value("SELECT lease_until FROM cloud_pod_jobs") == last


def test_a_job_given_to_another_attempt_is_noticed(job, sql, eventually):
    with Lease(job, SHORT_S) as lease:
        sql("UPDATE cloud_pod_jobs SET attempt = 2")
        assert eventually(lease.lost) == "the job was given to another attempt"
        lease_until = sql.value("SELECT lease_until FROM cloud_pod_jobs")
    assert sql.value("SELECT lease_until FROM cloud_pod_jobs") == lease_until


def test_a_lease_that_cannot_be_renewed_is_lost_by_its_own_clock(job, eventually):
    db.connect("postgresql://nobody@/none?host=/nowhere", pool_size=1)
    with Lease(job, SHORT_S) as lease:
        assert lease.lost() is None
        assert eventually(lease.lost) == "the lease could not be renewed in time"


def test_a_database_that_is_away_for_a_moment_loses_nothing(job, tenants, sql, eventually):
    with Lease(job, 15.0) as lease:
        sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'cloudpods'")
        lease.progress("Create the pod")
        eventually(lambda: sql("SELECT 1 FROM cloud_pod_events WHERE message = 'Create the pod'"))
        assert lease.lost() is None


def test_progress_becomes_events_in_order(job, sql):
    with Lease(job, 30.0) as lease:
        for number in range(20):
            lease.progress(f"task {number}")
    written = sql("SELECT message, type, job_id, cloud_pod_id, tenant_id, data FROM cloud_pod_events ORDER BY seq")
    assert [row[0] for row in written] == [f"task {number}" for number in range(20)]
    about = ("INFO", job.id, job.cloud_pod_id, "TENANT-123", {"action": "progress", "attempt": 1})
    assert {row[1:5] for row in written} == {about[:4]}
    assert written[0][5] == about[4]


@pytest.mark.parametrize("task", ["bad\x00byte", "bad\udcffbyte"], ids=["NUL", "half a surrogate pair"])
def test_a_task_name_that_cannot_be_stored_does_not_end_the_lease(job, sql, eventually, task):
    with Lease(job, SHORT_S) as lease:
        lease.progress(task)
        lease.progress("the next task")
        eventually(lambda: sql("SELECT 1 FROM cloud_pod_events WHERE message = 'the next task'"))
        assert lease.lost() is None
