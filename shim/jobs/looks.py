"""Jobs that look at a node as a whole: one of a kind at a time, ordered by the clock or by a person."""

from typing import Any

from shim import db
from shim.db import database
from shim.errors import Conflict
from shim.jobs import events
from shim.jobs.again import Again
from shim.jobs.models import CloudPodJob
from shim.jobs.submit import submit
from shim.nodes.models import CloudPodNode

# Nodes that may be asked. They are kept from being deleted until the look is there, which the deletion then cancels.
_UP = ("active", "cordoned", "draining")

_DUE = """
SELECT n.id FROM cloud_pod_nodes n
WHERE n.status = ANY(%(up)s)
  AND NOT EXISTS (
      SELECT 1 FROM cloud_pod_jobs j WHERE j.node_id = n.id AND j.cloud_pod_id IS NULL AND j.type = %(type)s
      AND (j.status IN ('queued', 'running') OR j.created_at > now() - make_interval(secs => %(interval_s)s)))
ORDER BY n.name FOR SHARE OF n
"""


def order_due(type: str, interval_s: float, payload: dict[str, Any]) -> list[CloudPodJob]:
    """Queue a look of this kind at every node whose last one is this long ago; return the jobs."""
    with database.atomic():
        alone(type)
        given = {"up": list(_UP), "type": type, "interval_s": interval_s}
        due = database.execute_sql(_DUE, given).fetchall()
        return [_submit(type, node_id, payload) for (node_id,) in due]


def order(type: str, node_name: str, payload: dict[str, Any]) -> CloudPodJob:
    """Queue a look of this kind at a node, or return the one that is queued or runs already. Raises NotFound."""
    with database.atomic():
        alone(type)
        node = CloudPodNode.keep(node_name)
        return CloudPodJob.pending_of_node(node.id, type) or _submit(type, node.id, payload)


def again(job: CloudPodJob) -> Again:
    """Return the order of a fresh look in the place of this one."""
    return Again(asked=None, give=lambda _: (_fresh(job), None))


def _fresh(job: CloudPodJob) -> CloudPodJob:
    alone(job.type)
    node = CloudPodNode.keep(job.node_name)
    pending = CloudPodJob.pending_of_node(node.id, job.type)
    if pending is not None:
        raise Conflict(f"node {node.name} is already looked at by job {pending.id}", code="job_pending", jobId=pending.id)
    return _submit(job.type, node.id, job.payload)


def may_be_asked() -> tuple[str, ...]:
    """Return the names of the nodes that may be asked."""
    return tuple(
        name for (name,) in db.rows("SELECT name FROM cloud_pod_nodes WHERE status = ANY(%s) ORDER BY name", (list(_UP),))
    )


def tell_failure(job: CloudPodJob, message: str, *, action: str) -> None:
    """Record that a look failed, unless the one before did: a node that is down for days is one event, not one a look."""
    if not CloudPodJob.failed_before(job):
        events.record(job, "WARN", message, action=action, node=job.node_name)


def tell_success(job: CloudPodJob) -> None:
    """Record that looks of this kind succeed again, when the one before failed."""
    if CloudPodJob.failed_before(job):
        events.record(
            job, "INFO", f"{job.node_name} answers again: {job.type}", action="LOOK_SUCCEEDS_AGAIN", node=job.node_name
        )


def alone(type: str) -> None:
    """Order looks of this kind one at a time, to the end of the transaction."""
    db.lock(f"looks {type}")


def _submit(type: str, node_id: str, payload: dict[str, Any]) -> CloudPodJob:
    return submit(type, tenant_id=None, cloud_pod_id=None, node_id=node_id, payload=payload, requested_by=None)
