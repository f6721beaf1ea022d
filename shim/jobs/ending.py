"""A job's end: its state, what it means for its pod, its quota, and the jobs that come after it. The only way to end a job that
somebody began.

What the action's handler did not settle of the quota itself is settled here: nothing stays reserved by a job that is over.
Call inside the one transaction that all of it belongs to.
"""

from typing import Any

from shim import db
from shim.jobs import events, rehearsal, state
from shim.jobs.catalog import ACTIONS
from shim.jobs.models import CloudPodJob
from shim.quotas import ledger


def succeed(job: CloudPodJob, result: dict[str, Any]) -> None:
    """End the job well. Raises state.LostLease, and whatever an unusable result makes its handler raise."""
    state.succeed(job, result)
    CloudPodJob.wait_for_the_next(job.id)
    _meaning(job).succeed(job, result)
    ledger.commit(job.id)
    if job.cancel_requested_by is not None:
        too_late = f"{job.type} was done before it could be cancelled"
        events.record(job, "WARN", too_late, action="CANCEL_TOO_LATE", cancelledBy=job.cancel_requested_by)


def fail(job: CloudPodJob, failure: dict[str, Any]) -> None:
    """End the job badly, and each that waits for its success. Raises state.LostLease."""
    state.fail(job, failure)
    _mean_failure(job, failure)


def cancel(job: CloudPodJob, failure: dict[str, Any]) -> None:
    """End a job that somebody asked to end (`cancel.failure`), and each that waits for its success. Raises state.LostLease."""
    state.cancel(job, failure)
    _mean_cancel(job, failure)


def cancel_unbegun(job: CloudPodJob, failure: dict[str, Any]) -> None:
    """End a job at once of which no run was begun, and whose row the caller holds (`state.hold_unbegun`)."""
    who = failure["by"]
    job.cancel_requested_by = who
    cancel_queued(job, failure, cancel_requested_at=db.now(), cancel_requested_by=who)


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
    ended = "was cancelled" if job.status == "cancelled" else "failed"
    msg = f"not begun, because the {job.type} that was to come first {ended} (job {job.id}): {why}"
    for follower in CloudPodJob.waiting_for(job.id):
        failure = {"msg": msg, "retryable": False, "left_behind": "nothing", "unbegun": True}
        fail_queued(follower, failure)


def fail_queued(job: CloudPodJob, failure: dict[str, Any]) -> None:
    """End a queued job badly that nobody may begin any more, unless somebody else, who says what it means, ends it just now."""
    if state.end_unbegun(job, "failed", failure):
        _mean_failure(job, failure)


def cancel_queued(job: CloudPodJob, failure: dict[str, Any], **columns: Any) -> None:
    """End a queued job as cancelled, whose row the caller holds, with these columns."""
    state.end_unbegun(job, "cancelled", failure, **columns)
    _mean_cancel(job, failure)


def _mean_failure(job: CloudPodJob, failure: dict[str, Any]) -> None:
    _meaning(job).fail(job, failure)
    ledger.release(job.id)
    fail_followers(job, failure["msg"])


def _mean_cancel(job: CloudPodJob, failure: dict[str, Any]) -> None:
    action = ACTIONS[job.type]
    if action.leaves_traces and not job.dry_run:
        action.cancelled(job, failure)
    else:
        # It was to change nothing.
        message = f"{job.type}{' as a dry run' if job.dry_run else ''} {failure['msg']}"
        events.record(job, "INFO", message, action=f"{job.type}_CANCELLED", cancelledBy=failure["by"])
    ledger.release(job.id)
    fail_followers(job, failure["msg"])


def _meaning(job: CloudPodJob) -> Any:
    return rehearsal if job.dry_run else ACTIONS[job.type].handler
