"""Retention beside restores and drills: an archive that one of them named is not removed under it.

A backup that finds one of them unfinished asks for no retention. One that runs already may be removing archives, so that
meanwhile only the newest can be named: with the backup's own it is the second newest, and every policy keeps two.
The node removes by vmid, so all of this goes by vmid.
"""

from shim import db
from shim.cloudpods import backup_policy
from shim.cloudpods.backup_models import CloudPodBackup
from shim.cloudpods.models import CloudPod
from shim.db import database
from shim.errors import Conflict
from shim.jobs.models import CloudPodJob


def of(pod: CloudPod) -> dict[str, int] | None:
    """Return what a backup that begins now may ask the node to keep, None when nothing may be removed."""
    with database.atomic():
        _alone(pod)
        return None if CloudPodJob.reading_archives(pod.vmid) else backup_policy.of_tenant(pod.tenant_id).keep


def choose(pod: CloudPod, backup_id: str | None, *, here: bool) -> CloudPodBackup:
    """Return the archive to read, which stays until the job that is submitted next in this transaction has ended.

    `here`: one on the pod's own node. Raises NotFound or Conflict.
    """
    _alone(pod)
    backup = CloudPodBackup.choose(pod, backup_id, here=here)
    pruning = CloudPodJob.removing_archives(pod.vmid)
    if pruning is not None and backup.id != CloudPodBackup.choose(pod, None, here=here).id:
        raise Conflict(
            f"a backup of pod {pod.vmid} runs (job {pruning.id}) and its retention may remove this archive; take the newest,"
            " or order again when it has ended",
            code="backup_running",
            jobId=pruning.id,
        )
    return backup


def _alone(pod: CloudPod) -> None:
    # A backup's look for readers and a reader's look for backups, one after the other: one of them sees the other.
    db.lock(f"archives of {pod.vmid}")
