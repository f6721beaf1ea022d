"""SNAPSHOT: a pod's state kept, gone back to or dropped, from the request to its outcome."""

from typing import Any

from shim.cloudpods import anew, change, take_back
from shim.cloudpods.models import CloudPod, CloudPodSnapshot
from shim.cloudpods.schemas import ChangePod, SnapshotPod
from shim.config import Settings
from shim.db import database, new_id
from shim.errors import Conflict
from shim.jobs.again import Again
from shim.jobs.models import CloudPodJob

# What the playbook is asked for, by what the client asked for.
STATES = {"create": "present", "rollback": "rolled_back", "delete": "absent"}


def create(reference: str, request: SnapshotPod) -> tuple[CloudPodJob, CloudPod]:
    """Queue a new snapshot of an active pod."""
    with database.atomic():
        pod = _hold(reference, request)
        if CloudPodSnapshot.named(pod, request.name) is not None:
            rule = f"pod {pod.vmid} already has a snapshot {request.name}"
            raise Conflict(f"name: {rule}", code="snapshot_exists", fields=[{"field": "name", "rule": rule}])
        CloudPodSnapshot.insert(id=new_id(), cloud_pod=pod, name=request.name, reason=request.reason).execute()
        return change.enqueue("SNAPSHOT", pod, request, action="create"), pod


def rollback(reference: str, name: str, request: ChangePod) -> tuple[CloudPodJob, CloudPod]:
    """Queue a way back to a snapshot: what was written since is lost, and a running pod is stopped for it."""
    with database.atomic():
        pod = _hold(reference, request)
        snapshot = CloudPodSnapshot.ready(pod, name)
        return take_back.order("SNAPSHOT", pod, request, snapshot, action="rollback", name=name), pod


def delete(reference: str, name: str, request: ChangePod) -> tuple[CloudPodJob, CloudPod]:
    """Queue the end of a snapshot."""
    with database.atomic():
        pod = _hold(reference, request)
        CloudPodSnapshot.ready(pod, name).become("deleting")
        return change.enqueue("SNAPSHOT", pod, request, action="delete", name=name), pod


def variables(job: CloudPodJob) -> dict[str, Any]:
    """Return the playbook's extra vars."""
    pod = CloudPod.find(str(job.cloud_pod_id))
    return {**change.guard(job, pod), "snapshot": job.payload["name"], "state": STATES[job.payload["action"]]}


def succeed(job: CloudPodJob, result: dict[str, Any]) -> None:
    """Write what the snapshot is now, and for a rollback whether the pod runs."""
    pod = change.pod_of(job)
    action, name = job.payload["action"], job.payload["name"]
    snapshot = CloudPodSnapshot.named(pod, name)
    if snapshot is not None and action == "create":
        snapshot.become("ready", cores=pod.cores, memory_mb=pod.memory_mb)
    elif snapshot is not None and action == "delete":
        snapshot.delete_instance()
    elif action == "rollback":
        take_back.succeed(job, pod, result["cloudpod"])
    change.record(
        "BACKUP",
        f"CloudPod snapshot {name}: {action}",
        job,
        action=f"SNAPSHOT_{action.upper()}",
        vmid=pod.vmid,
        name=name,
        changed=result["changed"],
    )


def fail(job: CloudPodJob, failure: dict[str, Any]) -> None:
    """A snapshot that was not made is none; one that was not deleted is still there and can be deleted again."""
    pod = change.pod_of(job)
    action, name = job.payload["action"], job.payload["name"]
    snapshot = CloudPodSnapshot.named(pod, name)
    if snapshot is not None and action == "create":
        snapshot.delete_instance()
    elif snapshot is not None and action == "delete":
        snapshot.become("ready")
    elif action == "rollback":
        take_back.fail(job, pod, failure)
    change.record_failure(job, failure, f"CloudPod snapshot {name}: {action} not done", action="SNAPSHOT_FAILED", name=name)


def cancelled(job: CloudPodJob, failure: dict[str, Any]) -> None:
    """As a failure; a pod that was to go back is in the state that the look saw."""
    change.note_power(change.pod_of(job), failure)
    fail(job, failure)


def settle(job: CloudPodJob, seen: dict[str, Any]) -> dict[str, Any] | None:
    """A lost create is done when its snapshot is there, whole, a lost delete when it is not; a rollback, once per job."""
    if not change.stands(CloudPod.find(str(job.cloud_pod_id)), seen) or "snapshots" not in seen:
        return None
    found = _seen(job, seen)
    made = found is not None and found.get("complete") and found.get("job") == job.id
    if (made and job.payload["action"] == "create") or (found is None and job.payload["action"] == "delete"):
        return {"vmid": seen["vmid"], "cloudpod": seen, "snapshots": seen["snapshots"], "changed": True}
    return None


def again(job: CloudPodJob, settings: Settings) -> Again:
    """Return the order anew."""
    name = job.payload["name"]
    orders: dict[str, tuple[type[ChangePod], Any]] = {
        "create": (SnapshotPod, create),
        "rollback": (ChangePod, lambda reference, request: rollback(reference, name, request)),
        "delete": (ChangePod, lambda reference, request: delete(reference, name, request)),
    }
    return anew.change(job, *orders[job.payload["action"]])


def left(job: CloudPodJob, seen: dict[str, Any]) -> str:
    """Return what ended runs left: the snapshots as they were, or a half of one. Whether a pod went back cannot be seen."""
    pod, found, action = CloudPod.find(str(job.cloud_pod_id)), _seen(job, seen), job.payload["action"]
    if not change.is_ours(pod, seen):
        return "unknown"
    if seen.get("lock"):
        return f"lock {seen['lock']} on container {pod.vmid}"
    if found is not None and not found.get("complete"):
        return f"snapshot {job.payload['name']} of container {pod.vmid}, half of it"
    if action == "rollback":
        return f"container {pod.vmid}, {seen.get('status')}; unknown whether it went back to {job.payload['name']}"
    return "nothing"


def _seen(job: CloudPodJob, seen: dict[str, Any]) -> dict[str, Any] | None:
    return next((each for each in seen.get("snapshots") or [] if each.get("name") == job.payload["name"]), None)


def _hold(reference: str, request: ChangePod) -> CloudPod:
    pod = change.hold(reference, request.tenant_id)
    change.require_active(pod)
    return pod
