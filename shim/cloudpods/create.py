"""CREATE: a new pod, from the request to its outcome."""

import ipaddress
from functools import partial
from typing import Any

from shim.cloudpods import anew, change, destroy, dry_run, host_key, once
from shim.cloudpods.models import CloudPod
from shim.cloudpods.schemas import CreatePod
from shim.config import Settings
from shim.db import database, lock
from shim.errors import Conflict, Invalid
from shim.jobs.again import Again
from shim.jobs.models import CloudPodJob
from shim.jobs.submit import submit
from shim.nodes.candidates import Size
from shim.nodes.models import Allocation
from shim.nodes.placement import place
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
    tenant, plan = buyer(request)
    region = request.region or tenant.region
    amount = Amount.of_pod(request.cores, request.memory_mb, request.disk_gb)
    # First, since it locks the quota: those who have used theirs up do not wait for a place.
    room = ledger.check(tenant.id, amount)
    placed = place(
        Size(request.cores, request.memory_mb, request.disk_gb),
        region=region,
        name=request.node,
        ip=request.ip,
        tenant_id=tenant.id,
        storage=columns.get("storage", CloudPod.storage.default),
    )
    node = placed.node
    # What is free is looked up, for both vmid and address, and is taken, by one order or adoption at a time.
    lock("vmid")
    pod = CloudPod.write(
        tenant=tenant,
        node=node,
        vmid=once.vmid(request.vmid, region=region, tenant_id=tenant.id, settings=settings),
        hostname=request.hostname,
        ip=once.address(node, request.ip),
        region=region,
        plan_snapshot=plan.snapshot(),
        cores=request.cores,
        memory_mb=request.memory_mb,
        swap_mb=request.swap_mb,
        disk_gb=request.disk_gb,
        **columns,
    )
    pod.node = node
    Allocation.take(node, pod.id, tenant.id, request.cores, request.memory_mb, request.disk_gb)
    # `autoVmid`: the shim picked it, and may pick another should the node have it already.
    exact = {"vmid": pod.vmid, "autoVmid": request.vmid is None, "region": region, "autoIp": request.ip is None}
    job = submit(
        type,
        tenant_id=tenant.id,
        cloud_pod_id=pod.id,
        node_id=node.id,
        payload={**request.payload(), **exact, **(further or {})},
        requested_by=request.requested_by,
        placement=placed.reasons,
    )
    ledger.book(room, job.id, pod.id)
    return job, pod


def variables(job: CloudPodJob) -> dict[str, Any]:
    """Return the playbook's extra vars."""
    return {**description(job), "disk_gb": _pod(job).disk_gb}


def description(job: CloudPodJob) -> dict[str, Any]:
    """Return the extra vars that say what the new pod is to be; how large its disk is, an archive says itself."""
    pod = _pod(job)
    # The pod's own, which the shim may have chosen. One that it lost to another pod is still asked for: the node refuses it.
    ip = pod.ip or job.payload.get("ip") or _next_address(job, pod)
    address = {"ip": ip} if ip else {"auto_ip": True}
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


def _next_address(job: CloudPodJob, pod: CloudPod) -> str:
    """Return another address, now the pod's, for the one of a shared pool that it lost; "" where the node chooses."""
    if job.dry_run or not once.chooses_address(pod.node):
        return ""
    try:
        with database.atomic():
            held = change.pod_of(job)
            lock("vmid")
            held.change(ip=once.address(held.node, None))
            return held.ip
    except Conflict:
        # None is left. The node, which looks for itself, says so or has one all the same.
        return ""


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


def fall(job: CloudPodJob, failure: dict[str, Any], message: str, *, action: str, **data: Any) -> None:
    """Write that the new pod is not there and free what it took, unless something of it was left behind; say so."""
    pod = change.pod_of(job)
    status = "failed" if pod.status == "provisioning" else pod.status
    pod.change(status=status, error=failure["msg"])
    if failure["left_behind"] == "nothing":
        change.give_back(job, pod)
    else:
        # It is there until a destroy took it away.
        change.settle(job, pod)
    change.record_failure(job, failure, message, action=action, vmid=pod.vmid, **data)


def cancelled(job: CloudPodJob, failure: dict[str, Any]) -> None:
    """The pod is not there; what is there of it is destroyed."""
    fail(job, failure)
    clear_away(job, failure)


def clear_away(job: CloudPodJob, failure: dict[str, Any]) -> None:
    """Order the destruction of what a cancelled job left of its new pod, if the node says that it is this pod's."""
    seen = failure.get("seen") or {}
    ours = seen.get("unfinished") or change.owner_of(seen).get("pod") == job.cloud_pod_id
    if failure["left_behind"] != "nothing" and ours:
        destroy.follow(job, change.pod_of(job))


def settle(job: CloudPodJob, seen: dict[str, Any]) -> dict[str, Any] | None:
    """A lost create is done when the pod stands there, whole, ours and running."""
    if change.is_ours(CloudPod.find(str(job.cloud_pod_id)), seen) and seen.get("status") == "running":
        return {"vmid": seen["vmid"], "ip": seen["ip"], "cloudpod": seen, "changed": True}
    return None


def again(job: CloudPodJob, settings: Settings) -> Again:
    """Return the order of another pod that is the same: its vmid and address, if they were chosen, are chosen anew."""
    anew.require_of_no_deployment(job)
    anew.require_nothing_left(job)
    asked = anew.asked(CreatePod, anew.without_chosen(job.payload))
    return Again(asked=asked, give=partial(create, settings=settings))


def left(job: CloudPodJob, seen: dict[str, Any]) -> str:
    """Return what ended runs left of a new pod: a container at its vmid, unless that is known for somebody else's."""
    of_nobody = seen.get("in_pool") is False and not seen.get("unfinished")
    of_another = change.owner_of(seen).get("pod") not in (None, job.cloud_pod_id)
    return "nothing" if not seen.get("exists") or of_nobody or of_another else f"container {seen['vmid']}"


def buyer(request: CreatePod) -> tuple[Tenant, Plan]:
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
