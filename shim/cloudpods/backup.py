"""BACKUP: an archive of a pod, from the request to its outcome."""

from typing import Any

from shim import db
from shim.cloudpods import anew, change, retention
from shim.cloudpods.backup_models import CloudPodBackup
from shim.cloudpods.models import CloudPod
from shim.cloudpods.schemas import BackupPod, DestroyPod, ScalePod
from shim.config import Settings
from shim.db import database
from shim.jobs.again import Again
from shim.jobs.models import CloudPodJob


def backup(reference: str, request: BackupPod, *, scheduled: bool = False) -> tuple[CloudPodJob, CloudPod]:
    """Queue a backup of an active pod."""
    with database.atomic():
        pod = change.hold(reference, request.tenant_id)
        change.require_active(pod)
        return change.enqueue("BACKUP", pod, request, scheduled=scheduled), pod


def before(pod: CloudPod, request: DestroyPod | ScalePod) -> CloudPodJob | None:
    """Queue the backup that is to succeed before this change of a pod begins; None when the order asks for none."""
    if not request.backup_first:
        return None
    change.require_active(pod)
    said = {"tenantId": pod.tenant_id, "reason": request.reason, "requestedBy": request.requested_by}
    return change.enqueue("BACKUP", pod, BackupPod.model_validate(said))


def variables(job: CloudPodJob) -> dict[str, Any]:
    """Return the playbook's extra vars. Without a retention nothing is removed."""
    pod = CloudPod.find(str(job.cloud_pod_id))
    keep = retention.of(pod)
    return {**change.guard(job, pod), "mode": job.payload["mode"], **({"retention": keep} if keep else {})}


def succeed(job: CloudPodJob, result: dict[str, Any]) -> None:
    """Note when the pod was last backed up, which archive it is, and which ones retention took away."""
    pod = change.pod_of(job)
    archive, removed = result["archive"], [str(volid) for volid in result.get("removed") or []]
    pod.change(last_backup_at=db.now())
    CloudPodBackup.keep(pod, job.id, archive)
    CloudPodBackup.drop(pod, removed)
    change.record(
        "BACKUP",
        "CloudPod backed up",
        job,
        action="BACKED_UP",
        vmid=pod.vmid,
        archive=archive,
        removed=removed,
    )


def fail(job: CloudPodJob, failure: dict[str, Any]) -> None:
    """The pod is as it was."""
    change.record_failure(job, failure, "CloudPod not backed up", action="BACKUP_FAILED")


def cancelled(job: CloudPodJob, failure: dict[str, Any]) -> None:
    """The pod is as it was, save that the mode `stop` may have left it stopped."""
    change.note_power(change.pod_of(job), failure)
    fail(job, failure)


def left(job: CloudPodJob, seen: dict[str, Any]) -> str:
    """Return what ended runs left beside no archive, which is known by then: the pod locked, or stopped."""
    pod = CloudPod.find(str(job.cloud_pod_id))
    if seen.get("lock"):
        return f"lock {seen['lock']} on container {pod.vmid}"
    return change.power_left(pod, seen) if change.stands(pod, seen) else "unknown"


def settle(job: CloudPodJob, seen: dict[str, Any]) -> dict[str, Any] | None:
    """A lost backup is done when the node has its archive; what retention took away meanwhile is not in the list any more."""
    pod = CloudPod.find(str(job.cloud_pod_id))
    listed = {backup["volid"]: backup for backup in seen.get("backups") or []}
    of_job = next((volid for volid, backup in listed.items() if (backup["pod"], backup["job"]) == (pod.id, job.id)), None)
    if of_job is None:
        return None
    known = {"volid": of_job, "size_bytes": listed[of_job].get("size_bytes"), "storage": of_job.partition(":")[0]}
    removed = [row.volid for row in CloudPodBackup.of_pod(pod, "ready") if row.volid not in listed]
    return {"vmid": seen["vmid"], "archive": {**known, "mode": job.payload["mode"]}, "removed": removed, "changed": True}


def again(job: CloudPodJob, settings: Settings) -> Again:
    """Return the order anew."""
    return anew.change(job, BackupPod, backup)
