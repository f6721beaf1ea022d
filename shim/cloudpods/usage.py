"""What a tenant had, and when: what a bill is made of."""

from datetime import datetime
from typing import Any

from shim import db
from shim.cloudpods.models import CloudPod
from shim.tenants.models import Tenant


def of(tenant_id: str, *, since: datetime | None, until: datetime | None) -> Any:
    """Return the query of the pods that the tenant, be it deleted, had at any time from `since` to before `until`.

    A pod that could not be made was never there. Raises NotFound for no such tenant.
    """
    query = CloudPod.select().where(CloudPod.tenant == Tenant.known(tenant_id).id, CloudPod.status != "failed")
    if until is not None:
        query = query.where(CloudPod.created_at < until)
    if since is not None:
        query = query.where(CloudPod.deleted_at.is_null() | (CloudPod.deleted_at > since))
    return query


def as_json(pod: CloudPod) -> dict[str, Any]:
    """Return a pod as a bill needs it: its present, or last, size."""
    return {
        "cloudPodId": pod.id,
        "vmid": pod.vmid,
        "hostname": pod.hostname,
        "region": pod.region,
        "status": pod.status,
        "planId": (pod.plan_snapshot or {}).get("id"),
        "cores": pod.cores,
        "memoryMb": pod.memory_mb,
        "swapMb": pod.swap_mb,
        "diskGb": pod.disk_gb,
        "createdAt": db.iso(pod.created_at),
        "deletedAt": db.iso(pod.deleted_at),
    }
