"""Many new pods in one transaction: what is everybody's, places, vmids and addresses, is held for a few statements only."""

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from shim.cloudpods import once
from shim.cloudpods.create import buyer
from shim.cloudpods.models import CloudPod
from shim.cloudpods.schemas import CreatePod
from shim.config import Settings
from shim.db import lock, new_id
from shim.jobs.models import CloudPodJob
from shim.jobs.submit import submit_all
from shim.nodes.candidates import Size
from shim.nodes.models import Allocation
from shim.nodes.placement import Placement, Placing
from shim.quotas import ledger
from shim.quotas.amount import NONE, Amount
from shim.tenants.models import Plan, Tenant

# An order, its index, its region and the plan that it is sold by.
Sold = tuple[int, CreatePod, str, Plan]
Named = Callable[[int], AbstractContextManager[None]]


def is_plain(request: CreatePod) -> bool:
    """Return whether the pod takes the next vmid and address, whatever they are."""
    return request.vmid is None and request.ip is None


def create_all(
    requests: list[tuple[int, CreatePod]], settings: Settings, named: Named
) -> dict[int, tuple[CloudPodJob, CloudPod]]:
    """Do what `create.order` does for each of a tenant's plain orders; return job and pod by index. Call with all held.

    `named` is around what concerns one order alone.
    """
    tenant, sold = _sold(requests, named)
    amounts = {index: Amount.of_pod(asked.cores, asked.memory_mb, asked.disk_gb) for index, asked, _, _ in sold}
    room = ledger.check(tenant.id, sum(amounts.values(), NONE))
    placing, places = Placing(), {}
    for index, asked, region, _ in sold:
        with named(index):
            places[index] = _place(placing, asked, region, tenant)
    pods = _pods(tenant, sold, places, settings)
    jobs = submit_all("CREATE", [_order(asked, pods[index], places[index]) for index, asked, _, _ in sold])
    ordered = {index: (job, pods[index]) for (index, _, _, _), job in zip(sold, jobs, strict=True)}
    ledger.book_all(room, [(job.id, pod.id, amounts[index]) for index, (job, pod) in ordered.items()])
    return ordered


def _sold(requests: list[tuple[int, CreatePod]], named: Named) -> tuple[Tenant, list[Sold]]:
    known: dict[str | None, tuple[Tenant, Plan]] = {}
    sold = []
    for index, asked in requests:
        with named(index):
            if asked.plan_id not in known:
                known[asked.plan_id] = buyer(asked)
        tenant, plan = known[asked.plan_id]
        sold.append((index, asked, asked.region or tenant.region, plan))
    return tenant, sold


def _place(placing: Placing, asked: CreatePod, region: str, tenant: Tenant) -> Placement:
    size = Size(asked.cores, asked.memory_mb, asked.disk_gb)
    return placing.place(size, region=region, name=asked.node, tenant_id=tenant.id, storage=CloudPod.storage.default)


def _pods(tenant: Tenant, sold: list[Sold], places: dict[int, Placement], settings: Settings) -> dict[int, CloudPod]:
    lock("vmid")
    counts = Counter(region for _, _, region, _ in sold)
    vmids = {region: iter(once.next_vmids(region, counts[region], settings)) for region in sorted(counts)}
    addresses = once.Addresses()
    rows: dict[int, dict[str, Any]] = {}
    for index, asked, region, plan in sold:
        node = places[index].node
        rows[index] = {
            **asked.model_dump(include={"hostname", "cores", "memory_mb", "swap_mb", "disk_gb"}),
            "id": new_id(),
            "tenant": tenant.id,
            "node": node.id,
            "vmid": next(vmids[region]),
            "region": region,
            "ip": addresses.take(node),
            "plan_snapshot": plan.snapshot(),
        }
    addresses.note()
    CloudPod.write_all(list(rows.values()))
    Allocation.write_all([_share(row) for row in rows.values()])
    written = CloudPod.select().where(CloudPod.id.in_([row["id"] for row in rows.values()]))
    found = {pod.id: pod for pod in written}
    for index, row in rows.items():
        found[row["id"]].node = places[index].node
    return {index: found[row["id"]] for index, row in rows.items()}


def _share(row: dict[str, Any]) -> dict[str, Any]:
    size = {"used_cpu_cores": row["cores"], "used_memory_mb": row["memory_mb"], "used_disk_gb": row["disk_gb"]}
    return {"id": new_id(), "node": row["node"], "cloud_pod_id": row["id"], "tenant_id": row["tenant"], **size}


def _order(asked: CreatePod, pod: CloudPod, placed: Placement) -> dict[str, Any]:
    exact = {"vmid": pod.vmid, "autoVmid": True, "region": pod.region, "autoIp": True}
    return {
        "id": new_id(),
        "tenant_id": pod.tenant_id,
        "cloud_pod_id": pod.id,
        "node": pod.node_id,
        "payload": {**asked.payload(), **exact},
        "requested_by": asked.requested_by,
        "placement": placed.reasons,
    }
