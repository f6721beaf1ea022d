"""The table of a pod's archives, and its queries."""

from typing import Any

import peewee

from shim import db
from shim.cloudpods.models import CloudPod
from shim.db import Model, new_id
from shim.errors import CloudPodsError, Conflict, NotFound
from shim.nodes.models import CloudPodNode


class CloudPodBackup(Model):
    """An archive that a node has, or had, of a pod. Keyed by the pod: vzdump names archives by vmid, which is used again."""

    id = peewee.TextField(primary_key=True, default=new_id)
    cloud_pod_id: str
    cloud_pod = peewee.ForeignKeyField(CloudPod, column_name="cloud_pod_id")
    tenant_id = peewee.TextField()
    node_id: str
    node = peewee.ForeignKeyField(CloudPodNode, column_name="node_id")
    vmid = peewee.IntegerField()
    job_id = peewee.TextField(null=True)
    volid = peewee.TextField()
    storage = peewee.TextField(null=True)
    mode = peewee.TextField(null=True)
    size_bytes = peewee.BigIntegerField(null=True)
    # The pod's when it was made; NULL in rows that are older than these columns.
    cores = peewee.IntegerField(null=True)
    memory_mb = peewee.IntegerField(null=True)
    status = peewee.TextField(default="ready")
    created_at = peewee.DateTimeField()
    removed_at = peewee.DateTimeField(null=True)
    drilled_at = peewee.DateTimeField(null=True)
    drill_passed = peewee.BooleanField(null=True)
    drill_error = peewee.TextField(null=True)

    class Meta:
        table_name = "cloud_pod_backups"

    @classmethod
    def keep(cls, pod: CloudPod, job_id: str, archive: dict[str, Any]) -> None:
        """Note an archive, once: a repeated run of its job names the same one.

        A site's own script may not name it: then it is on the node, but cannot be restored through us.
        """
        if archive["volid"] is None:
            return
        cls.insert(
            id=new_id(),
            cloud_pod=pod.id,
            tenant_id=pod.tenant_id,
            node=pod.node_id,
            vmid=pod.vmid,
            job_id=job_id,
            volid=_volid(archive),
            storage=archive.get("storage"),
            mode=archive.get("mode"),
            size_bytes=archive.get("size_bytes"),
            cores=pod.cores,
            memory_mb=pod.memory_mb,
        ).on_conflict_ignore().execute()

    @classmethod
    def drop(cls, pod: CloudPod, volids: list[str]) -> None:
        """Note that the node has these archives no more."""
        gone = (cls.node == pod.node_id) & (cls.vmid == pod.vmid) & cls.volid.in_(volids) & (cls.status == "ready")
        cls.update(status="removed", removed_at=db.now()).where(gone).execute()

    @classmethod
    def of_pod(cls, pod: CloudPod, status: str) -> Any:
        """Return the query for a pod's archives, each with its node."""
        return cls.select(cls, CloudPodNode).join(CloudPodNode).where(cls.cloud_pod == pod.id, cls.status == status)

    @classmethod
    def choose(cls, pod: CloudPod, backup_id: str | None, *, here: bool) -> "CloudPodBackup":
        """Return the pod's archive of this id, or its newest; `here`: one on the pod's own node.

        Raises NotFound, or Conflict when retention took it away or it lies on another node.
        """
        if backup_id is None:
            return cls._newest(pod, here=here)
        found: CloudPodBackup | None = cls.get_or_none(cls.id == backup_id, cls.cloud_pod == pod.id)
        if found is None:
            raise NotFound(f"pod {pod.vmid} has no backup {backup_id}", code="backup_not_found")
        if found.status != "ready":
            raise Conflict(f"backup {backup_id} was removed; choose another one of the pod", code="backup_removed")
        if here and found.node_id != pod.node_id:
            raise Conflict(
                f"backup {backup_id} lies on node {found.node.name}, pod {pod.vmid} is on {pod.node.name}; restore it there"
                ' with "asNew": true',
                code="archive_elsewhere",
            )
        return found

    @classmethod
    def _newest(cls, pod: CloudPod, *, here: bool) -> "CloudPodBackup":
        ready = cls.of_pod(pod, "ready")
        rows = ready.where(cls.node == pod.node_id) if here else ready
        newest: CloudPodBackup | None = rows.order_by(cls.created_at.desc(), cls.id.desc()).first()
        if newest is None:
            where = f" on its node {pod.node.name}" if here else ""
            raise NotFound(f"pod {pod.vmid} has no backup{where}; order one first", code="backup_not_found")
        return newest

    @classmethod
    def of_another_tenant(cls, vmid: int, tenant_id: str) -> bool:
        """Return whether archives named by this vmid hold another tenant's data."""
        return bool(cls.select().where(cls.vmid == vmid, cls.status == "ready", cls.tenant_id != tenant_id).exists())

    @classmethod
    def note_drill(cls, backup_id: str, **columns: Any) -> None:
        """Write how an archive's drill ended."""
        cls.update(**columns).where(cls.id == backup_id).execute()

    def as_json(self) -> dict[str, Any]:
        """Return the archive as clients see it."""
        return {
            "id": self.id,
            "cloudPodId": self.cloud_pod_id,
            "tenantId": self.tenant_id,
            "node": self.node.name,
            "vmid": self.vmid,
            "jobId": self.job_id,
            "volid": self.volid,
            "storage": self.storage,
            "mode": self.mode,
            "sizeBytes": self.size_bytes,
            "status": self.status,
            "createdAt": db.iso(self.created_at),
            "removedAt": db.iso(self.removed_at),
            "drilledAt": db.iso(self.drilled_at),
            "drillPassed": self.drill_passed,
            "drillError": self.drill_error,
        }


def _volid(archive: dict[str, Any]) -> str:
    volid = archive["volid"]
    # What is longer no index can hold, and no storage either.
    if not isinstance(volid, str) or not 0 < len(volid) <= 512:
        raise CloudPodsError("the backup playbook's result names no archive", code="bad_result")
    return volid
