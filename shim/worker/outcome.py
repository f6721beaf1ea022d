"""What a run came to: the job's end and what it means for the pod, in one transaction, fenced by the attempt."""

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import peewee

from shim import db
from shim.db import database, storable
from shim.errors import CloudPodsError
from shim.jobs import ending, events, state
from shim.jobs.catalog import ACTIONS
from shim.jobs.models import CloudPodJob
from shim.worker.failure import NOTHING, UNKNOWN
from shim.worker.playbook import Outcome

log = logging.getLogger(__name__)

# The scripts' code for "another run holds it" (docs/node-contract.md).
BUSY_RC = 75
# A pod that is busy for longer has a fault that waiting will not mend.
WAIT_AT_MOST = timedelta(hours=24)
SAID = {"wait": "waits", "retry": "will be tried again", "look": "will be settled by a look at the node"}


def write(job: CloudPodJob, outcome: Outcome) -> None:
    """Write the outcome. Raises state.LostLease, and writes nothing, when the job is another attempt's by now."""
    if outcome.result is not None:
        outcome = _succeed(job, storable(outcome.result))
    if outcome.failure is not None:
        _fail(job, storable(outcome.failure))


def _succeed(job: CloudPodJob, result: dict[str, Any]) -> Outcome:
    """Write a success; return the failure instead when the result is not what the action must give."""
    try:
        with database.atomic():
            ending.succeed(job, result)
    except state.LostLease:
        raise
    except (CloudPodsError, KeyError, TypeError, AttributeError, ValueError, peewee.IntegrityError, peewee.DataError) as error:
        log.exception("job %s: unusable result", job.id)
        return Outcome(
            None,
            {"msg": f"the playbook's result is unusable: {db.first_line(error)}", "retryable": False, "left_behind": UNKNOWN},
        )
    log.info("job %s: success", job.id)
    return Outcome(None, None)


def _fail(job: CloudPodJob, failure: dict[str, Any]) -> None:
    """End the job, or put it back: to wait for its busy pod, with another vmid, to be run again, or to be settled by a look."""
    failure = _with_worst_left(job, failure)
    with database.atomic():
        if _is_busy(failure) and not is_older(job.created_at):
            _note(job, "wait", failure, state.hand_back(job, counted=True))
        elif ending.begin_anew(job, failure):
            log.info("job %s: begins anew", job.id)
        elif failure["retryable"] and job.tries < job.max_tries:
            _note(job, "retry", failure, state.run_again(job, failure))
        elif failure["left_behind"] == UNKNOWN and job.changes_pod and not job.lost:
            state.look_first(job, failure)
            _note(job, "look", failure, state.LOOK_PAUSE_S)
        else:
            ending.fail(job, failure)
    log.warning("job %s: %s: %s", job.id, job.status, failure["msg"])


def _with_worst_left(job: CloudPodJob, failure: dict[str, Any]) -> dict[str, Any]:
    """Return the failure with what an earlier try may have left, unless this one looked at the node."""
    earlier = (job.failure or {}).get("left_behind", NOTHING)
    if job.lost or earlier == NOTHING or failure["left_behind"] != NOTHING:
        return failure
    return {**failure, "left_behind": earlier}


def _is_busy(failure: dict[str, Any]) -> bool:
    """Return whether nothing was tried because another run holds the pod or the node's lock: waiting is no failure."""
    return bool(failure.get("busy")) or failure.get("rc") == BUSY_RC


def is_older(moment: datetime) -> bool:
    """Return whether waiting since this moment was too long."""
    return datetime.now(UTC) - moment > WAIT_AT_MOST


def _note(job: CloudPodJob, action: str, failure: dict[str, Any], pause_s: float) -> None:
    if not ACTIONS[job.type].keeps_events:
        # A look by the clock: nobody follows it, and its end is told.
        return
    events.record(
        job,
        "WARN",
        f"{job.type} {SAID[action]}: {failure['msg']}",
        action=action,
        tries=job.tries,
        maxTries=job.max_tries,
        pauseS=round(pause_s, 1),
    )
