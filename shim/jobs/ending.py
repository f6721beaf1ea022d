"""A job's end: its state, what it means for its pod, its quota, and the jobs that come after it. The only way to end a job that
somebody began.

What the action's handler did not settle of the quota itself is settled here: nothing stays reserved by a job that is over.
Call inside the one transaction that all of it belongs to.
"""

from typing import Any

from shim import db
from shim.db import database
from shim.jobs import rehearsal, state
from shim.jobs.catalog import ACTIONS
from shim.jobs.models import CloudPodJob
from shim.quotas import ledger

# Others wait for their pod, which is on that node; these could be made on another one.
_STRANDED = """
SELECT j.id FROM cloud_pod_jobs j JOIN cloud_pod_nodes n ON n.id = j.node_id
WHERE n.status = 'offline' AND j.status = 'queued' AND j.attempt = 0 AND j.created_at < now() - interval '1 hour'
  AND (j.type IN ('CREATE', 'ADOPT') OR (j.type = 'RESTORE' AND j.payload @> '{"asNew": true}'))
ORDER BY j.created_at LIMIT 100
"""


def succeed(job: CloudPodJob, result: dict[str, Any]) -> None:
    """End the job well. Raises state.LostLease, and whatever an unusable result makes its handler raise."""
    state.succeed(job, result)
    _meaning(job).succeed(job, result)
    ledger.commit(job.id)


def fail(job: CloudPodJob, failure: dict[str, Any]) -> None:
    """End the job badly, and each that waits for its success. Raises state.LostLease."""
    state.fail(job, failure)
    _mean_failure(job, failure)


def begin_anew(job: CloudPodJob, failure: dict[str, Any]) -> bool:
    """Put the job back with another vmid or address for its new pod, when somebody has the one it had; return whether it was.

    Raises state.LostLease.
    """
    clashes = ACTIONS[job.type].clashes
    # A dry run has no pod, and tells what the node says.
    if clashes is None or job.dry_run or "taken" not in failure:
        return False
    payload = clashes.avoid(job, failure)
    if payload is not None:
        state.begin_anew(job, payload, failure)
    return payload is not None


def fail_followers(job: CloudPodJob, why: str) -> None:
    """Fail what waits for a job that ended without success, each as its action does."""
    msg = f"not begun, because the {job.type} that was to come first failed (job {job.id}): {why}"
    for follower in CloudPodJob.waiting_for(job.id):
        failure = {"msg": msg, "retryable": False, "left_behind": "nothing", "unbegun": True}
        state.fail_unbegun(follower, failure)
        _mean_failure(follower, failure)


def fail_stranded() -> None:
    """Fail what was to make a pod on a node that is offline and was not begun within an hour: it holds quota and a place."""
    for (job_id,) in db.rows(_STRANDED):
        with database.atomic():
            job = CloudPodJob.find(job_id)
            # The pod before its job, as everywhere.
            db.rows("SELECT 1 FROM cloud_pods WHERE id = %s FOR UPDATE", (job.cloud_pod_id,))
            if db.rows(
                "SELECT 1 FROM cloud_pod_jobs WHERE id = %s AND status = 'queued' AND attempt = 0 FOR UPDATE", (job_id,)
            ):
                msg = f"not begun: node {job.node_name} is offline; order it anew, on another node"
                failure = {"msg": msg, "retryable": False, "left_behind": "nothing", "unbegun": True}
                state.fail_unbegun(job, failure)
                _mean_failure(job, failure)


def _mean_failure(job: CloudPodJob, failure: dict[str, Any]) -> None:
    _meaning(job).fail(job, failure)
    ledger.release(job.id)
    fail_followers(job, failure["msg"])


def _meaning(job: CloudPodJob) -> Any:
    return rehearsal if job.dry_run else ACTIONS[job.type].handler
