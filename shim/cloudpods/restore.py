"""RESTORE: a pod's archive brought back, over the pod itself or as a new pod, from the request to its outcome."""

from functools import partial
from typing import Any

from pydantic.alias_generators import to_camel

from shim.cloudpods import anew, change, create, host_key, retention, take_back
from shim.cloudpods.backup_models import CloudPodBackup
from shim.cloudpods.models import CloudPod, CloudPodSnapshot
from shim.cloudpods.schemas import CreatePod, RestorePod, as_hostname
from shim.config import Settings
from shim.db import database
from shim.errors import Conflict, Invalid
from shim.jobs.again import Again
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
            ' since, and its snapshots; send "force": true to go back to it, or "asNew": true to have it as a second pod beside'
            " this one",
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
    given = request.model_dump(exclude_none=True, include=set(RestorePod.OF_A_NEW_POD))
    whose = {"tenant_id": source.tenant_id, "requested_by": request.requested_by}
    return CreatePod.model_construct(**{**_like(source), **given, **whose, "region": node.region, "node": node.name})


def _like(source: CloudPod) -> dict[str, Any]:
    return {
        "hostname": as_hostname(source.hostname),
        "cores": source.cores,
        "memory_mb": source.memory_mb,
        "swap_mb": source.swap_mb,
        "disk_gb": source.disk_gb,
    }


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
    CloudPodSnapshot.forget_overwritten(pod)
    change.record("STATE_CHANGE", "CloudPod restored", job, vmid=pod.vmid, **about)


def fail(job: CloudPodJob, failure: dict[str, Any]) -> None:
    """A new pod is not there. One in place is as it was, unless something is said to be left: then it may be gone."""
    message, action = "CloudPod not restored", "RESTORE_FAILED"
    if job.payload["asNew"]:
        create.fall(job, failure, message, action=action)
        return
    pod, left = change.pod_of(job), failure["left_behind"]
    take_back.fail(job, pod, failure)
    if left != "nothing" and not _stands(failure):
        message = f"CloudPod not restored, and it may not be whole any more (left on the node: {left})"
        # It stays active, so that it can be restored again.
        pod.change(power_state="unknown", error=f"{message}: {failure['msg']}")
    change.record_failure(job, failure, message, action=action, vmid=pod.vmid)


def cancelled(job: CloudPodJob, failure: dict[str, Any]) -> None:
    """What is there of a new pod is destroyed. One in place is never: its data can be brought back."""
    fail(job, failure)
    if job.payload["asNew"]:
        create.clear_away(job, failure)
        return
    pod = change.pod_of(job)
    change.note_power(pod, failure)
    if _is_by(job, failure.get("seen") or {}):
        CloudPodSnapshot.forget_overwritten(pod)


def _stands(failure: dict[str, Any]) -> bool:
    seen = failure.get("seen") or {}
    return bool(seen.get("exists")) and not seen["unfinished"] and not seen["lock"]


def _is_by(job: CloudPodJob, seen: dict[str, Any]) -> bool:
    """Return whether the container that was seen says that this job restored it."""
    return (seen.get("restored") or {}).get("job") == job.id


def left(job: CloudPodJob, seen: dict[str, Any]) -> str:
    """Return what ended runs left: of a new pod its container, of one in place what has to be restored again."""
    if job.payload["asNew"]:
        return create.left(job, seen)
    pod = CloudPod.find(str(job.cloud_pod_id))
    if change.stands(pod, seen):
        restored = f"container {pod.vmid}, restored, {seen['status']}"
        return restored if _is_by(job, seen) else change.power_left(pod, seen)
    if seen.get("exists") and not seen.get("unfinished"):
        return "unknown"
    return f"container {pod.vmid}, {'unfinished' if seen.get('exists') else 'gone'}: restore it again"


def settle(job: CloudPodJob, seen: dict[str, Any]) -> dict[str, Any] | None:
    """A lost restore is done when the new pod stands and runs, or when the pod in place says that this job restored it.

    One that ran before and does not yet was not started again: the script does that when it runs once more.
    """
    if job.payload["asNew"]:
        return create.settle(job, seen)
    pod = CloudPod.find(str(job.cloud_pod_id))
    by_us = _is_by(job, seen) and change.is_ours(pod, seen)
    if by_us and (seen.get("status") == "running" or pod.power_state == "stopped"):
        return {"vmid": seen["vmid"], "cloudpod": seen, "archive": {"volid": job.payload["archive"]}, "changed": True}
    return None


def again(job: CloudPodJob, settings: Settings) -> Again:
    """Return the order anew, of the same archive."""
    source, said = str(job.cloud_pod_id), {name: value for name, value in job.payload.items() if name != "vmid"}
    if job.payload["asNew"]:
        anew.require_nothing_left(job)
        source, said = job.payload["fromPodId"], _as_asked(job.payload)
    asked = anew.asked(RestorePod, said)
    return Again(asked=asked, give=partial(restore, source, settings=settings), reference=source)


def _as_asked(payload: dict[str, Any]) -> dict[str, Any]:
    """Return what a new pod's payload has that its source has not: the source's own values may be such as no order can name."""
    like_source = {to_camel(name): value for name, value in _like(CloudPod.find(payload["fromPodId"])).items()}
    # The archive says on which node.
    own = {name: value for name, value in anew.without_chosen(payload).items() if name != "node"}
    return {name: value for name, value in own.items() if name not in like_source or like_source[name] != value}
