"""DESTROY: a pod's end, from the request to its outcome."""

from dataclasses import replace
from typing import Any

from shim import db
from shim.cloudpods import adopt, anew, backup, change
from shim.cloudpods.drift_models import DriftReport
from shim.cloudpods.models import CloudPod, CloudPodSnapshot
from shim.cloudpods.schemas import DestroyPod
from shim.config import Settings
from shim.db import database
from shim.errors import Conflict
from shim.jobs import many
from shim.jobs.again import Again
from shim.jobs.models import CloudPodJob
from shim.nodes.models import Allocation


def destroy(reference: str, request: DestroyPod) -> tuple[CloudPodJob, CloudPod]:
    """Mark the pod as deleting and queue the job, after a backup if one is asked for.

    A failed destroy may be asked for again, a pending one not.
    """
    with database.atomic():
        pod = change.hold(reference, request.tenant_id)
        if pod.status == "deleted":
            raise Conflict(f"pod {pod.vmid} is already deleted", code="cloudpod_deleted")
        pending = CloudPodJob.pending(pod.id, "DESTROY")
        if pending is not None:
            raise Conflict(
                f"pod {pod.vmid} is already being destroyed by job {pending.id}", code="job_pending", jobId=pending.id
            )
        _require_unprotected(pod)
        _require_own_place(pod)
        first = backup.before(pod, request)
        return _order(pod, request, first), pod


def follow(job: CloudPodJob, pod: CloudPod) -> None:
    """Order the end of what a cancelled job left of a pod, whose row the caller holds, in the transaction of that job's end."""
    if CloudPodJob.pending(pod.id, "DESTROY") is None:
        reason = f"left by {job.type} {job.id}, which was cancelled"
        asked = DestroyPod.model_validate({"tenantId": pod.tenant_id, "reason": reason})
        # Who ordered the job may be called otherwise than a body may say.
        _order(pod, asked.model_copy(update={"requested_by": job.requested_by}))


def _order(pod: CloudPod, request: DestroyPod, first: CloudPodJob | None = None) -> CloudPodJob:
    before = pod.status
    # Why one that stands is not whole is so still if it stays after all; why one that goes did not yet go is over.
    pod.change(error=pod.error if before == "active" else None, **_going(pod))
    many.cancel_scheduled(pod.id, "its pod is being destroyed")
    # What the pod is again when the job is cancelled before it did anything.
    return change.enqueue("DESTROY", pod, request, after=first, before=before)


def _require_unprotected(pod: CloudPod) -> None:
    if pod.protected:
        raise Conflict(
            f'pod {pod.vmid} is protected; send {{"protected": false}} by PUT to destroy it after all', code="pod_protected"
        )


def _require_own_place(pod: CloudPod) -> None:
    """Raise Conflict for a failed pod whose vmid or address another one has by now, if there is nothing of it to destroy."""
    if pod.status == "failed" and (_vmid_is_lost(pod) or _ip_is_lost(pod)) and Allocation.of_pod(pod.id) is None:
        raise Conflict(f"vmid {pod.vmid} or its address belongs to another live pod by now", code="vmid_taken")


def _going(pod: CloudPod) -> dict[str, str]:
    """Return the columns of a pod that is to be destroyed. What another one has by now a pod that goes may not have as well."""
    if pod.status != "failed":
        return {"status": "deleting"}
    # The node gave its address to another one; its vmid another node may have. What is destroyed, the node knows by the marker.
    return {**({"ip": ""} if _ip_is_lost(pod) else {}), "status": "failed" if _vmid_is_lost(pod) else "deleting"}


def _vmid_is_lost(pod: CloudPod) -> bool:
    return CloudPod.live_vmid(pod.vmid, but=pod.id)


def _ip_is_lost(pod: CloudPod) -> bool:
    return CloudPod.live_ip(pod.ip, but=pod.id)


def variables(job: CloudPodJob) -> dict[str, Any]:
    """Return the playbook's extra vars."""
    return change.guard(job, CloudPod.find(str(job.cloud_pod_id)))


def succeed(job: CloudPodJob, result: dict[str, Any]) -> None:
    """Nothing of the pod is left: free its vmid, address and share of node and quota."""
    pod = change.pod_of(job)
    pod.change(status="deleted", power_state="stopped", error=None, deleted_at=db.now())
    change.give_back(job, pod)
    CloudPodSnapshot.forget(pod)
    change.record(
        "STATE_CHANGE",
        "CloudPod destroyed",
        job,
        action="DESTROYED",
        vmid=pod.vmid,
        ip=pod.ip,
        changed=result.get("changed"),
    )


