"""A dry run of orders: their checks, quota and places, as if they were given, and jobs that run in check mode.

The orders themselves are given and taken back, so that a dry run can never be of another mind than the order. What they lock
is held around them (`holding.py`): taking back must free nothing that is needed again afterwards.
"""

from collections.abc import Callable
from typing import Any

from shim.cloudpods.models import CloudPod
from shim.db import database
from shim.jobs.models import CloudPodJob
from shim.jobs.submit import submit
from shim.quotas.amount import NONE, Amount
from shim.quotas.ledger_models import QuotaEntry
from shim.quotas.models import TenantQuota

Ordered = tuple[CloudPodJob, CloudPod]
Order = Callable[[], Ordered]


def rehearse(order: Order, hold: Callable[[], None]) -> tuple[CloudPodJob, CloudPod | None, dict[str, Any]]:
    """Return the dry run's job, the pod if there is one already, and what the order would come to. Raises what it would.

    `hold` locks what the order will.
    """
    with database.atomic():
        hold()
        rehearsed, quota = rehearse_all(lambda: [order()])
    ((job, known, placement),) = rehearsed
    return job, known, {"quota": quota, "placement": placement}


def rehearse_all(
    orders: Callable[[], list[Ordered]],
) -> tuple[list[tuple[CloudPodJob, CloudPod | None, dict[str, Any]]], dict[str, Any]]:
    """Return of each order its dry run's job, its pod if there is one already, and its place; and the quota of them all.

    Call with all that they lock held (`holding.hold`).
    """
    with database.atomic():
        ordered, asked = _tried(orders)
        return [_rehearsed(job, pod) for job, pod in ordered], _quota(ordered[0][1].tenant_id, asked)


def try_all(orders: Callable[[], list[Ordered]]) -> tuple[list[Ordered], dict[str, Any]]:
    """Return what these new pods' orders would give, all of it taken back, and the quota of them all. Nothing is written.

    Call with all that they lock held (`holding.hold`).
    """
    with database.atomic():
        ordered, asked = _tried(orders)
        return ordered, _quota(ordered[0][1].tenant_id, asked)


def _tried(orders: Callable[[], list[Ordered]]) -> tuple[list[Ordered], Amount]:
    """Return what the orders give and how much they ask for, with all that was written for it taken back."""
    with database.savepoint() as trial:
        ordered = orders()
        asked = sum((_asked(job, pod) for job, pod in ordered), NONE)
        trial.rollback()
    return ordered, asked


def _rehearsed(job: CloudPodJob, pod: CloudPod) -> tuple[CloudPodJob, CloudPod | None, dict[str, Any]]:
    known: CloudPod | None = CloudPod.get_or_none(CloudPod.id == pod.id)
    rehearsal = submit(
        job.type,
        tenant_id=job.tenant_id,
        cloud_pod_id=pod.id if known else None,
        node_id=str(job.node_id),
        payload={**job.payload, "podId": pod.id, "storage": pod.storage, "bridge": pod.bridge},
        requested_by=job.requested_by,
        dry_run=True,
    )
    return rehearsal, known, {"node": pod.node.name, "reasons": job.as_json()["placement"]}


def _quota(tenant_id: str, asked: Amount) -> dict[str, Any]:
    """Return the limits, what the tenant has used and reserved before and after the orders, and what these ask for."""
    limits, used = TenantQuota.balance(tenant_id)
    before = used + sum(QuotaEntry.reserved(tenant_id).values(), NONE)
    amounts = {"limit": limits, "before": before, "asked": asked, "after": before + asked}
    return {name: amount.as_json() for name, amount in amounts.items()}


def _asked(job: CloudPodJob, pod: CloudPod) -> Amount:
    if job.type == "DESTROY":
        return NONE - QuotaEntry.committed(pod.id)
    entry = QuotaEntry.open(job.id)
    return entry[2] if entry else NONE


def planned(job: CloudPodJob) -> CloudPod:
    """Return the pod of a dry run of a new one, which has no row."""
    said = job.payload
    return CloudPod(
        id=said["podId"],
        tenant=str(job.tenant_id),
        vmid=said["vmid"],
        hostname=said["hostname"],
        cores=said["cores"],
        memory_mb=said["memoryMb"],
        swap_mb=said["swapMb"],
        disk_gb=said["diskGb"],
        storage=said["storage"],
        bridge=said["bridge"],
    )
