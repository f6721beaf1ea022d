"""A new job: its row and its event, inside the transaction of the change it belongs to."""

from typing import Any

import peewee

from shim import caller
from shim.jobs import events
from shim.jobs.catalog import ACTIONS
from shim.jobs.models import CloudPodJob


def submit(
    type: str,
    *,
    tenant_id: str | None,
    cloud_pod_id: str | None,
    node_id: str,
    payload: dict[str, Any],
    requested_by: str | None,
    scheduled: bool = False,
) -> CloudPodJob:
    """Return a new queued job. Call inside a transaction; announce it (`Wakeups.announce`) after the commit.

    The caller holds the pod's row, so that jobs of one pod are ordered by the clock: the transaction's own
    start may lie before that of a job which committed meanwhile.
    """
    action = ACTIONS[type]
    requested_by = caller.requested_by(requested_by)
    if "requestedBy" in payload:
        # What the body says of it counts no more here than there.
        payload = {**payload, "requestedBy": requested_by}
    job = CloudPodJob.create(
        type=type,
        tenant_id=tenant_id,
        cloud_pod_id=cloud_pod_id,
        node=node_id,
        payload=payload,
        requested_by=requested_by,
        request_id=caller.origin().request_id,
        scheduled=scheduled,
        priority=action.priority,
        changes_pod=action.changes_pod,
        max_tries=action.tries,
        run_after=peewee.fn.now(),
        woken_at=peewee.fn.now(),
        created_at=peewee.fn.clock_timestamp(),
    )
    events.record_step(job, f"{type} queued", action="queued", requestedBy=requested_by)
    return CloudPodJob.find(job.id)
