"""RESTORE: a pod's archive brought back, over the pod itself or as a new pod, from the request to its outcome."""

from typing import Any

from shim.cloudpods import change, create, host_key, retention, take_back
from shim.cloudpods.backup_models import CloudPodBackup
from shim.cloudpods.models import CloudPod
from shim.cloudpods.schemas import CreatePod, RestorePod, as_hostname
from shim.config import Settings
from shim.db import database
from shim.errors import Conflict, Invalid
from shim.jobs.models import CloudPodJob


def restore(reference: str, request: RestorePod, *, settings: Settings) -> tuple[CloudPodJob, CloudPod]:
    """Queue a restore of the pod's archive; return the job and the pod that it makes or overwrites."""
    with database.atomic():
        pod = change.hold(reference, request.tenant_id)
        return _as_new(pod, request, settings) if request.as_new else _in_place(pod, request)


def _in_place(pod: CloudPod, request: RestorePod) -> tuple[CloudPodJob, CloudPod]:
    change.require_active(pod)
    backup = retention.choose(pod, request.backup_id, here=True)
    if not request.force:
        raise Conflict(
            f"pod {pod.vmid} is live, and the backup of {backup.created_at:%Y-%m-%d %H:%M} UTC would overwrite what was written"
            ' since; send "force": true to go back to it, or "asNew": true to have it as a second pod beside this one',
            code="restore_needs_force",
            backupId=backup.id,
        )
    return take_back.order("RESTORE", pod, request, backup, backupId=backup.id, archive=backup.volid), pod


def _as_new(source: CloudPod, request: RestorePod, settings: Settings) -> tuple[CloudPodJob, CloudPod]:
    backup = retention.choose(source, request.backup_id, here=False)
    origin = {"asNew": True, "backupId": backup.id, "archive": backup.volid, "fromVmid": source.vmid, "fromPodId": source.id}
    reason = {"reason": request.reason} if request.reason else {}
    wanted = _description(source, backup, request)
    place = {"storage": source.storage, "bridge": source.bridge}
    return create.order("RESTORE", wanted, settings, further={**origin, **reason}, **place)


def _description(source: CloudPod, backup: CloudPodBackup, request: RestorePod) -> CreatePod:
    """Return the order for the new pod: like its source, save for what the request says; on the node that has the archive.

    What it says was checked; the source's own values are taken as they are, for an adopted pod may have what no order could.
    """
    node = backup.node
    if request.node not in (None, node.name):
        raise Invalid.field("node", f"must be {node.name}: the archive is there and nowhere else", code="archive_elsewhere")
    like_source = {
        "hostname": as_hostname(source.hostname),
        "cores": source.cores,
        "memory_mb": source.memory_mb,
        "swap_mb": source.swap_mb,
        "disk_gb": source.disk_gb,
    }
    given = request.model_dump(exclude_none=True, include=set(RestorePod.OF_A_NEW_POD))
    whose = {"tenant_id": source.tenant_id, "requested_by": request.requested_by}
    return CreatePod.model_construct(**{**like_source, **given, **whose, "region": node.region, "node": node.name})


def variables(job: CloudPodJob) -> dict[str, Any]:
    """Return the playbook's extra vars."""
    archive = {"archive": job.payload["archive"]}
    if not job.payload["asNew"]:
        return {**change.guard(job, CloudPod.find(str(job.cloud_pod_id))), **archive, "force": True}
    origin = {"from_vmid": job.payload["fromVmid"], "from_pod_id": job.payload["fromPodId"]}
    return {**create.description(job), **archive, **origin}


def succeed(job: CloudPodJob, result: dict[str, Any]) -> None:
    """The pod stands, with the archive's data."""
    about = {"action": "RESTORED", "archive": job.payload["archive"], "backupId": job.payload["backupId"]}
    if job.payload["asNew"]:
        create.stand(job, result, "CloudPod restored as a new one", **about, fromPodId=job.payload["fromPodId"])
        return
    pod = change.pod_of(job)
    take_back.succeed(job, pod, result["cloudpod"])
    # The guest's keys are the archive's again.
    pod.change(error=None, host_key=host_key.of(result["cloudpod"]))
    change.record("STATE_CHANGE", "CloudPod restored", job, vmid=pod.vmid, **about)


def fail(job: CloudPodJob, failure: dict[str, Any]) -> None:
    """A new pod is not there. One in place is as it was, unless something is said to be left: then it may be gone."""
    message, action = "CloudPod not restored", "RESTORE_FAILED"
    if job.payload["asNew"]:
        create.fall(job, failure, message, action=action)
        return
    pod, left = change.pod_of(job), failure["left_behind"]
    take_back.fail(job, pod, failure)
    if left != "nothing":
        message = f"CloudPod not restored, and it may not be whole any more (left on the node: {left})"
        # It stays active, so that it can be restored again.
        pod.change(power_state="unknown", error=f"{message}: {failure['msg']}")
    change.record("ERROR", f"{message}: {failure['msg']}", job, action=action, vmid=pod.vmid, leftBehind=left)


def settle(job: CloudPodJob, seen: dict[str, Any]) -> dict[str, Any] | None:
    """A lost restore is done when the new pod stands and runs, or when the pod in place says that this job restored it.

    One that ran before and does not yet was not started again: the script does that when it runs once more.
    """
    if job.payload["asNew"]:
        return create.settle(job, seen)
    pod = CloudPod.find(str(job.cloud_pod_id))
    by_us = (seen.get("restored") or {}).get("job") == job.id and change.is_ours(pod, seen)
    if by_us and (seen.get("status") == "running" or pod.power_state == "stopped"):
        return {"vmid": seen["vmid"], "cloudpod": seen, "archive": {"volid": job.payload["archive"]}, "changed": True}
    return None
