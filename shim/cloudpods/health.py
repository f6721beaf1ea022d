"""HEALTH_CHECK: how a pod is, from the request to its outcome."""

from typing import Any

from shim import db
from shim.cloudpods import anew, change, verdict
from shim.cloudpods.models import CloudPod
from shim.cloudpods.schemas import CheckHealth
from shim.config import Settings
from shim.db import database
from shim.errors import CloudPodsError, Conflict
from shim.jobs.again import Again
from shim.jobs.models import CloudPodJob


def check(reference: str) -> tuple[CloudPodJob, CloudPod]:
    """Queue a health check, or return the one that is already queued: a second one would see the same."""
    with database.atomic():
        pod = CloudPod.hold(reference)
        change.require_active(pod)
        request = CheckHealth(tenantId=pod.tenant_id, triggeredBy="manual")
        pending = CloudPodJob.pending(pod.id, "HEALTH_CHECK")
        if pending is not None and pending.cancel_requested_at is None:
            return pending, pod
        return change.enqueue("HEALTH_CHECK", pod, request), pod


def _fresh(reference: str, request: CheckHealth) -> tuple[CloudPodJob, CloudPod]:
    """Queue a health check unless one is queued."""
    pod = change.hold(reference, request.tenant_id)
    change.require_active(pod)
    pending = CloudPodJob.pending(pod.id, "HEALTH_CHECK")
    if pending is not None:
        raise Conflict(f"pod {pod.vmid} is already looked at by job {pending.id}", code="job_pending", jobId=pending.id)
    return change.enqueue("HEALTH_CHECK", pod, request), pod


def variables(job: CloudPodJob) -> dict[str, Any]:
    """Return the playbook's extra vars."""
    return {"vmids": [CloudPod.find(str(job.cloud_pod_id)).vmid]}


def succeed(job: CloudPodJob, result: dict[str, Any]) -> None:
    """Keep what was seen; `result` is a sweep's, a map by node."""
    pod = change.pod_of(job)
    row = verdict.judged(_row(pod, result), pod.wanted_power)
    pod.change(
        last_health_status=row["verdict"],
        last_health_checked=db.now(),
        last_health=row,
        power_state=verdict.power_state(row),
    )
    change.record(
        "HEALTH",
        f"CloudPod health: {row['verdict']}",
        job,
        action="HEALTH_CHECKED",
        verdict=row["verdict"],
        reasons=row["reasons"],
    )


def fail(job: CloudPodJob, failure: dict[str, Any]) -> None:
    """The last known health stays."""
    change.record(
        "WARN",
        f"CloudPod health not known: {failure['msg']}",
        job,
        action="HEALTH_CHECK_FAILED",
    )


def settle(job: CloudPodJob, seen: dict[str, Any]) -> dict[str, Any] | None:
    """A lost check runs again."""
    return None


def again(job: CloudPodJob, settings: Settings) -> Again:
    """Return the order anew."""
    return anew.change(job, CheckHealth, _fresh)


def as_json(pod: CloudPod) -> dict[str, Any]:
    """Return the latest stored health of a pod as clients see it."""
    return {
        "vmid": pod.vmid,
        "cloudPodId": pod.id,
        "tenantId": pod.tenant_id,
        "lastHealthStatus": pod.last_health_status,
        "lastHealthChecked": db.iso(pod.last_health_checked),
        "details": pod.last_health,
    }


def _row(pod: CloudPod, result: dict[str, Any]) -> dict[str, Any]:
    rows: list[dict[str, Any]] = result.get(pod.node.name, {}).get("health", [])
    row = next((r for r in rows if r.get("vmid") == pod.vmid), None)
    if row is None:
        raise CloudPodsError(f"the health playbook's result says nothing usable about vmid {pod.vmid}", code="bad_result")
    return row
