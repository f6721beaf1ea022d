"""What a run came to: the job's end and what it means for the pod, in one transaction, fenced by the attempt."""

import logging
from typing import Any

import peewee

from shim import db
from shim.db import database, storable
from shim.errors import CloudPodsError
from shim.events.models import CloudPodEvent
from shim.jobs import state
from shim.jobs.catalog import ACTIONS
from shim.jobs.models import CloudPodJob
from shim.worker.playbook import Outcome

log = logging.getLogger(__name__)


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
            state.succeed(job, result)
            ACTIONS[job.type].handler.succeed(job, result)
    except state.LostLease:
        raise
    except (CloudPodsError, KeyError, TypeError, AttributeError, ValueError, peewee.IntegrityError, peewee.DataError) as error:
        log.exception("job %s: unusable result", job.id)
        return Outcome(
            None,
            {"msg": f"the playbook's result is unusable: {db.first_line(error)}", "retryable": False, "left_behind": "unknown"},
        )
    log.info("job %s: success", job.id)
    return Outcome(None, None)


def _fail(job: CloudPodJob, failure: dict[str, Any]) -> None:
    if failure["retryable"] and job.tries < job.max_tries:
        with database.atomic():
            pause_s = state.run_again(job, failure)
            _note_retry(job, failure, pause_s)
        log.warning("job %s: %s; again in %.0f s", job.id, failure["msg"], pause_s)
        return
    with database.atomic():
        state.fail(job, failure)
        ACTIONS[job.type].handler.fail(job, failure)
    log.warning("job %s: failed: %s", job.id, failure["msg"])


def _note_retry(job: CloudPodJob, failure: dict[str, Any], pause_s: float) -> None:
    CloudPodEvent.record(
        "WARN",
        f"{job.type} will be tried again: {failure['msg']}",
        tenant_id=job.tenant_id,
        cloud_pod_id=job.cloud_pod_id,
        job_id=job.id,
        action="retry",
        tries=job.tries,
        maxTries=job.max_tries,
        pauseS=round(pause_s, 1),
    )
