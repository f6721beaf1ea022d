"""A job that came to nothing, ordered anew: which may be, one at a time, and what tells of it.

| the job | may be ordered anew |
|---|---|
| queued, running | no: `job_not_over` |
| success | no: `nothing_to_retry` |
| failed, cancelled | yes, unless one that repeats it, or what it repeats itself, did not come to nothing: `already_retried` |

It is a new job, which says in `retry_of` what it repeats, and it is given by the very function that gave the first: quota,
place, guards and limits judge it as they would any order. How, its action's handler knows (`Handler.again`).
"""

from shim import db
from shim.errors import Conflict, NotFound
from shim.jobs import events
from shim.jobs.models import OVER, CloudPodJob

# The job that this one repeats, the one that that one does, and so on; the first of them repeats none.
_FIRST = """
WITH RECURSIVE earlier AS (
    SELECT id, retry_of FROM cloud_pod_jobs WHERE id = %s
    UNION ALL SELECT j.id, j.retry_of FROM cloud_pod_jobs j JOIN earlier e ON j.id = e.retry_of
) SELECT id FROM earlier WHERE retry_of IS NULL
"""
_LATER = """
WITH RECURSIVE later AS (
    SELECT id, status FROM cloud_pod_jobs WHERE retry_of = %s
    UNION ALL SELECT j.id, j.status FROM cloud_pod_jobs j JOIN later l ON j.retry_of = l.id
) SELECT id, status FROM later WHERE status NOT IN ('failed', 'cancelled') LIMIT 1
"""


def hold(job_id: str, tenant_id: str | None) -> CloudPodJob:
    """Return the job that is to be ordered anew, by nobody else before the transaction's end. Raises NotFound or Conflict.

    Call before anything else is locked.
    """
    # Of several that repeat one another each may be asked for again, but only one of them all may be under way.
    first = next((id for (id,) in db.rows(_FIRST, (CloudPodJob.find(job_id).id,))), job_id)
    db.lock(f"retry {first}")
    # A node's old looks are forgotten.
    db.rows("SELECT 1 FROM cloud_pod_jobs WHERE id = %s FOR KEY SHARE", (job_id,))
    job = CloudPodJob.find(job_id)
    if tenant_id not in (None, job.tenant_id):
        raise NotFound(f"tenant {tenant_id} has no job {job_id!r}", code="job_not_found")
    _require_vain(job)
    for later, status in db.rows(_LATER, (first,)):
        raise Conflict(f"this was ordered anew already, as job {later} ({status})", code="already_retried", jobId=later)
    return job


def note(first: CloudPodJob, job: CloudPodJob) -> None:
    """Write which job the new one repeats, and tell those who follow the first."""
    CloudPodJob.update(retry_of=first.id).where(CloudPodJob.id == job.id).execute()
    job.retry_of = first.id
    said = f"{first.type} ordered anew: job {job.id}"
    events.record_step(first, said, action="JOB_RETRIED", retryJobId=job.id, requestedBy=job.requested_by)


def _require_vain(job: CloudPodJob) -> None:
    if job.status not in OVER:
        raise Conflict(
            f"this job is {job.status} still; follow it, or cancel it first", code="job_not_over", jobStatus=job.status
        )
    if job.status == "success":
        raise Conflict("this job succeeded; order anew what is to be done once more", code="nothing_to_retry")
