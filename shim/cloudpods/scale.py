"""SCALE: more or less cores, memory and swap for a pod, from the request to its outcome. A pod is never made anew for it."""

from typing import Any

from shim.cloudpods import anew, backup, change
from shim.cloudpods.models import CloudPod
from shim.cloudpods.schemas import ScalePod
from shim.config import Settings
from shim.db import database
from shim.jobs import state
from shim.jobs.again import Again
from shim.jobs.models import CloudPodJob
from shim.quotas import ledger
from shim.quotas.ledger import Amount

# What is asked of each, by its name in payload, pod and result.
_NAMES = {"newCores": "cores", "newMemoryMb": "memory_mb", "swapMb": "swap_mb"}
# How the node calls what may wait for a start.
_CONF = {"cores": "cores", "memoryMb": "memory", "swapMb": "swap"}


def scale(reference: str, request: ScalePod) -> tuple[CloudPodJob, CloudPod]:
    """Queue a change of an active pod's size, after a backup if one is asked for. What it grows by is booked at once."""
    with database.atomic():
        pod = change.hold(reference, request.tenant_id)
        change.require_active(pod)
        job = change.enqueue("SCALE", pod, request, after=backup.before(pod, request))
        cores, memory_mb = request.new_cores or pod.cores, request.new_memory_mb or pod.memory_mb
        ledger.reserve(pod.tenant_id, job.id, pod.id, Amount.of_pod(cores, memory_mb, pod.disk_gb))
        change.book(pod, cores=cores, memory_mb=memory_mb)
        return job, pod


def variables(job: CloudPodJob) -> dict[str, Any]:
    """Return the playbook's extra vars: what was not asked for is as the pod has it by now."""
    pod = CloudPod.find(str(job.cloud_pod_id))
    asked = _asked(job)
    size = {"cores": asked.get("cores", pod.cores), "memory_mb": asked.get("memory_mb", pod.memory_mb)}
    swap = {"swap_mb": asked["swap_mb"]} if "swap_mb" in asked else {}
    return {**change.guard(job, pod), **size, **swap, "force": bool(job.payload.get("force"))}


def succeed(job: CloudPodJob, result: dict[str, Any]) -> None:
    """Write the new size to the pod and to its share of the node, and when each part of it takes effect to the job."""
    pod = change.pod_of(job)
    before = _size(pod)
    pod.change(**_asked(job))
    change.settle(job, pod)
    change.rebook(pod)
    effect = _takes_effect(job, result)
    state.keep(job, {**result, "takesEffect": effect})
    about = {"before": before, "after": _size(pod), "takesEffect": effect}
    change.record("STATE_CHANGE", "CloudPod scaled", job, action="SCALED", vmid=pod.vmid, **about)


def fail(job: CloudPodJob, failure: dict[str, Any]) -> None:
    """The pod is as it was. When nobody knows, its node keeps the room for the larger size."""
    pod = change.pod_of(job)
    ledger.release(job.id)
    if failure["left_behind"] == "nothing":
        change.rebook(pod)
    change.record_failure(job, failure, "CloudPod not scaled", action="SCALE_FAILED")


def settle(job: CloudPodJob, seen: dict[str, Any]) -> dict[str, Any] | None:
    """A lost scale is done when the pod has the size asked for."""
    pod = CloudPod.find(str(job.cloud_pod_id))
    if change.is_ours(pod, seen) and all(seen.get(name) == value for name, value in _asked(job).items()):
        return {"vmid": seen["vmid"], "cloudpod": seen, "pending": list(seen.get("pending") or {}), "changed": True}
    return None


def again(job: CloudPodJob, settings: Settings) -> Again:
    """Return the order anew."""
    return anew.change(job, ScalePod, scale)


def left(job: CloudPodJob, seen: dict[str, Any]) -> str:
    """Return what ended runs left: the pod as it was, or of another size."""
    pod = CloudPod.find(str(job.cloud_pod_id))
    size = {name: seen.get(name) for name in _NAMES.values()}
    if not change.is_ours(pod, seen) or None in size.values():
        return "unknown"
    as_before = all(getattr(pod, name) == value for name, value in size.items())
    return "nothing" if as_before else f"container {pod.vmid} with {', '.join(f'{n} {v}' for n, v in size.items())}"


def _asked(job: CloudPodJob) -> dict[str, int]:
    return {name: job.payload[said] for said, name in _NAMES.items() if said in job.payload}


def _size(pod: CloudPod) -> dict[str, int]:
    return {"cores": pod.cores, "memoryMb": pod.memory_mb, "swapMb": pod.swap_mb}


def _takes_effect(job: CloudPodJob, result: dict[str, Any]) -> dict[str, str]:
    """Return when each part that was asked for takes effect: a pod that does not run has all of it when it starts."""
    runs = (result.get("cloudpod") or {}).get("status") == "running"
    waiting = result.get("pending") or ()
    names = {"cores": "cores", "memory_mb": "memoryMb", "swap_mb": "swapMb"}
    asked = [names[name] for name in _asked(job)]
    return {name: "now" if runs and _CONF[name] not in waiting else "at next start" for name in asked}
