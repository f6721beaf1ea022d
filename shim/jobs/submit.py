"""A new job: its row and its event, inside the transaction of the change it belongs to."""

from typing import Any

import peewee

from shim import caller
from shim.errors import Conflict
from shim.jobs import events
from shim.jobs.catalog import ACTIONS
from shim.jobs.models import CloudPodJob

# So many jobs of a pod may be unfinished: they run one after the other, and each is looked at by whoever seeks the next.
PER_POD = 20
# A pod begins and ends once.
_ONCE = ("CREATE", "ADOPT", "DESTROY")


def submit(
    type: str,
    *,
    tenant_id: str | None,
    cloud_pod_id: str | None,
    node_id: str,
    payload: dict[str, Any],
    requested_by: str | None,
    scheduled: bool = False,
    dry_run: bool = False,
    after: CloudPodJob | None = None,
    **columns: Any,
) -> CloudPodJob:
    """Return a new queued job, which waits for the success of the one it comes `after`. Call inside a transaction, and announce
    it (`Wakeups.announce`). `columns` are more of its row's: a new pod's job keeps why its node was chosen.

    The caller holds the pod's row, so that jobs of one pod are ordered by the clock: the transaction's own
    start may lie before that of a job which committed meanwhile.
    """
    action = ACTIONS[type]
    # What the clock orders is one at a time, what comes after another order is part of that one.
    if cloud_pod_id is not None and not scheduled and after is None and (dry_run or type not in _ONCE):
        _require_room(cloud_pod_id)
    requested_by = caller.requested_by(requested_by)
    if "requestedBy" in payload:
        # What the body says of it counts no more here than there.
        payload = {**payload, "requestedBy": requested_by}
    job = CloudPodJob.write(
        type=type,
        tenant_id=tenant_id,
        cloud_pod_id=cloud_pod_id,
        node=node_id,
        payload=payload,
        requested_by=requested_by,
        request_id=caller.origin().request_id,
        scheduled=scheduled,
        priority=action.priority,
        dry_run=dry_run,
        after_job_id=after.id if after else None,
        # A rehearsal is no change that others would have to wait for.
        changes_pod=action.changes_pod and not dry_run,
        max_tries=action.tries,
        run_after=peewee.fn.now(),
        # Nobody need be woken for it before the one it waits for is over.
        woken_at=None if after else peewee.fn.now(),
        created_at=peewee.fn.clock_timestamp(),
        **columns,
    )
    said = f"{type} queued{' as a dry run' if dry_run else ''}"
    events.record_step(job, said, action="queued", requestedBy=requested_by)
    return job


def _require_room(cloud_pod_id: str) -> None:
    """Raise Conflict when the pod, whose row the caller holds, has as many unfinished jobs as it may have."""
    if CloudPodJob.unfinished_of_pod(cloud_pod_id) >= PER_POD:
        raise Conflict(f"this pod has {PER_POD} unfinished jobs; try again when some are done", code="too_many_jobs")
