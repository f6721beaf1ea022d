"""ADOPT: a container that stands on a node already becomes a pod, from the request to its outcome.

The marker of a container that was ours before names its pod: that id is taken again, so that an adoption whose outcome was
lost can be repeated, and pods whose rows were lost come back as what they were.
"""

import ipaddress
import re
from dataclasses import dataclass
from functools import partial
from typing import Any

from shim.cloudpods import anew, change, host_key, scan, verdict
from shim.cloudpods.backup_models import CloudPodBackup
from shim.cloudpods.models import GONE, CloudPod
from shim.cloudpods.schemas import AdoptPod
from shim.config import Settings
from shim.db import database, iso, lock, new_id
from shim.errors import Conflict
from shim.jobs.again import Again
from shim.jobs.models import CloudPodJob
from shim.jobs.submit import submit
from shim.nodes.models import Allocation, CloudPodNode
from shim.quotas import ledger
from shim.quotas.ledger import Amount
from shim.tenants.models import Tenant

# A marker's id; one of digits only would be read as a vmid, which may be another pod's.
_ID = re.compile(r"(?!\d+$)[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")


@dataclass(frozen=True)
class Plan:
    """What an adoption would write: `earlier` is the row of the pod that the container was before."""

    node: CloudPodNode
    tenant: Tenant
    pod_id: str
    earlier: CloudPod | None
    columns: dict[str, Any]


def plan(node_name: str, request: AdoptPod) -> Plan:
    """Return what an adoption would write, by the last look at the node. Call inside a transaction; nothing is written.

    Raises NotFound or Conflict for what must not be adopted.
    """
    node = CloudPodNode.named(node_name)
    tenant = Tenant.keep(request.tenant_id)
    _require_not_live(request.vmid)
    seen = scan.container(node_name, request.vmid)
    if seen["unfinished"]:
        raise Conflict(f"container {request.vmid} is an unfinished create; destroy it on the node", code="container_unfinished")
    # The earlier pod's row first, as every order of a pod takes it; then nobody else may choose this vmid or address.
    pod_id, earlier = _identity(request, seen.get("owner") or {})
    columns = _usable(request.vmid, seen, node)
    ledger.check(tenant.id, Amount.of_pod(columns["cores"], columns["memory_mb"], columns["disk_gb"]), pod_id)
    lock("vmid")
    # Behind that lock, which a change of the node takes before its row.
    node = CloudPodNode.keep(node_name)
    _require_free(request.vmid, but=pod_id)
    if CloudPodBackup.of_another_tenant(request.vmid, request.tenant_id):
        # They would be listed and pruned as this pod's.
        raise Conflict(f"archives of an earlier pod of another owner still bear vmid {request.vmid}", code="vmid_taken")
    _require_free_address(columns["ip"], but=pod_id)
    return Plan(node, tenant, pod_id, earlier, columns)


def adopt(node_name: str, request: AdoptPod) -> tuple[CloudPodJob, CloudPod]:
    """Write pod, allocation, job and event in one transaction; the pod is active only after the node's part is done."""
    with database.atomic():
        planned = plan(node_name, request)
        # Before its row, and its share with it, are overwritten.
        was, share = _as_it_was(planned), _share(planned)
        pod = _row(planned, request.vmid)
        _book(pod)
        job = submit(
            "ADOPT",
            tenant_id=pod.tenant_id,
            cloud_pod_id=pod.id,
            node_id=planned.node.id,
            payload={**request.payload(), "node": node_name, **({"earlier": was, "share": share} if was else {})},
            requested_by=request.requested_by,
        )
        ledger.reserve(pod.tenant_id, job.id, pod.id, change.amount_of(pod))
        return job, CloudPod.find(pod.id)


def variables(job: CloudPodJob) -> dict[str, Any]:
    """Return the playbook's extra vars."""
    return change.guard(job, CloudPod.find(str(job.cloud_pod_id)))


def succeed(job: CloudPodJob, result: dict[str, Any]) -> None:
    """The container is marked as this pod: keep what the node says of it and make it active."""
    pod = change.pod_of(job)
    status = "active" if pod.status == "provisioning" else pod.status
    pod.change(status=status, error=None, **_columns(result["cloudpod"], pod.node))
    _book(pod)
    change.settle(job, pod)
    change.record(
        "STATE_CHANGE",
        "CloudPod adopted",
        job,
        action="ADOPTED",
        vmid=pod.vmid,
        ip=pod.ip,
        node=pod.node.name,
        status=pod.status,
        changed=result["changed"],
    )


def fail(job: CloudPodJob, failure: dict[str, Any]) -> None:
    """The container is nobody's pod: neither vmid nor address nor share of the node stay taken.

    The row of the pod that it was before is as it was. One whose destruction was asked for meanwhile waits for that.
    """
    pod = change.pod_of(job)
    if pod.status == "provisioning":
        give_up(job, pod, failure["msg"])
    change.record_failure(job, failure, "CloudPod not adopted", action="ADOPT_FAILED", vmid=pod.vmid)


def give_up(job: CloudPodJob, pod: CloudPod, error: str) -> None:
    """Make the pod, whose row the caller holds, what it was before its adoption, which came to nothing, was ordered."""
    pod.change(**{"status": "failed", "error": error, **job.payload.get("earlier", {})})
    _give_back(job, CloudPod.find(pod.id))


def left(job: CloudPodJob, seen: dict[str, Any]) -> str:
    """Return what ended runs left: address and marker, written in this order, which adopting the container again takes up."""
    marked = change.owner_of(seen).get("pod") == job.cloud_pod_id
    kept = f"the marker of pod {job.cloud_pod_id} on container {seen['vmid']}, and its address"
    return f"{kept}; adopt it again" if marked else "nothing"


