"""Address pools made, changed and deleted.

Whoever chooses an address for a pod holds the lock "vmid" until it is taken, and so does a change.
"""

import ipaddress
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import peewee

from shim import db
from shim.cloudpods.models import CloudPod
from shim.db import database, new_id
from shim.errors import Conflict, Invalid
from shim.events.models import CloudPodEvent
from shim.nodes.figures import PoolView
from shim.nodes.models import AddressPool, CloudPodNode
from shim.nodes.schemas import ChangePool, CreatePool
from shim.tenants.refusals import taken
from shim.tenants.users import Check


def show(name: str) -> PoolView:
    """Return a pool as clients see it. Raises NotFound."""
    (view,) = PoolView.of([AddressPool.find(name)])
    return view


def create(request: CreatePool) -> PoolView:
    """Write the pool and an event. Raises Conflict for a name or addresses that another has."""
    with database.atomic():
        pool = AddressPool(id=new_id(), **request.model_dump())
        _require_order(pool)
        with taken("address pool"), _alone(pool):
            pool.save(force_insert=True)
        made = show(pool.name)
        CloudPodEvent.record(
            "INFO", f"address pool {pool.name} made", action="POOL_CREATED", pool=pool.name, after=made.settings()
        )
        return made


def change(name: str, request: ChangePool, check: Check) -> PoolView:
    """Write what the request names and an event; `check` raises when the row is not as the client knows it.

    Raises Conflict for addresses that another pool has, and when a pod's would be the gateway's or none of the pool's.
    """
    with database.atomic():
        db.lock("vmid")
        AddressPool.hold(name)
        before = show(name)
        check(before.updated_at)
        columns = _differing(before.pool, request.columns())
        if not columns:
            return before
        after = AddressPool(**{**before.pool.__data__, **columns})
        _require_order(after)
        _require_free(before.pool, after)
        if before.pool.last_given is not None and after.refusal(_bare(before.pool.last_given)):
            # Counted from an address outside, the search would not stay inside.
            columns["last_given"] = None
        with _alone(after):
            AddressPool.update(updated_at=db.now(), **columns).where(AddressPool.id == after.id).execute()
        changed = show(name)
        old, new = before.settings(), changed.settings()
        CloudPodEvent.record("INFO", f"address pool {name} changed", action="POOL_CHANGED", pool=name, before=old, after=new)
        return changed


def delete(name: str, check: Check) -> None:
    """Delete the pool and write an event. Raises Conflict while a node has it."""
    with database.atomic():
        AddressPool.hold(name)
        view = show(name)
        check(view.updated_at)
        if view.nodes:
            raise Conflict(f"address pool {name} is {', '.join(view.nodes)}'s", code="pool_in_use", nodes=view.nodes)
        AddressPool.delete().where(AddressPool.id == view.id).execute()
        CloudPodEvent.record("INFO", f"address pool {name} deleted", action="POOL_DELETED", pool=name, before=view.settings())


def node_ids(pool: AddressPool) -> list[str]:
    """Return the ids of the nodes that have the pool."""
    return [node.id for node in CloudPodNode.listed(address_pool=pool.id)]


def require_none_choosing(pool: AddressPool, nodes: list[str]) -> None:
    """Raise Conflict while one of these nodes chooses the address of a new pod. Call with the lock "vmid" held."""
    vmids = CloudPod.without_address(nodes)
    if vmids:
        raise Conflict(
            f"nodes of address pool {pool.name} are choosing addresses of new pods; try again once these are active",
            code="pool_busy",
            vmids=vmids,
        )


def _differing(pool: AddressPool, given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value != _bare(getattr(pool, name))}


def _bare(address: Any) -> str:
    return str(address).split("/", 1)[0]


def _require_order(pool: AddressPool) -> None:
    first, last, _ = pool.bounds()
    if first > last:
        raise Invalid.field("lastIp", f"must not be below firstIp, {first}")


def _require_free(before: AddressPool, after: AddressPool) -> None:
    """Raise Conflict when an address of a pod could be a pod's no more, or one is being chosen that could be such."""
    first, last, _ = before.bounds()
    lost = [ip for ip in CloudPod.used_ips(str(first), str(last)) if after.refusal(ip) and not before.refusal(ip)]
    if lost:
        raise Conflict(
            f"pods have addresses that would be outside the pool or its gateway's: {', '.join(lost[:10])}",
            code="addresses_in_use",
            addresses=lost[:10],
        )
    ends = [ipaddress.IPv4Address(_bare(address)) for address in (after.first_ip, after.last_ip)]
    if ends[0] > first or ends[1] < last or _bare(before.gateway) != _bare(after.gateway):
        require_none_choosing(before, node_ids(before))


@contextmanager
def _alone(pool: AddressPool) -> Iterator[None]:
    """Write in the block; raise Conflict when another pool has some of the addresses. The constraint knows best."""
    try:
        with database.atomic():
            yield
    except peewee.IntegrityError as error:
        first, last, _ = pool.bounds()
        other = AddressPool.overlapping(str(first), str(last), but=pool.name)
        if other is None:
            raise
        raise Conflict(
            f"overlaps with the address pool {other}; nodes on one bridge share a pool", code="pool_overlap", pool=other
        ) from error
