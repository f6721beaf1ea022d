"""RESTORE_DRILL: an archive tried out beside its pod, on a container that is cut off and removed afterwards.

It changes no pod, so that its pod may be scaled or restarted meanwhile. Backups of its node wait (catalog, `one_per_node`):
their retention could take the archive away under it.
"""

from typing import Any

from shim import db
from shim.cloudpods import anew, change, retention
from shim.cloudpods.backup_models import CloudPodBackup
from shim.cloudpods.models import CloudPod
from shim.cloudpods.schemas import DrillPod
from shim.config import DRILL_VMIDS, HIGHEST_VMID, Settings
from shim.db import database
from shim.errors import CloudPodsError, Conflict
from shim.jobs.again import Again
from shim.jobs.models import CloudPodJob

# The drill's container needs a vmid as well.
HIGHEST_DRILLED_VMID = HIGHEST_VMID - DRILL_VMIDS


def drill(reference: str, request: DrillPod, *, scheduled: bool = False) -> tuple[CloudPodJob, CloudPod]:
    """Queue a drill of one of the pod's archives. The pod itself may be gone."""
    with database.atomic():
        pod = change.hold(reference, request.tenant_id)
        if pod.vmid > HIGHEST_DRILLED_VMID:
            raise Conflict(
                f"pods above vmid {HIGHEST_DRILLED_VMID} cannot be drilled: a drill runs as {DRILL_VMIDS} plus the pod's vmid",
                code="vmid_not_drillable",
            )
        pending = CloudPodJob.pending(pod.id, "RESTORE_DRILL")
        if pending is not None:
            raise Conflict(f"pod {pod.vmid} is already drilled by job {pending.id}", code="job_pending", jobId=pending.id)
        backup = retention.choose(pod, request.backup_id, here=True)
        named: dict[str, Any] = {"backupId": backup.id, "archive": backup.volid}
        return change.enqueue("RESTORE_DRILL", pod, request, scheduled=scheduled, **named), pod


def variables(job: CloudPodJob) -> dict[str, Any]:
    """Return the playbook's extra vars."""
    return {**change.guard(job, CloudPod.find(str(job.cloud_pod_id))), "archive": job.payload["archive"]}


def succeed(job: CloudPodJob, result: dict[str, Any]) -> None:
    """The archive holds a pod that starts and is well."""
    if result["passed"] is not True:
        raise CloudPodsError(f"the drill ended well without having passed: {result.get('reasons')}", code="bad_result")
    CloudPodBackup.note_drill(job.payload["backupId"], drilled_at=db.now(), drill_passed=True, drill_error=None)
    change.record(
        "BACKUP",
        "CloudPod restore drill passed",
        job,
        action="RESTORE_DRILL_PASSED",
        vmid=job.payload["vmid"],
        archive=job.payload["archive"],
        durationS=result.get("duration_s"),
    )


def fail(job: CloudPodJob, failure: dict[str, Any]) -> None:
    """The archive did not pass, or it did and its copy could not be removed, or the drill was not held: `passed` tells.

    Without it, and when another run might end otherwise, nothing is known of the archive yet.
    """
    passed = failure.get("passed")
    known = passed is True or (passed is False and not failure["retryable"])
    judged = {"drilled_at": db.now(), "drill_passed": passed} if known else {}
    CloudPodBackup.note_drill(job.payload["backupId"], drill_error=failure["msg"], **judged)
    _record_failure(job, failure)


def cancelled(job: CloudPodJob, failure: dict[str, Any]) -> None:
    """Nothing is known of the archive; what an earlier drill found stands."""
    _record_failure(job, failure)


def vmid(job: CloudPodJob) -> int:
    """Return the vmid of the drill's copy."""
    return int(DRILL_VMIDS + job.payload["vmid"])


def left(job: CloudPodJob, seen: dict[str, Any]) -> str:
    """Return what ended runs left: the copy, or nothing."""
    return f"its copy, container {vmid(job)}; the next drill of the pod removes it" if seen.get("exists") else "nothing"


def _record_failure(job: CloudPodJob, failure: dict[str, Any]) -> None:
    about = {"vmid": job.payload["vmid"], "archive": job.payload["archive"]}
    change.record_failure(job, failure, "CloudPod restore drill not passed", action="RESTORE_DRILL_FAILED", **about)


def settle(job: CloudPodJob, seen: dict[str, Any]) -> dict[str, Any] | None:
    """A lost drill runs again: it begins by removing what an earlier one left."""
    return None


def again(job: CloudPodJob, settings: Settings) -> Again:
    """Return the order anew."""
    return anew.change(job, DrillPod, drill)