def settle(job: CloudPodJob, seen: dict[str, Any]) -> dict[str, Any] | None:
    """A lost adoption may have ended between the marker and the address; running it again finishes both."""
    return None


def again(job: CloudPodJob, settings: Settings) -> Again:
    """Return the order anew."""
    asked = anew.asked(AdoptPod, job.payload)
    return Again(asked=asked, give=partial(adopt, job.payload["node"]))


def _require_not_live(vmid: int) -> None:
    if CloudPod.live_vmids([vmid]):
        raise Conflict(f"vmid {vmid} belongs to a live pod", code="vmid_taken")


def _require_free(vmid: int, *, but: str) -> None:
    # Of the pod that the container was before, which failed, just this container may be left.
    if CloudPod.live_vmid(vmid, but=but):
        raise Conflict(f"vmid {vmid} belongs to a live pod", code="vmid_taken")


def _require_free_address(ip: str, *, but: str) -> None:
    if CloudPod.live_ip(ip, but=but):
        raise Conflict(f"address {ip} belongs to another live pod", code="ip_taken")


def _identity(request: AdoptPod, owner: dict[str, Any]) -> tuple[str, CloudPod | None]:
    """Return the pod's id, and its earlier row if it has one, by the container's marker."""
    if owner.get("tenant") not in (None, request.tenant_id):
        # Whose it is, is not told: who asks with the wrong tenant need not learn the right one.
        raise Conflict(f"container {request.vmid} does not belong to tenant {request.tenant_id}", code="owned_by_another")
    named = owner.get("pod")
    if named is None:
        return new_id(), None
    if not _ID.fullmatch(str(named)):
        raise Conflict(f"the marker of container {request.vmid} names no pod that could be ours", code="bad_marker")
    earlier: CloudPod | None = CloudPod.select().where(CloudPod.id == named).for_update().first()
    if earlier is None:
        return str(named), None
    if earlier.status not in GONE or earlier.vmid != request.vmid or earlier.tenant_id != request.tenant_id:
        # A container that was copied by hand has the marker of the one it was copied from.
        raise Conflict(f"the marker of container {request.vmid} names another pod; correct its description", code="bad_marker")
    return str(named), earlier


def _as_it_was(planned: Plan) -> dict[str, Any]:
    """Return the columns of the earlier pod's row that the adoption overwrites, as a job's payload can hold them."""
    pod = planned.earlier
    if pod is None:
        return {}
    deleted = {"status": pod.status, "deleted_at": iso(pod.deleted_at), "error": pod.error}
    return {**deleted, "node": pod.node_id, "region": pod.region, **{name: getattr(pod, name) for name in planned.columns}}


def _share(planned: Plan) -> list[int] | None:
    """Return what the earlier pod, which failed and left something, has of its node still."""
    share = Allocation.of_pod(planned.pod_id)
    return None if share is None else [share.used_cpu_cores, share.used_memory_mb, share.used_disk_gb]


def _give_back(job: CloudPodJob, pod: CloudPod) -> None:
    """Free what the adoption took; what the pod had before, since something of it is on its node, it has again."""
    share = job.payload.get("share")
    if share is None:
        change.give_back(job, pod)
        return
    ledger.release(job.id)
    Allocation.release(pod.id)
    Allocation.take(pod.node, pod.id, pod.tenant_id, *share)


def _row(planned: Plan, vmid: int) -> CloudPod:
    given = {"node": planned.node, "region": planned.node.region, "status": "provisioning", **planned.columns}
    if planned.earlier is not None:
        planned.earlier.change(error=None, deleted_at=None, **given)
        return planned.earlier
    snapshot = planned.tenant.plan.snapshot()
    pod: CloudPod = CloudPod.create(id=planned.pod_id, tenant=planned.tenant, vmid=vmid, plan_snapshot=snapshot, **given)
    return pod


def _book(pod: CloudPod) -> None:
    Allocation.release(pod.id)
    Allocation.take(pod.node, pod.id, pod.tenant_id, pod.cores, pod.memory_mb, pod.disk_gb)


def _usable(vmid: int, seen: dict[str, Any], node: CloudPodNode) -> dict[str, Any]:
    """Return the columns of what a look showed of a container. Raises Conflict for what no pod of this node can be."""
    try:
        columns = _columns({key: seen.get(name) for key, name in scan.NAMES.items()}, node)
    except (TypeError, ValueError) as error:
        raise Conflict(f"container {vmid} has a value that no pod can have: {error}", code="container_unusable") from error
    ip = columns["ip"]
    refusal = node.address_pool.refusal(ip) if ip and node.address_pool else None
    if refusal:
        raise Conflict(f"address {ip} of container {vmid} cannot be a pod's: {refusal}", code="ip_not_allowed")
    return columns


def _columns(seen: dict[str, Any], node: CloudPodNode) -> dict[str, Any]:
    """Given what `cloudpod_info` says of a container, return the pod's columns. A container that runs is wanted to."""
    power_state = verdict.power_state(seen)
    return {
        "hostname": seen.get("hostname") or "localhost",
        "ip": str(ipaddress.IPv4Address(seen["ip"])) if seen.get("ip") else "",
        # A container without a limit has all of the node's cores.
        "cores": int(seen.get("cores") or node.total_cpu_cores or 1),
        "memory_mb": int(seen["memory_mb"]),
        "swap_mb": int(seen["swap_mb"]),
        "disk_gb": max(int(seen.get("disk_gb") or 1), 1),
        "storage": str(seen.get("storage") or ""),
        "bridge": str(seen.get("bridge") or ""),
        "power_state": power_state,
        "wanted_power": "stopped" if power_state == "stopped" else "running",
        "host_key": host_key.of(seen),
    }