def fail(job: CloudPodJob, failure: dict[str, Any]) -> None:
    """The pod stays `deleting` and says why; its vmid and address stay taken. If nothing was begun it is as it was.

    So is one whose adoption came to nothing: its container is somebody else's, and the node will always refuse to destroy it.
    """
    pod = change.pod_of(job)
    if failure.get("unbegun") or (failure["left_behind"] == "nothing" and _was_never_adopted(job, pod)):
        _stay(job, pod, failure)
        return
    pod.change(error=failure["msg"])
    change.record_failure(job, failure, "CloudPod not destroyed", action="DESTROY_FAILED", vmid=pod.vmid)


def cancelled(job: CloudPodJob, failure: dict[str, Any]) -> None:
    """The pod is what it was, if it stands still; one that is gone, or going, is destroyed to its end all the same.

    One that was moved meanwhile is not where the look was: the next look at its new node tells what it is.
    """
    seen = failure.get("seen") or {}
    if seen and _elsewhere(job, change.pod_of(job)):
        _stay(job, change.pod_of(job), failure)
    elif not seen.get("exists", True) or seen.get("lock") == "destroyed":
        fail(job, failure)
        follow(job, change.pod_of(job))
    elif failure.get("unbegun") or seen:
        pod = change.pod_of(job)
        change.note_power(pod, failure)
        _stay(job, pod, failure)
    else:
        fail(job, failure)


def left(job: CloudPodJob, seen: dict[str, Any]) -> str:
    """Return what ended runs left of the pod: all of it, or what another destroy takes away."""
    pod = CloudPod.find(str(job.cloud_pod_id))
    if _elsewhere(job, pod):
        return f"unknown: container {pod.vmid} is on another node by now"
    if change.stands(pod, seen):
        return change.power_left(pod, seen)
    return f"container {pod.vmid}, not whole" if seen.get("exists") else f"perhaps the address of {pod.vmid}"


def _elsewhere(job: CloudPodJob, pod: CloudPod) -> bool:
    """Return whether the pod is on another node than the job's, or another one's look showed a container of it."""
    return pod.node_id != job.node_id or bool(DriftReport.copies([pod.id]))


def _stay(job: CloudPodJob, pod: CloudPod, failure: dict[str, Any]) -> None:
    status, error = _before(job, pod, failure)
    maker = CloudPodJob.maker(pod.id)
    if status == "failed" and maker is not None and maker.type == "ADOPT":
        # When it ended, the pod waited for this job.
        adopt.give_up(maker, pod, str(error))
    else:
        pod.change(status=status, error=error)
    told: dict[str, Any] = {"action": "DESTROY_NOT_BEGUN"}
    if failure.get("cancelled"):
        told = {"action": "DESTROY_CANCELLED", "cancelledBy": failure["by"], "leftBehind": failure["left_behind"]}
    message = f"CloudPod not destroyed, it stays: {failure['msg']}"
    change.record("STATE_CHANGE", message, job, **told, vmid=pod.vmid, status=pod.status)


def _before(job: CloudPodJob, pod: CloudPod, failure: dict[str, Any]) -> tuple[str, str | None]:
    """Return the status, and the error, that the pod would have if its destruction had not been ordered."""
    before, maker = job.payload.get("before", "active"), CloudPodJob.maker(pod.id)
    if before == "deleting":
        # An earlier destroy may have got half-way.
        return before, failure["msg"]
    if before == "provisioning" and maker is not None and maker.status in ("queued", "running"):
        return before, None
    if before == "active" or (before == "provisioning" and maker is not None and maker.status == "success"):
        return "active", pod.error
    return "failed", maker.error if maker else failure["msg"]


def _was_never_adopted(job: CloudPodJob, pod: CloudPod) -> bool:
    maker = CloudPodJob.maker(pod.id)
    over = maker is not None and maker.type == "ADOPT" and maker.status in ("failed", "cancelled")
    # An earlier destroy may have got half-way.
    return over and job.payload.get("before") != "deleting"


def settle(job: CloudPodJob, seen: dict[str, Any]) -> dict[str, Any] | None:
    """A lost destroy may have ended between the container and its address; running it again finishes both."""
    return None


def again(job: CloudPodJob, settings: Settings) -> Again:
    """Return the order anew; a pod that was backed up for it, and may not be whole any more, is not backed up again."""
    said = anew.change(job, DestroyPod, destroy)
    return replace(said, asked=said.asked.model_copy(update={"backup_first": False})) if _is_backed_up(job) else said


def _is_backed_up(job: CloudPodJob) -> bool:
    begun = CloudPod.find(str(job.cloud_pod_id)).status == "deleting"
    return begun and job.after_job_id is not None and CloudPodJob.find(job.after_job_id).status == "success"
