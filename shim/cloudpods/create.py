"""CREATE: a new pod, from the request to its outcome."""

import ipaddress
from typing import Any

from shim.cloudpods import change, dry_run, host_key
from shim.cloudpods.backup_models import CloudPodBackup
from shim.cloudpods.models import CloudPod
from shim.cloudpods.schemas import CreatePod
from shim.config import DRILL_VMIDS, Settings
from shim.db import database, lock
from shim.errors import Conflict, Invalid
from shim.jobs.models import CloudPodJob
from shim.jobs.submit import submit
from shim.nodes.models import Allocation, CloudPodNode
from shim.nodes.placement import Size, place
from shim.quotas import ledger
from shim.quotas.ledger import Amount
from shim.tenants.models import Plan, Tenant


def create(request: CreatePod, settings: Settings) -> tuple[CloudPodJob, CloudPod]:
    """Write pod, allocation, job and event in one transaction; return the job, which is to be announced, and the pod.

    Raises NotFound, Invalid or Conflict; then nothing was written.
    """
    with database.atomic():
        return order("CREATE", request, settings)


def order(
    type: str, request: CreatePod, settings: Settings, *, further: dict[str, Any] | None = None, **columns: Any
) -> tuple[CloudPodJob, CloudPod]:
    """Do what `create` does inside the transaction that is open, for a job of this type.

    `further` goes into the job's payload, `columns` into the pod's row.
    """
    tenant, plan = _buyer(request)
    region = request.region or tenant.region
    amount = Amount.of_pod(request.cores, request.memory_mb, request.disk_gb)
    # First, since it locks the quota: those who have used theirs up do not wait for a place.
    ledger.check(tenant.id, amount)
    node = place(Size(request.cores, request.memory_mb, request.disk_gb), region=region, name=request.node, ip=request.ip)
    # What is free is looked up, for both vmid and address, and is taken, by one order or adoption at a time.
    lock("vmid")
    _check_ip(request, node)
    pod = CloudPod.create(
        tenant=tenant,
        node=node,
        vmid=_vmid(request, settings),
        hostname=request.hostname,
        ip=request.ip or "",
        region=region,
        plan_snapshot=plan.snapshot(),
        cores=request.cores,
        memory_mb=request.memory_mb,
        swap_mb=request.swap_mb,
        disk_gb=request.disk_gb,
        **columns,
    )
    Allocation.take(node, pod.id, tenant.id, request.cores, request.memory_mb, request.disk_gb)
    exact = {"vmid": pod.vmid, "region": region, "autoIp": request.ip is None}
    job = submit(
        type,
        tenant_id=tenant.id,
        cloud_pod_id=pod.id,
        node_id=node.id,
        payload={**request.payload(), **exact, **(further or {})},
        requested_by=request.requested_by,
    )
    ledger.reserve(tenant.id, job.id, pod.id, amount)
    return job, CloudPod.find(pod.id)


def variables(job: CloudPodJob) -> dict[str, Any]:
    """Return the playbook's extra vars."""
    return {**description(job), "disk_gb": _pod(job).disk_gb}


def description(job: CloudPodJob) -> dict[str, Any]:
    """Return the extra vars that say what the new pod is to be; how large its disk is, an archive says itself."""
    pod = _pod(job)
    address = {"ip": job.payload["ip"]} if job.payload.get("ip") else {"auto_ip": True}
    return {
        **change.guard(job, pod),
        **address,
        "hostname": pod.hostname,
        "cores": pod.cores,
        "memory_mb": pod.memory_mb,
        "swap_mb": pod.swap_mb,
        "storage": pod.storage,
        "bridge": pod.bridge,
    }


def _pod(job: CloudPodJob) -> CloudPod:
    return dry_run.planned(job) if job.dry_run else CloudPod.find(str(job.cloud_pod_id))


def succeed(job: CloudPodJob, result: dict[str, Any]) -> None:
    """The pod runs."""
    stand(job, result, "CloudPod created", action="CREATED")


