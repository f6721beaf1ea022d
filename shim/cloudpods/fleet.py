"""Nodes made, changed, taken out of use and deleted, with a look at their pods and jobs.

Whoever places a pod holds the lock "placement", and so do these: what a cordon answers for, no pod is placed behind it. The
order is: "placement", "vmid" where an address pool is concerned, the node's row, the pool's.
"""

from typing import Any

from shim import db
from shim.cloudpods import address_pools
from shim.cloudpods.models import CloudPod
from shim.config import Settings
from shim.db import database
from shim.errors import Conflict
from shim.events.models import CloudPodEvent
from shim.jobs import many
from shim.jobs.catalog import FORGOTTEN
from shim.jobs.models import CloudPodJob
from shim.nodes.figures import NodeView
from shim.nodes.models import AddressPool, CloudPodNode
from shim.nodes.regions import Region
from shim.nodes.schemas import ChangeNode, CreateNode
from shim.tenants.refusals import another_has
from shim.tenants.users import Check

# What a node has of which its request says nothing; also one that was there before begins anew.
_FRESH: dict[str, Any] = {
    "status": "active",
    "api_url": None,
    "node_name": None,
    "total_cpu_cores": 0,
    "total_memory_mb": 0,
    "total_disk_gb": 0,
    "cpu_overcommit": 4,
    "memory_overcommit": 1,
    "disk_overcommit": 1,
    "storages": None,
    "max_running_jobs": 4,
    "address_pool": None,
    "synced_at": None,
}
_STATUS_ACTIONS = {"active": "NODE_UNCORDONED", "cordoned": "NODE_CORDONED", "draining": "NODE_DRAINING"}


def show(name: str) -> NodeView:
    """Return a node as clients see it. Raises NotFound."""
    (view,) = NodeView.of([CloudPodNode.named(name)])
    return view


def create(request: CreateNode, settings: Settings) -> NodeView:
    """Write the node, its region if it is the first there, and an event. A deleted one of the name comes back with its id.

    Raises Conflict for a name that another has, Invalid for a pool that is not there.
    """
    with database.atomic():
        columns = {**_FRESH, "region": settings.region, **request.columns()}
        name = columns.pop("name")
        _lock(columns)
        columns["address_pool"] = _joined(columns["address_pool"], None)
        Region.ensure(columns["region"], settings)
        if not CloudPodNode.make(name, columns):
            raise another_has("name", "node")
        made = show(name)
        CloudPodEvent.record("INFO", f"node {name} added", action="NODE_CREATED", node=name, after=made.settings())
        return made


def change(name: str, request: ChangeNode, settings: Settings, check: Check) -> NodeView:
    """Write what the request names and an event; `check` raises when the row is not as the client knows it.

    Raises Conflict for another region while it has pods.
    """
    with database.atomic():
        columns = request.columns()
        _lock(columns)
        CloudPodNode.hold(name)
        before = show(name)
        check(before.updated_at)
        if "region" in columns and columns["region"] != before.node.region:
            _require_no_pods(before.node)
            Region.ensure(columns["region"], settings)
        if columns.get("address_pool") != before.address_pool and "address_pool" in columns:
            columns["address_pool"] = _joined(columns["address_pool"], before.node.id)
        else:
            columns.pop("address_pool", None)
        return _write(before, columns, "NODE_CHANGED")


def set_status(name: str, status: str) -> NodeView:
    """Keep new pods away from a node, or let them in again, and say so in an event.

    Raises Conflict for one that is offline: that is said by a `PUT`, and so is that it is back.
    """
    with database.atomic():
        db.lock("placement")
        CloudPodNode.hold(name)
        before = show(name)
        if before.node.status == "offline":
            raise Conflict(f"node {name} is offline; PUT its status once it is back", code="node_offline")
        return _write(before, {"status": status}, _STATUS_ACTIONS[status])


def delete(name: str, check: Check) -> None:
    """Mark the node as deleted, cancel the looks at it and write an event.

    Raises Conflict while it has pods or other unfinished jobs.
    """
    with database.atomic():
        db.lock("placement")
        node = CloudPodNode.hold(name)
        check(node.updated_at)
        # First: a look may let pods that moved here follow.
        many.cancel_looks(node.id, list(FORGOTTEN), f"node {name} was deleted")
        _require_no_pods(node)
        jobs = CloudPodJob.unfinished_on(node.id)
        if jobs:
            raise Conflict(f"node {name} has unfinished jobs; wait for them", code="node_has_jobs", jobIds=jobs)
        before = show(name).settings()
        node.change(status="offline", deleted_at=db.now(), address_pool=None)
        CloudPodEvent.record("INFO", f"node {name} removed", action="NODE_DELETED", node=name, before=before)


def _lock(columns: dict[str, Any]) -> None:
    db.lock("placement")
    if columns.get("address_pool") is not None:
        db.lock("vmid")


def _joined(pool_name: str | None, node_id: str | None) -> str | None:
    """Return the id of the pool that a node is to have.

    Raises Conflict when that makes it shared while nodes choose addresses of it.
    """
    if pool_name is None:
        return None
    pool = AddressPool.chosen(pool_name)
    others = address_pools.node_ids(pool)
    if others:
        # With one node the node chooses; with two the shim does, and would not know of what is being chosen.
        address_pools.require_none_choosing(pool, [*others, *([node_id] if node_id else [])])
    return str(pool.id)


def _write(before: NodeView, columns: dict[str, Any], action: str) -> NodeView:
    node, name = before.node, before.node.name
    columns = {column: value for column, value in columns.items() if not _same(getattr(node, column), value)}
    if not columns:
        return before
    node.change(**columns)
    after = show(name)
    old, new = before.settings(), after.settings()
    changed = [word for word in new if new[word] != old[word]]
    CloudPodEvent.record(
        "INFO",
        f"node {name} changed: {', '.join(changed)}",
        action=action,
        node=name,
        before={word: old[word] for word in changed},
        after={word: new[word] for word in changed},
    )
    return after


def _same(old: Any, new: Any) -> bool:
    return bool(float(old) == new) if isinstance(new, float) else bool(old == new)


def _require_no_pods(node: CloudPodNode) -> None:
    vmids = CloudPod.remaining_on(node.id)
    if vmids:
        raise Conflict(f"node {node.name} has pods; move or destroy them first", code="node_has_pods", vmids=vmids)
