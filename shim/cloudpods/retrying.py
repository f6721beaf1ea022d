"""A job ordered anew, by HTTP or by hand: its order is given once more, as it was, to the function that took the first.

A dry run's retry is a dry run. What had a backup before it has one again.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from shim import caller
from shim.cloudpods import dry_run, holding
from shim.cloudpods.models import CloudPod
from shim.cloudpods.schemas import ChangePod, CreatePod
from shim.config import Settings
from shim.db import database
from shim.jobs import retry as retries
from shim.jobs.again import Again
from shim.jobs.catalog import ACTIONS
from shim.jobs.models import CloudPodJob
from shim.jobs.schemas import RetryJob

# Takes the order and whether it is only rehearsed, and refuses it when there are too many.
Admit = Callable[[CreatePod | ChangePod, bool], None]


def retry(
    job_id: str, request: RetryJob, settings: Settings, *, admit: Admit | None = None
) -> tuple[CloudPodJob, CloudPod | None, dict[str, Any]]:
    """Order the job anew in one transaction; return the new job, which is to be announced, its pod if there is one, and what a
    dry run tells.

    Raises whatever the order would, and Conflict for a job that is not over, succeeded or was ordered anew already.
    """
    with database.atomic():
        first = retries.hold(job_id, request.tenant_id)
        action = ACTIONS[first.type]
        caller.require(action.permission)
        again = action.handler.again(first, settings)
        asked = again.asked and again.asked.model_copy(update={"requested_by": request.requested_by})
        # What concerns a node as a whole is not counted.
        if admit and isinstance(asked, CreatePod | ChangePod):
            admit(asked, first.dry_run)
        job, pod, plan = _given(partial(again.give, asked), again, first)
        retries.note(first, job)
        return job, pod, plan


def _given(order: dry_run.Order, again: Again, first: CloudPodJob) -> tuple[CloudPodJob, CloudPod | None, dict[str, Any]]:
    if not first.dry_run:
        return *order(), {}
    return dry_run.rehearse(order, partial(holding.hold_for, again.asked, again.reference))
