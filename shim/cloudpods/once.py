"""What a new pod gets of what there is once: its vmid and its address. Call inside the transaction that writes the pod's row.

Whoever looks up what is free holds the lock "vmid" until it is taken, orders and adoptions alike. The node's script has
the last word all the same: it sees containers that are none of ours (`clash.py`).
"""

import itertools
from collections.abc import Collection, Iterator

from shim import db
from shim.cloudpods.backup_models import CloudPodBackup
from shim.cloudpods.models import CloudPod
from shim.config import DRILL_VMIDS, Settings
from shim.errors import Conflict, Invalid
from shim.nodes.models import AddressPool, CloudPodNode
from shim.nodes.regions import Region

# The containers that are none of ours, by the last look at each node.
_FOREIGN = """
SELECT DISTINCT (row_->>'vmid')::bigint, coalesce(row_->>'ip', '')
FROM cloud_pod_nodes n
CROSS JOIN LATERAL (
    SELECT j.result FROM cloud_pod_jobs j WHERE j.node_id = n.id AND j.type = 'POD_SCAN' AND j.cloud_pod_id IS NULL
    AND j.status = 'success' ORDER BY j.created_at DESC LIMIT 1
) last
CROSS JOIN LATERAL jsonb_array_elements(last.result->'foreign') row_
WHERE n.deleted_at IS NULL
"""


def vmid(wanted: int | None, *, region: str, tenant_id: str, settings: Settings) -> int:
    """Return the vmid asked for, or the region's next. Raises Invalid or Conflict for one that cannot be had."""
    Region.ensure(region, settings)
    if wanted is None:
        return next_vmid(region)
    _check_range(wanted, Region.find(region))
    if CloudPod.live_vmid(wanted):
        raise vmid_taken(f"{wanted} belongs to a live pod")
    if CloudPodBackup.of_another_tenant(wanted, tenant_id):
        # The node knows archives by vmid: prune would count them as the new pod's.
        raise vmid_taken(f"{wanted} cannot be used again yet: archives of an earlier pod still bear it")
    if wanted in foreign()[0]:
        raise vmid_taken(f"{wanted} belongs to a container that is none of ours")
    return wanted


def next_vmid(region: str, *, but: Collection[int] = ()) -> int:
    """Return the region's next vmid that no pod ever had and that is none of `but`; the counter goes on behind it.

    One that was used is not given out again: vzdump names archives by vmid, and they may outlive the pod.
    """
    held = Region.hold(region)
    found = CloudPod.unused_vmid(held.upcoming())
    while found in but:
        found = CloudPod.unused_vmid(found + 1)
    if found > held.vmid_last:
        raise _no_vmid_left(held)
    held.given(found)
    return found


def next_vmids(region: str, count: int, settings: Settings) -> list[int]:
    """Return so many vmids at once as `next_vmid` would one by one."""
    Region.ensure(region, settings)
    held = Region.hold(region)
    found = CloudPod.unused_vmids(held.upcoming(), count)
    if found[-1] > held.vmid_last:
        raise _no_vmid_left(held)
    held.given(found[-1])
    return found


def _no_vmid_left(region: Region) -> Conflict:
    return Conflict(f"all vmids of region {region.name} up to {region.vmid_last} are used", code="no_vmid_left")


class Addresses:
    """Addresses for many pods of one transaction, each pool searched once."""

    def __init__(self) -> None:
        self._free: dict[str, Iterator[str]] = {}
        self._given: dict[str, tuple[AddressPool, str]] = {}

    def take(self, node: CloudPodNode) -> str:
        """Return what `address` would for a pod that asks for none."""
        pool = node.address_pool
        if pool is None:
            return ""
        if pool.id not in self._free:
            self._free[pool.id] = CloudPod.unused_ips(pool, but=foreign()[1]) if pool.is_shared() else itertools.repeat("")
        found = next(self._free[pool.id], None)
        if found is None:
            raise _no_address_left(pool)
        if found:
            self._given[pool.id] = pool, found
        return found

    def note(self) -> None:
        """Let the next search of each pool go on behind what was taken."""
        for pool, ip in self._given.values():
            pool.given(ip)


def _no_address_left(pool: AddressPool) -> Conflict:
    return Conflict(f"no address of pool {pool.name} is left", code="no_capacity")


def address(node: CloudPodNode, wanted: str | None, *, but: Collection[str] = ()) -> str:
    """Return the address asked for, the next of a pool that several nodes share, or "" where the node chooses one itself.

    Each node has an address file of its own: two that share a pool could choose the same address at the same time.
    """
    pool = node.address_pool
    if wanted is not None:
        _check_address(wanted, pool)
        return wanted
    if pool is None or not pool.is_shared():
        return ""
    found = CloudPod.unused_ip(pool, but={*but, *foreign()[1]})
    if found is None:
        raise _no_address_left(pool)
    pool.given(found)
    return found


def chooses_address(node: CloudPodNode) -> bool:
    """Return whether the shim, and not the node itself, chooses the addresses of its new pods."""
    return node.address_pool is not None and node.address_pool.is_shared()


def foreign() -> tuple[set[int], set[str]]:
    """Return the vmids and the addresses of containers that are none of ours, by the last look at each node."""
    rows = db.rows(_FOREIGN)
    ours = CloudPod.live_vmids([number for number, _ in rows])
    others = [(number, ip) for number, ip in rows if number not in ours]
    return {number for number, _ in others}, {ip for _, ip in others if ip}


def vmid_taken(rule: str) -> Conflict:
    """Return the refusal of a vmid that somebody has."""
    return Conflict(f"vmid: {rule}", code="vmid_taken", fields=[{"field": "vmid", "rule": rule}])


def _check_range(wanted: int, region: Region) -> None:
    if wanted >= DRILL_VMIDS:
        raise Invalid.field("vmid", f"must be below {DRILL_VMIDS}; from there on they are the restore drills'")
    if not region.vmid_first <= wanted <= region.vmid_last:
        raise Invalid.field("vmid", f"must be from {region.vmid_first} to {region.vmid_last}; others are the site's own")


def _check_address(wanted: str, pool: AddressPool | None) -> None:
    refusal = pool.refusal(wanted) if pool else None
    if refusal:
        raise Invalid.field("ip", refusal, code="ip_not_allowed")
    if CloudPod.live_ip(wanted):
        rule = f"{wanted} belongs to another pod"
        raise Conflict(f"ip: {rule}", code="ip_taken", fields=[{"field": "ip", "rule": rule}])
