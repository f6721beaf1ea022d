"""Which node a new pod gets: those it may go to and fits on, then the best of them; and why, node by node.

| a node is refused for | when |
|---|---|
| status | it is not active |
| address | it has no address pool with the address asked for, or none of its pool's addresses is left |
| storage | its storages are known and the pod's is none of them |
| cores, memory, disk | what is taken and what is asked exceed total times over-commit; a total of 0 is not known and fits |

One SQL statement reads what is known of all nodes of the region; the rest is arithmetic, without the database.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from shim import caller, db
from shim.errors import Conflict, Invalid
from shim.nodes.candidates import Candidate, Size, Wish, candidates
from shim.nodes.models import CloudPodNode

# What counts how much, each from 0 to 1: how much stays free of the scarcest of cores, memory and disk; that the tenant has few
# other pods there; that it has few other pods of the same role there, for two of a role are two so that one may fail.
FREE_WEIGHT, TENANT_WEIGHT, ROLE_WEIGHT = 1.0, 0.5, 1.0
# A job keeps the reasons for so many nodes, the best first.
KEPT = 20


@dataclass(frozen=True)
class Judged:
    """One node's part of a decision: `refused` is empty when the pod fits there."""

    node: Candidate
    refused: tuple[str, ...]
    parts: dict[str, float]

    @property
    def score(self) -> float:
        """Return the sum of the parts; of two nodes the higher is taken."""
        return round(sum(self.parts.values()), 6)

    def as_json(self) -> dict[str, Any]:
        """Return the reasons as clients see them."""
        if self.refused:
            return {"node": self.node.name, "fits": False, "refused": list(self.refused)}
        return {"node": self.node.name, "fits": True, "score": self.score, "parts": self.parts}


@dataclass(frozen=True)
class Placement:
    """A node, and the reasons that a job keeps."""

    node: CloudPodNode
    reasons: dict[str, Any]


def place(size: Size, *, region: str, name: str | None = None, ip: str | None = None, **further: Any) -> Placement:
    """Return the node for a pod of this size: `name` if given, one whose pool has `ip` if given; `further` is a `Wish`'s.

    Call inside the transaction that books it. Raises Invalid for a node or region that is not there and for an address that
    no candidate has, Conflict when none has room.
    """
    # One placement at a time: two at once would both see the last gap.
    db.lock("placement")
    return explain(size, region=region, name=name, ip=ip, **further)


def explain(size: Size, *, region: str, name: str | None = None, ip: str | None = None, **further: Any) -> Placement:
    """Return what `place` would, and raise what it would, without keeping anybody else from placing."""
    # A node that was named is judged by its own pool, whose bounds the refusal then tells.
    wish = Wish(size, region=region, name=name, ip=None if name else ip, has_ip=ip is not None, **further)
    judged = decide(candidates(wish), wish)
    if judged and not judged[0].refused:
        best = judged[0].node
        return Placement(CloudPodNode.get_by_id(best.id), {"node": best.name, "nodes": _told(judged)})
    if not judged:
        _check_target(region, name)
    raise _refusal(judged, wish)


class Placing:
    """Places many pods in one transaction, by what was read of each region once. Nobody else places until its end."""

    def __init__(self) -> None:
        db.lock("placement")
        self._known: dict[str, list[Candidate]] = {}
        self._nodes: dict[str, CloudPodNode] = {}

    def place(self, size: Size, *, region: str, name: str | None, tenant_id: str, storage: str) -> Placement:
        """Return the node for a pod that is to have an address of its pool, and count it there. Raises as `place` does."""
        if region not in self._known:
            self._known[region] = candidates(Wish(size, region=region, tenant_id=tenant_id))
        wish = Wish(size, region=region, name=name, tenant_id=tenant_id, storage=storage)
        judged = decide([node for node in self._known[region] if name in (None, node.name)], wish)
        if not judged:
            _check_target(region, name)
        if not judged or judged[0].refused:
            raise _refusal(judged, wish)
        best = judged[0].node
        # Regions may share a pool.
        self._known = {of: [_with_one_more(node, best, size) for node in nodes] for of, nodes in self._known.items()}
        if best.id not in self._nodes:
            self._nodes[best.id] = CloudPodNode.get_by_id(best.id)
        return Placement(self._nodes[best.id], {"node": best.name, "nodes": _told(judged)})


def _with_one_more(node: Candidate, taken: Candidate, size: Size) -> Candidate:
    """Return what is known of a node when another pod of the tenant has its place on the one that was taken."""
    if node.id == taken.id:
        used = Size(node.used.cores + size.cores, node.used.memory_mb + size.memory_mb, node.used.disk_gb + size.disk_gb)
        node = replace(node, used=used, pods_of_tenant=node.pods_of_tenant + 1)
    shares = node.pool_id is not None and node.pool_id == taken.pool_id
    return replace(node, addresses_used=node.addresses_used + 1) if shares else node


