"""Jobs of nodes that are offline, which nobody can claim: those that somebody would wait for in vain are ended by the clock."""

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import peewee

from shim import db
from shim.db import database
from shim.jobs import cancel, ending
from shim.jobs.models import CloudPodJob

log = logging.getLogger(__name__)

# A node, or a pod there, that keeps everybody waiting for longer has a fault that waiting will not mend.
WAIT_AT_MOST = timedelta(hours=24)

# Others wait for their pod, which is on that node; these could be made on another one.
_UNBEGUN = """
SELECT j.id FROM cloud_pod_jobs j JOIN cloud_pod_nodes n ON n.id = j.node_id
WHERE n.status = 'offline' AND j.status = 'queued' AND j.attempt = 0 AND j.created_at < now() - interval '1 hour'
  AND (j.type IN ('CREATE', 'ADOPT') OR (j.type = 'RESTORE' AND j.payload @> '{"asNew": true}'))
ORDER BY j.created_at LIMIT 100
"""
_TO_BE_ENDED = """
SELECT j.id FROM cloud_pod_jobs j JOIN cloud_pod_nodes n ON n.id = j.node_id
WHERE n.status = 'offline' AND j.status = 'queued' AND j.cancel_requested_at < now() - %s
ORDER BY j.cancel_requested_at LIMIT 100
"""


def fail_unbegun() -> None:
    """Fail what was to make a pod on a node that is offline and was not begun within an hour: it holds quota and a place."""
    _end_each(db.rows(_UNBEGUN), _fail_unbegun)


def cancel_out_of_reach() -> None:
    """Cancel what is to be ended on a node that is offline for as long: nobody can look at what its runs left there."""
    _end_each(db.rows(_TO_BE_ENDED, (WAIT_AT_MOST,)), _cancel_out_of_reach)


def _end_each(found: list[tuple[Any, ...]], end: Callable[[CloudPodJob], None]) -> None:
    """End each of the jobs, held, if it is queued still. One that cannot be ended keeps nobody behind it waiting."""
    for (job_id,) in found:
        try:
            with database.atomic():
                job = _hold(job_id)
                if job is not None:
                    end(job)
        except (peewee.OperationalError, peewee.InterfaceError):
            raise
        except Exception:
            log.exception("job %s: cannot be ended, though its node is offline", job_id)


def _fail_unbegun(job: CloudPodJob) -> None:
    if job.attempt == 0:
        msg = f"not begun: node {job.node_name} is offline; order it anew, on another node"
        ending.fail_queued(job, {"msg": msg, "retryable": False, "left_behind": "nothing", "unbegun": True})


def _cancel_out_of_reach(job: CloudPodJob) -> None:
    hours = WAIT_AT_MOST.total_seconds() / 3600
    left = f"unknown: node {job.node_name} is offline, and nobody could look there for {hours:g} hours"
    ending.cancel_queued(job, cancel.failure(job.cancel_requested_by, left))


def _hold(job_id: str) -> CloudPodJob | None:
    """Lock the rows of a job's pod and of the job; return it if it is queued still."""
    # The pod before its job, as everywhere.
    db.rows("SELECT 1 FROM cloud_pods WHERE id = %s FOR UPDATE", (CloudPodJob.find(job_id).cloud_pod_id,))
    held = db.rows("SELECT 1 FROM cloud_pod_jobs WHERE id = %s AND status = 'queued' FOR UPDATE", (job_id,))
    return CloudPodJob.find(job_id) if held else None
