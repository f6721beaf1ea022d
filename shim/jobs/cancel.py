"""Ending a job before it is done, by somebody's word.

A job that nobody began ends at once, as if it had never been given. One that was begun is asked to: whoever runs it stops (its
lease tells), and whoever has it next looks at the node, ends there what is still at work, and ends the job as what really
happened (`worker/cancelling.py`): done after all, or cancelled, with what it left.
"""

import time
from typing import Any

from shim import caller, db
from shim.db import database
from shim.errors import Conflict, Forbidden, Unavailable
from shim.jobs import ending, events, state
from shim.jobs.catalog import ACTIONS
from shim.jobs.models import CloudPodJob

# So often, and so long after each other, is looked again when others have a job's row just now.
LOOKS, PAUSE_S = 20, 0.1


def cancel(job_id: str, *, by: str | None = None) -> CloudPodJob:
    """Return the job, cancelled or asked to end; a queued one is to be announced. Asking again changes nothing.

    Raises NotFound, also for another tenant's; Forbidden for what whoever asks might not order; Conflict for a job that ended
    otherwise.
    """
    who = caller.origin().actor or by or "the house"
    for _ in range(LOOKS):
        with database.atomic() as attempt:
            if _try(job_id, who):
                return CloudPodJob.find(job_id)
            # With an Idempotency-Key the request's transaction stays open, and the pod's lock with it: whoever has the job may
            # be waiting for that.
            attempt.rollback()
        time.sleep(PAUSE_S)
    raise Unavailable(f"others have job {job_id} just now; ask again", code="busy")


def _try(job_id: str, who: str) -> bool:
    """Cancel the job, or ask it to end; False when somebody was in the way, and the job may be another one by now."""
    job = CloudPodJob.find(job_id)
    _require_right(job)
    if job.status == "cancelled" or (job.cancel_requested_at is not None and job.status in ("queued", "running")):
        return True
    if job.status not in ("queued", "running"):
        raise Conflict(f"job {job.id} is over: {job.status}", code="job_over", jobStatus=job.status)
    if job.status == "queued" and not _begun(job):
        return _cancel_unbegun(job, who)
    if not state.ask_to_end(job, who):
        return False
    events.record(job, "INFO", f"{job.type} is to be cancelled, asked for by {who}", action="CANCEL_REQUESTED")
    return True


def _require_right(job: CloudPodJob) -> None:
    who = caller.current()
    if who is None or who.may("manage"):
        return
    who.require(ACTIONS[job.type].permission)
    if job.by_house:
        # It may be what takes a pod back to a size that its tenant's quota allows.
        raise Forbidden(
            f"{job.type} {job.id} was ordered by the house, not by a user; ending it needs the permission manage",
            code="ordered_by_house",
        )


def _cancel_unbegun(job: CloudPodJob, who: str) -> bool:
    if job.cloud_pod_id is not None:
        # The pod before its job, as orders have them. Outcomes have them the other way round: nobody waits for a job here.
        db.rows("SELECT 1 FROM cloud_pods WHERE id = %s FOR UPDATE", (job.cloud_pod_id,))
    if not state.hold_unbegun(job):
        return False
    ending.cancel_unbegun(job, failure(who, "nothing", unbegun=True))
    return True


def failure(who: str | None, left_behind: str, **more: Any) -> dict[str, Any]:
    """Return what a cancelled job says: by whom, and what it left on its node."""
    left = "" if left_behind == "nothing" else f"; left behind: {left_behind}"
    said = {"msg": f"cancelled by {who}{left}", "retryable": False, "left_behind": left_behind}
    return {**said, "cancelled": True, "by": who, **more}


def may_have_left(job: CloudPodJob) -> bool:
    """Return whether runs of the job may have left something on its node: they were, and they do more than look."""
    return _begun(job) and not job.dry_run and ACTIONS[job.type].leaves_traces


def _begun(job: CloudPodJob) -> bool:
    # A run that was ended because its worker stopped is no try.
    return job.tries > 0 or job.lost
