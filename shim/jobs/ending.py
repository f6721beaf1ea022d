"""A job's end: its state, what it means for its pod, and its quota. The only way to end a job that somebody began.

What the action's handler did not settle of the quota itself is settled here: nothing stays reserved by a job that is over.
Call inside the one transaction that all of it belongs to.
"""

from typing import Any

from shim.jobs import state
from shim.jobs.catalog import ACTIONS
from shim.jobs.models import CloudPodJob
from shim.quotas import ledger


def succeed(job: CloudPodJob, result: dict[str, Any]) -> None:
    """End the job well. Raises state.LostLease, and whatever an unusable result makes its handler raise."""
    state.succeed(job, result)
    ACTIONS[job.type].handler.succeed(job, result)
    ledger.commit(job.id)


def fail(job: CloudPodJob, failure: dict[str, Any]) -> None:
    """End the job badly. Raises state.LostLease."""
    state.fail(job, failure)
    ACTIONS[job.type].handler.fail(job, failure)
    ledger.release(job.id)
