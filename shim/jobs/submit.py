"""A new job: its row and its event, inside the transaction of the change it belongs to."""

from typing import Any

import peewee

from shim import caller
from shim.errors import Conflict
from shim.events.models import CloudPodEvent
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
    # What the clock orders is one at a time, what comes after another order is part of that one.
    if cloud_pod_id is not None and not scheduled and after is None and (dry_run or type not in _ONCE):
        _require_room(cloud_pod_id)
    about: dict[str, Any] = {"tenant_id": tenant_id, "cloud_pod_id": cloud_pod_id, "node": node_id, **columns}
    how: dict[str, Any] = {"scheduled": scheduled, "dry_run": dry_run, "after": after}
    row = _row(type, payload=payload, requested_by=requested_by, **how, **about)
    job = CloudPodJob.write(**row)
    events.record_step(job, _said(job), action="queued", requestedBy=job.requested_by)
    return job


def submit_all(type: str, orders: list[dict[str, Any]]) -> list[CloudPodJob]:
    """Return new queued jobs of new pods, each with its id and the other columns that `submit` takes, written at once."""
    rows = [_row(type, **order) for order in orders]
    CloudPodJob.write_all(rows)
    found = {job.id: job for job in CloudPodJob.select().where(CloudPodJob.id.in_([row["id"] for row in rows]))}
    jobs = [found[row["id"]] for row in rows]
    CloudPodEvent.record_all([_queued(job) for job in jobs])
    return jobs


def _queued(job: CloudPodJob) -> dict[str, Any]:
    about = {"tenant_id": job.tenant_id, "cloud_pod_id": job.cloud_pod_id, "job_id": job.id}
    return {"type": "INFO", "message": _said(job), **about, "data": {"action": "queued", "requestedBy": job.requested_by}}


def _said(job: CloudPodJob) -> str:
    return f"{job.type} queued{' as a dry run' if job.dry_run else ''}"


def _row(
    type: str,
    *,
    payload: dict[str, Any],
    requested_by: str | None,
    scheduled: bool = False,
    dry_run: bool = False,
    after: CloudPodJob | None = None,
    **columns: Any,
) -> dict[str, Any]:
    action = ACTIONS[type]
    requested_by = caller.requested_by(requested_by)
    if "requestedBy" in payload:
        # What the body says of it counts no more here than there.
        payload = {**payload, "requestedBy": requested_by}
    return {
        "type": type,
        "payload": payload,
        "requested_by": requested_by,
        "request_id": caller.origin().request_id,
        "scheduled": scheduled,
        "by_house": caller.current() is None,
        "priority": action.priority,
        "dry_run": dry_run,
        "after_job_id": after.id if after else None,
        # A rehearsal is no change that others would have to wait for.
        "changes_pod": action.changes_pod and not dry_run,
        "max_tries": action.tries,
        "run_after": peewee.fn.now(),
        # Nobody need be woken for it before the one it waits for is over.
        "woken_at": None if after else peewee.fn.now(),
        "created_at": peewee.fn.clock_timestamp(),
        **columns,
    }


def _require_room(cloud_pod_id: str) -> None:
    """Raise Conflict when the pod, whose row the caller holds, has as many unfinished jobs as it may have."""
    if CloudPodJob.unfinished_of_pod(cloud_pod_id) >= PER_POD:
        raise Conflict(f"this pod has {PER_POD} unfinished jobs; try again when some are done", code="too_many_jobs")