def grow(node_id: str, more: Size, *, tenant_id: str) -> None:
    """Raise Conflict unless a pod's node has room for this much more of it. Call inside the transaction that books it.

    A node's status does not matter: the pod is there already.
    """
    db.lock("placement")
    node = CloudPodNode.get_by_id(node_id)
    wish = Wish(more, region=node.region, name=node.name, ip=None, has_ip=True, tenant_id=tenant_id)
    (found,) = candidates(wish)
    lacking = list(_lacking(found, more))
    if lacking:
        full = _for_the_house([Judged(found, tuple(lacking), {})])
        raise Conflict(f"no room for it on node {node.name}", code="no_capacity", considered=1, **full)


def decide(found: list[Candidate], wish: Wish) -> list[Judged]:
    """Return the nodes with what speaks for and against each, the best first. The same nodes give the same order."""
    judged = [Judged(node, tuple(_against(node, wish)), _parts(node, wish.size)) for node in found]
    return sorted(judged, key=lambda each: (bool(each.refused), -each.score, each.node.name))


def _against(node: Candidate, wish: Wish) -> Iterator[str]:
    if node.status != "active":
        yield f"status: {node.status}"
    if wish.ip is not None and node.pool_has_ip is False:
        yield f"address: {wish.ip} is outside its address pool"
    if not wish.has_ip and node.addresses is not None and node.addresses_used >= node.addresses:
        yield f"address: all {node.addresses} of its address pool are taken"
    if wish.storage is not None and node.storages is not None and wish.storage not in node.storages:
        yield f"storage: it has no {wish.storage}"
    yield from _lacking(node, wish.size)


def _lacking(node: Candidate, size: Size) -> Iterator[str]:
    for name, unit, asked, used, capacity in _dimensions(node, size):
        # What is not asked for cannot be what does not fit.
        if capacity is not None and asked > 0 and used + asked > capacity:
            yield f"{name}: {used} of {capacity:g}{unit} are taken, {asked} more are asked for"


def _parts(node: Candidate, size: Size) -> dict[str, float]:
    dimensions = _dimensions(node, size)
    free = min([1.0, *((cap - used - asked) / cap for _, _, asked, used, cap in dimensions if cap is not None)])
    return {
        "free": round(FREE_WEIGHT * free, 6),
        "tenantSpread": round(TENANT_WEIGHT / (1 + node.pods_of_tenant), 6),
        "roleSpread": round(ROLE_WEIGHT / (1 + node.pods_of_role), 6),
    }


def _dimensions(node: Candidate, size: Size) -> list[tuple[str, str, int, int, float | None]]:
    """Return name, unit, what is asked, what is taken and what may be of cores, memory and disk; None where not known."""
    return [
        ("cores", "", size.cores, node.used.cores, node.capacity("cores")),
        ("memory", " MB", size.memory_mb, node.used.memory_mb, node.capacity("memory_mb")),
        ("disk", " GB", size.disk_gb, node.used.disk_gb, node.capacity("disk_gb")),
    ]


def _refusal(judged: list[Judged], wish: Wish) -> Invalid | Conflict:
    where = f"node {wish.name}" if wish.name else f"any active node of region {wish.region}"
    if wish.ip is not None:
        anywhere = decide([each.node for each in judged], replace(wish, ip=None))
        if not any(each.node.pool_has_ip is not False for each in anywhere if each.node.status == "active"):
            return Invalid.field("ip", f"outside the address pool of {where}", code="ip_not_allowed")
    size = wish.size
    return Conflict(
        f"no room for {size.cores} cores, {size.memory_mb} MB and {size.disk_gb} GB on {where}",
        code="no_capacity",
        considered=len(judged),
        **_for_the_house(judged),
    )


def _for_the_house(judged: list[Judged]) -> dict[str, Any]:
    """Return the reasons for a problem. How full nodes are is not told to tenants."""
    return {"nodes": _told(judged)} if caller.only_tenant() is None else {}


def _told(judged: list[Judged]) -> list[dict[str, Any]]:
    return [each.as_json() for each in judged[:KEPT]]


def _check_target(region: str, name: str | None) -> None:
    there = CloudPodNode.deleted_at.is_null()
    if not CloudPodNode.select().where(CloudPodNode.region == region, there).exists():
        raise Invalid.field("region", f"there is no node in region {region!r}", code="unknown_region")
    if name is None:
        return
    node = CloudPodNode.get_or_none(CloudPodNode.name == name, there)
    if node is None:
        raise Invalid.field("node", f"there is no node {name!r}", code="unknown_node")
    if node.region != region:
        raise Invalid.field("node", f"{name} is in region {node.region}, not in {region}", code="unknown_node")
