"""What an earlier state of a pod brings back with it: its size, by a snapshot's rollback or by a restore in place.

The size is kept with the snapshot or the archive, so that the order can reserve the larger of it and the table's. Of those
that are older than that it is not known: the table's is reserved. Whatever came back in the end is what counts, since it is
real; when that is larger than the pod was and more than the quota allows, the size it had before is ordered again.
"""

from typing import Any

from shim.cloudpods import change, scale
from shim.cloudpods.backup_models import CloudPodBackup
from shim.cloudpods.models import CloudPod, CloudPodSnapshot
from shim.cloudpods.schemas import ChangePod, ScalePod
from shim.db import database
from shim.errors import CloudPodsError
from shim.jobs.models import CloudPodJob
from shim.quotas import ledger
from shim.quotas.ledger import Amount
from shim.quotas.models import TenantQuota

REASON = "what came back is larger than the quota allows"


def order(type: str, pod: CloudPod, request: ChangePod, kept: CloudPodSnapshot | CloudPodBackup, **further: Any) -> CloudPodJob:
    """Queue the way back to what was kept; room for its size is booked at once. Raises QuotaExceeded or Conflict."""
    job = change.enqueue(type, pod, request, **further)
    cores, memory_mb = max(pod.cores, kept.cores or 0), max(pod.memory_mb, kept.memory_mb or 0)
    ledger.reserve(pod.tenant_id, job.id, pod.id, Amount.of_pod(cores, memory_mb, pod.disk_gb))
    change.book(pod, cores=cores, memory_mb=memory_mb)
    return job


def succeed(job: CloudPodJob, pod: CloudPod, seen: dict[str, Any]) -> None:
    """Write what `cloudpod_info` saw of the pod: its size may be an earlier one, and it may not run.

    What it does not say, or says oddly, stays as it was: the work is done all the same.
    """
    before = {"cores": pod.cores, "memory_mb": pod.memory_mb}
    power_state = seen["status"] if seen.get("status") in ("running", "stopped") else "unknown"
    # A container without a limit has no cores at all.
    cores, memory_mb = _number(seen, "cores", pod.cores, least=1), _number(seen, "memory_mb", pod.memory_mb, least=1)
    swap_mb = _number(seen, "swap_mb", pod.swap_mb, least=0)
    pod.change(power_state=power_state, cores=cores, memory_mb=memory_mb, swap_mb=swap_mb)
    change.settle(job, pod)
    change.rebook(pod)
    if _is_too_large(pod, before):
        _shrink(job, pod, before)


def fail(job: CloudPodJob, pod: CloudPod, failure: dict[str, Any]) -> None:
    """The pod has the size it had. When nobody knows, its node keeps the room for the larger one."""
    ledger.release(job.id)
    if failure["left_behind"] == "nothing":
        change.rebook(pod)


def _is_too_large(pod: CloudPod, before: dict[str, int]) -> bool:
    if pod.status != "active":
        return False
    limits, used = TenantQuota.balance(pod.tenant_id)
    cores = pod.cores > before["cores"] and used.cores > limits.cores
    return cores or (pod.memory_mb > before["memory_mb"] and used.ram_mb > limits.ram_mb)


def _shrink(job: CloudPodJob, pod: CloudPod, before: dict[str, int]) -> None:
    size = {"newCores": before["cores"], "newMemoryMb": before["memory_mb"]}
    request = ScalePod.model_validate({"tenantId": pod.tenant_id, "reason": REASON, **size})
    try:
        with database.atomic():
            ordered = scale.scale(pod.id, request)[0]
    except CloudPodsError as error:
        change.record("WARN", f"{REASON}; not ordered back: {error.message}", job, action="SIZE_OVER_QUOTA", code=error.code)
        return
    change.record("WARN", f"{REASON}: ordered back", job, action="SIZE_OVER_QUOTA", before=before, scaleJobId=ordered.id)


def _number(seen: dict[str, Any], name: str, known: int, *, least: int) -> int:
    value = seen.get(name)
    return value if isinstance(value, int) and least <= value < 2**31 else known
