"""What every change of an existing pod has in common: find it, check whose it is, and that its state allows the change."""

from typing import Any

from shim import db
from shim.cloudpods.models import CloudPod
from shim.cloudpods.schemas import ChangePod
from shim.errors import Conflict, NotFound
from shim.jobs import events
from shim.jobs.models import CloudPodJob
from shim.jobs.submit import submit
from shim.nodes.candidates import Size
from shim.nodes.models import Allocation
from shim.nodes.placement import grow
from shim.quotas import ledger
from shim.quotas.ledger import Amount

# An open entry is the difference to what is committed.
_BOOKED = """
SELECT greatest(p.cores, h.cores + r.cores), greatest(p.memory_mb, h.memory_mb + r.memory_mb)
FROM cloud_pods p
CROSS JOIN LATERAL (
    SELECT coalesce(sum(cpu_cores), 0) AS cores, coalesce(sum(ram_mb), 0) AS memory_mb
    FROM quota_entries WHERE cloud_pod_id = p.id AND state = 'committed'
) h
CROSS JOIN LATERAL (
    SELECT max(cpu_cores) AS cores, max(ram_mb) AS memory_mb FROM quota_entries WHERE cloud_pod_id = p.id AND state = 'reserved'
) r
WHERE p.id = %s
"""


def hold(reference: str, tenant_id: str) -> CloudPod:
    """Return the tenant's pod, its row locked. Raises NotFound, also for another tenant's: its existence is not told."""
    pod = CloudPod.hold(reference)
    if pod.tenant_id != tenant_id:
        raise NotFound(f"tenant {tenant_id} has no pod {reference}", code="cloudpod_not_found")
    return pod


def require_active(pod: CloudPod) -> None:
    """Raise Conflict unless the pod is active."""
    if pod.status != "active":
        raise Conflict(
            f"pod {pod.vmid} is {pod.status}; this needs an active pod",
            code="cloudpod_not_active",
            cloudPodStatus=pod.status,
        )


def enqueue(
    type: str, pod: CloudPod, request: ChangePod, *, scheduled: bool = False, after: CloudPodJob | None = None, **further: Any
) -> CloudPodJob:
    """Return a new job for the pod: its payload is the request with the pod's vmid (the master spec's 2.2) and `further`."""
    return submit(
        type,
        tenant_id=pod.tenant_id,
        cloud_pod_id=pod.id,
        node_id=pod.node_id,
        payload={"vmid": pod.vmid, **request.payload(), **further},
        requested_by=request.requested_by,
        scheduled=scheduled,
        after=after,
    )


def pod_of(job: CloudPodJob) -> CloudPod:
    """Return the job's pod, its row locked: an outcome is written next."""
    return CloudPod.hold(str(job.cloud_pod_id))


def guard(job: CloudPodJob, pod: CloudPod) -> dict[str, Any]:
    """Return the extra vars every changing playbook gets: which container, and whose it must be."""
    return {"vmid": pod.vmid, "tenant_id": pod.tenant_id, "pod_id": pod.id, "run_id": job.run_id}


def record(type: str, message: str, job: CloudPodJob, *, action: str, **data: Any) -> None:
    """Append an event of the job's pod inside the transaction that is open."""
    events.record(job, type, message, action=action, **data)


def record_failure(job: CloudPodJob, failure: dict[str, Any], message: str, *, action: str, **data: Any) -> None:
    """Append an event that the job's work was not done: it failed, or somebody cancelled it."""
    type, about = "ERROR", {"action": action}
    if failure.get("cancelled"):
        type = "INFO" if failure["left_behind"] == "nothing" else "WARN"
        about = {"action": f"{job.type}_CANCELLED", "cancelledBy": failure["by"]}
    record(type, f"{message}: {failure['msg']}", job, leftBehind=failure["left_behind"], **about, **data)


def amount_of(pod: CloudPod) -> Amount:
    """Return what the pod takes of its tenant's quota."""
    return Amount.of_pod(pod.cores, pod.memory_mb, pod.disk_gb)


def settle(job: CloudPodJob, pod: CloudPod) -> None:
    """Count the pod as what it is after the job."""
    ledger.settle(pod.tenant_id, job.id, pod.id, amount_of(pod))


def give_back(job: CloudPodJob, pod: CloudPod) -> None:
    """Free a pod's share of the node and of its tenant's quota: nothing of it is left."""
    Allocation.release(pod.id)
    ledger.give_back(pod.tenant_id, job.id, pod.id)


def book(pod: CloudPod, *, cores: int, memory_mb: int) -> None:
    """Book the larger of what the pod has of its node and this size. Raises Conflict when the node has no room for it.

    Call inside the transaction that orders the change, after the quota's part.
    """
    share = Allocation.of_pod(pod.id)
    if share is None:
        return
    cores, memory_mb = max(cores, share.used_cpu_cores), max(memory_mb, share.used_memory_mb)
    more = Size(cores - share.used_cpu_cores, memory_mb - share.used_memory_mb, 0)
    if more.cores or more.memory_mb:
        grow(pod.node_id, more, tenant_id=pod.tenant_id)
        Allocation.resize(pod.id, cores, memory_mb)


def rebook(pod: CloudPod) -> None:
    """Book the largest of what the pod has and of what its unfinished orders may make of it, by the ledger's open entries.

    Call inside the transaction of an outcome, after the quota's part.
    """
    ((cores, memory_mb),) = db.rows(_BOOKED, (pod.id,))
    Allocation.resize(pod.id, cores, memory_mb)


def is_ours(pod: CloudPod, seen: dict[str, Any]) -> bool:
    """Return whether what `cloudpod_info` saw is this pod, whole."""
    owner = owner_of(seen)
    whole = bool(seen.get("exists")) and bool(seen.get("in_pool")) and not seen.get("unfinished")
    return whole and owner.get("tenant") == pod.tenant_id and owner.get("pod") == pod.id


def owner_of(seen: dict[str, Any]) -> dict[str, Any]:
    """Return whose the container is that `cloudpod_info` saw: tenant and pod, as far as it says."""
    return seen.get("owner") or {}


def stands(pod: CloudPod, seen: dict[str, Any]) -> bool:
    """Return whether what `cloudpod_info` saw is this pod, whole, with nothing under way that only its end would undo."""
    return is_ours(pod, seen) and not seen.get("lock") and seen.get("status") in ("running", "stopped")


def power_left(pod: CloudPod, seen: dict[str, Any]) -> str:
    """Return what the ended run of a job left of a pod that stands: nothing, or that it does not run, or does, any more."""
    return "nothing" if seen["status"] == pod.power_state else f"container {pod.vmid}, {seen['status']}"


def note_power(pod: CloudPod, failure: dict[str, Any]) -> None:
    """Write the power state that the look saw which settled a cancelled job."""
    status = (failure.get("seen") or {}).get("status")
    if status in ("running", "stopped"):
        pod.change(power_state=status)