def stand(job: CloudPodJob, result: dict[str, Any], message: str, **data: Any) -> None:
    """Keep the new pod's address and make it active, unless its destruction was asked for meanwhile; say so."""
    pod = change.pod_of(job)
    ip = str(ipaddress.IPv4Address(result["ip"]))
    status = "active" if pod.status == "provisioning" else pod.status
    CloudPod.yield_ip(ip, to=pod)
    pod.change(status=status, ip=ip, power_state="running", host_key=host_key.of(result.get("cloudpod") or {}), error=None)
    change.settle(job, pod)
    change.record("STATE_CHANGE", message, job, vmid=pod.vmid, ip=pod.ip, status=pod.status, **data)


def fail(job: CloudPodJob, failure: dict[str, Any]) -> None:
    """The pod is not there."""
    fall(job, failure, "CloudPod not created", action="CREATE_FAILED")


def fall(job: CloudPodJob, failure: dict[str, Any], message: str, **data: Any) -> None:
    """Write that the new pod is not there and free what it took, unless something of it was left behind; say so."""
    pod = change.pod_of(job)
    status = "failed" if pod.status == "provisioning" else pod.status
    pod.change(status=status, error=failure["msg"])
    left = failure["left_behind"]
    if left == "nothing":
        change.give_back(job, pod)
    else:
        # It is there until a destroy took it away.
        change.settle(job, pod)
    change.record("ERROR", f"{message}: {failure['msg']}", job, vmid=pod.vmid, leftBehind=left, **data)


def settle(job: CloudPodJob, seen: dict[str, Any]) -> dict[str, Any] | None:
    """A lost create is done when the pod stands there, whole, ours and running."""
    if change.is_ours(CloudPod.find(str(job.cloud_pod_id)), seen) and seen.get("status") == "running":
        return {"vmid": seen["vmid"], "ip": seen["ip"], "cloudpod": seen, "changed": True}
    return None


def _buyer(request: CreatePod) -> tuple[Tenant, Plan]:
    """Return the tenant, which cannot be deleted meanwhile, and the plan that the pod is sold by: its own or a smaller one."""
    tenant = Tenant.keep(request.tenant_id, field="tenantId")
    if request.plan_id in (None, tenant.plan_id):
        return tenant, tenant.plan
    plan = Plan.chosen(str(request.plan_id))
    beyond = plan.beyond(tenant.plan)
    if beyond:
        rule = f"{plan.id!r} allows more than the tenant's own plan {tenant.plan_id!r}: {', '.join(beyond)}"
        raise Invalid.field("planId", rule, code="plan_not_allowed")
    return tenant, plan


def _check_ip(request: CreatePod, node: CloudPodNode) -> None:
    if request.ip is None:
        return
    refusal = node.address_pool.refusal(request.ip) if node.address_pool else None
    if refusal:
        raise Invalid.field("ip", refusal, code="ip_not_allowed")
    if CloudPod.live_ip(request.ip):
        rule = f"{request.ip} belongs to another pod"
        raise Conflict(f"ip: {rule}", code="ip_taken", fields=[{"field": "ip", "rule": rule}])


def _vmid(request: CreatePod, settings: Settings) -> int:
    if request.vmid is None:
        vmid = CloudPod.next_vmid(settings.vmid_auto_first, settings.vmid_last)
        if vmid is None:
            raise Conflict("all vmids of the range are used", code="no_vmid_left")
        return vmid
    if request.vmid >= DRILL_VMIDS:
        raise Invalid.field("vmid", f"must be below {DRILL_VMIDS}; from there on they are the restore drills'")
    if not settings.vmid_first <= request.vmid <= settings.vmid_last:
        raise Invalid.field("vmid", f"must be from {settings.vmid_first} to {settings.vmid_last}; others are the site's own")
    if CloudPod.live_vmid(request.vmid):
        raise _vmid_taken(f"{request.vmid} belongs to a live pod")
    if CloudPodBackup.of_another_tenant(request.vmid, request.tenant_id):
        # The node knows archives by vmid: prune would count them as the new pod's.
        raise _vmid_taken(f"{request.vmid} cannot be used again yet: archives of an earlier pod still bear it")
    return request.vmid


def _vmid_taken(rule: str) -> Conflict:
    return Conflict(f"vmid: {rule}", code="vmid_taken", fields=[{"field": "vmid", "rule": rule}])
