"""DESTROY: a pod's end, from the request to its outcome."""

from typing import Any

from shim import db
from shim.cloudpods import backup, change
from shim.cloudpods.models import CloudPod, CloudPodSnapshot
from shim.cloudpods.schemas import DestroyPod
from shim.db import database
from shim.errors import Conflict
from shim.jobs import state
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
        pod.change(error=None, **_going(pod))
        state.cancel_scheduled(pod.id, "its pod is being destroyed")
        return change.enqueue("DESTROY", pod, request, after=first), pod


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
    """The pod stays `deleting` and says why; its vmid and address stay taken. If nothing was begun it is as it was."""
    pod = change.pod_of(job)
    if failure.get("unbegun"):
        _stay(job, pod, failure)
        return
    pod.change(error=failure["msg"])
    change.record(
        "ERROR",
        f"CloudPod not destroyed: {failure['msg']}",
        job,
        action="DESTROY_FAILED",
        vmid=pod.vmid,
        leftBehind=failure["left_behind"],
    )


def _stay(job: CloudPodJob, pod: CloudPod, failure: dict[str, Any]) -> None:
    pod.change(status="active")
    message = f"CloudPod not destroyed, it stays: {failure['msg']}"
    change.record("STATE_CHANGE", message, job, action="DESTROY_NOT_BEGUN", vmid=pod.vmid, status=pod.status)


def settle(job: CloudPodJob, seen: dict[str, Any]) -> dict[str, Any] | None:
    """A lost destroy may have ended between the container and its address; running it again finishes both."""
    return None
