"""SCALE: more or fewer cores and memory for a pod, from the request to its outcome."""

from typing import Any

from shim.cloudpods import change
from shim.cloudpods.models import CloudPod
from shim.cloudpods.schemas import ScalePod
from shim.db import database
from shim.jobs.models import CloudPodJob
from shim.nodes.models import Allocation
from shim.quotas import ledger
from shim.quotas.ledger import Amount


def scale(reference: str, request: ScalePod) -> tuple[CloudPodJob, CloudPod]:
    """Queue a change of an active pod's size."""
    with database.atomic():
        pod = change.hold(reference, request.tenant_id)
        change.require_active(pod)
        job = change.enqueue("SCALE", pod, request)
        size = Amount.of_pod(request.new_cores, request.new_memory_mb, pod.disk_gb)
        ledger.reserve(pod.tenant_id, job.id, pod.id, size)
        return job, pod


def variables(job: CloudPodJob) -> dict[str, Any]:
    """Return the playbook's extra vars."""
    size = {"cores": job.payload["newCores"], "memory_mb": job.payload["newMemoryMb"]}
    return {**change.guard(job, CloudPod.find(str(job.cloud_pod_id))), **size}


def succeed(job: CloudPodJob, result: dict[str, Any]) -> None:
    """Write the new size to the pod and to its share of the node."""
    pod = change.pod_of(job)
    before = {"cores": pod.cores, "memoryMb": pod.memory_mb}
    after = {"cores": job.payload["newCores"], "memoryMb": job.payload["newMemoryMb"]}
    pod.change(cores=after["cores"], memory_mb=after["memoryMb"])
    Allocation.resize(pod.id, after["cores"], after["memoryMb"])
    change.settle(job, pod)
    change.record(
        "STATE_CHANGE",
        "CloudPod scaled",
        job,
        action="SCALED",
        vmid=pod.vmid,
        before=before,
        after=after,
    )


def fail(job: CloudPodJob, failure: dict[str, Any]) -> None:
    """The pod is as it was."""
    ledger.release(job.id)
    change.record(
        "ERROR",
        f"CloudPod not scaled: {failure['msg']}",
        job,
        action="SCALE_FAILED",
        leftBehind=failure["left_behind"],
    )


def settle(job: CloudPodJob, seen: dict[str, Any]) -> dict[str, Any] | None:
    """A lost scale is done when the pod has the size asked for."""
    asked = (job.payload["newCores"], job.payload["newMemoryMb"])
    if change.is_ours(CloudPod.find(str(job.cloud_pod_id)), seen) and (seen.get("cores"), seen.get("memory_mb")) == asked:
        return {"vmid": seen["vmid"], "cloudpod": seen, "changed": True}
    return None
