"""What a run came to: the job's end and what it means for the pod, in one transaction, fenced by the attempt."""

import logging
from datetime import datetime
from typing import Any

import peewee

from shim import db
from shim.db import database, storable
from shim.errors import CloudPodsError
from shim.jobs import cancel, ending, events, state, stranded
from shim.jobs.catalog import ACTIONS
from shim.jobs.models import CloudPodJob
from shim.worker.failure import NOTHING, UNKNOWN
from shim.worker.playbook import Outcome

log = logging.getLogger(__name__)

# The scripts' code for "another run holds it" (docs/node-contract.md).
BUSY_RC = 75
WAIT_AT_MOST = stranded.WAIT_AT_MOST
# What is raised where a node says something else than it must.
UNUSABLE = (CloudPodsError, KeyError, TypeError, AttributeError, ValueError, peewee.IntegrityError, peewee.DataError)
SAID = {"wait": "waits", "retry": "will be tried again", "look": "will be settled by a look at the node"}


def write(job: CloudPodJob, outcome: Outcome) -> None:
    """Write the outcome. Raises state.LostLease, and writes nothing, when the job is another attempt's by now.

    With a result, the failure is what the outcome is where that result is unusable: of a look, which need not be repeated.
    """
    failure = outcome.failure
    if outcome.result is not None:
        unusable = _succeed(job, storable(outcome.result))
        if unusable is None:
            return
        failure = _cancelled_instead(job, failure, unusable["msg"]) if failure else unusable
    if failure is not None:
        _fail(job, storable(failure))


def _cancelled_instead(job: CloudPodJob, failure: dict[str, Any], why: str) -> dict[str, Any]:
    """Return a cancelled job's failure when nobody can tell what its runs did."""
    return {**failure, **cancel.failure(job.cancel_requested_by, f"{UNKNOWN}: {why}")}


def _succeed(job: CloudPodJob, result: dict[str, Any]) -> dict[str, Any] | None:
    """Write a success; return the failure when the result is not what the action must give."""
    try:
        with database.atomic():
            ending.succeed(job, result)
    except state.LostLease:
        raise
    except UNUSABLE as error:
        log.exception("job %s: unusable result", job.id)
        msg = f"the playbook's result is unusable: {db.first_line(error)}"
        return {"msg": msg, "retryable": False, "left_behind": UNKNOWN}
    log.info("job %s: success", job.id)
    return None


def _fail(job: CloudPodJob, failure: dict[str, Any]) -> None:
    """End the job, or put it back."""
    with database.atomic():
        if failure.get("cancelled"):
            _cancel(job, failure)
        elif state.asked_to_end(job):
            _cut_short(job, _with_worst_left(job, failure))
        else:
            _go_on(job, failure)
    log.warning("job %s: %s: %s", job.id, job.status, failure["msg"])


def _cancel(job: CloudPodJob, failure: dict[str, Any]) -> None:
    """Cancel the job; where what was seen of its pod is unusable, without it: the next look would see the same."""
    try:
        with database.atomic():
            ending.cancel(job, failure)
    except state.LostLease:
        raise
    except UNUSABLE as error:
        if "seen" not in failure:
            raise
        log.exception("job %s: unusable look", job.id)
        unseen = {name: value for name, value in failure.items() if name != "seen"}
        ending.cancel(job, _cancelled_instead(job, unseen, db.first_line(error)))


def _cut_short(job: CloudPodJob, failure: dict[str, Any]) -> None:
    """Cancel a job that was asked to end while it ran, or have a look tell first what the run left."""
    # "Nothing" of a failure that tried something may also mean that all was done: a destroy's.
    never_tried = is_busy(failure) and failure["left_behind"] == NOTHING and job.tries == 1 and not job.lost
    if never_tried or not cancel.may_have_left(job):
        ending.cancel(job, cancel.failure(job.cancel_requested_by, NOTHING, unbegun=True))
    else:
        state.look_first(job, failure, 0.0)
        _note(job, "look", failure, 0.0)


def _go_on(job: CloudPodJob, failure: dict[str, Any]) -> None:
    """End the job, or put it back: to wait for its busy pod, with another vmid, to be run again, or to be settled by a look."""
    if is_busy(failure) and not is_older(job.created_at):
        _note(job, "wait", failure, state.hand_back(job, counted=True))
        return
    failure = _with_worst_left(job, failure)
    if ending.begin_anew(job, failure):
        log.info("job %s: begins anew", job.id)
    elif failure["retryable"] and job.tries < job.max_tries:
        unheard = failure["left_behind"] == UNKNOWN and job.changes_pod
        _note(job, "retry", failure, state.run_again(job, failure, unheard=unheard))
    elif failure["left_behind"] == UNKNOWN and job.changes_pod and (failure.get("stopped") or not job.lost):
        state.look_first(job, failure)
        _note(job, "look", failure, state.LOOK_PAUSE_S)
    else:
        ending.fail(job, failure)


def _with_worst_left(job: CloudPodJob, failure: dict[str, Any]) -> dict[str, Any]:
    """Return the failure with what an earlier try left, as a look at the node saw it, or may have left."""
    earlier = (job.failure or {}).get("left_behind", NOTHING)
    if earlier == NOTHING or failure["left_behind"] != NOTHING:
        return failure
    return {**failure, "left_behind": earlier}


def is_busy(failure: dict[str, Any]) -> bool:
    """Return whether nothing was tried because another run holds the pod or the node's lock: waiting is no failure.

    A script that came to a lock of the node's at its last step says what it left.
    """
    waited = failure.get("rc") == BUSY_RC and failure.get("left_behind", NOTHING) == NOTHING
    return bool(failure.get("busy")) or waited


def is_older(moment: datetime) -> bool:
    """Return whether waiting since this moment was too long."""
    return db.age(moment) > WAIT_AT_MOST


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
