"""Which node a new pod gets: filter those it fits on, then take the one with the largest free share left."""

from dataclasses import dataclass

from shim import db
from shim.errors import Conflict, Invalid
from shim.nodes.models import CloudPodNode


@dataclass(frozen=True)
class Size:
    """What a pod takes of a node."""

    cores: int
    memory_mb: int
    disk_gb: int


# A total of 0 means "not known": such a node takes what it is given. The free share is the scarcer one of memory and disk;
# cores are shared by time and do not refuse anybody.
_CANDIDATES = """
SELECT n.id,
       LEAST(
           coalesce((n.total_memory_mb - u.memory_mb - %(memory_mb)s)::float / nullif(n.total_memory_mb, 0), 1),
           coalesce((n.total_disk_gb - u.disk_gb - %(disk_gb)s)::float / nullif(n.total_disk_gb, 0), 1)
       ) AS free_share
FROM cloud_pod_nodes n
CROSS JOIN LATERAL (
    SELECT coalesce(sum(a.used_memory_mb), 0) AS memory_mb, coalesce(sum(a.used_disk_gb), 0) AS disk_gb
    FROM cloud_pod_allocations a WHERE a.node_id = n.id
) u
LEFT JOIN address_pools p ON p.id = n.address_pool_id
WHERE n.status = 'active' AND n.region = %(region)s AND (%(name)s::text IS NULL OR n.name = %(name)s)
  AND (%(ip)s::inet IS NULL OR p.id IS NULL OR %(ip)s::inet BETWEEN p.first_ip AND p.last_ip)
ORDER BY free_share DESC, n.name
"""


def place(size: Size, *, region: str, name: str | None = None, ip: str | None = None) -> CloudPodNode:
    """Return the node for a pod of this size: `name` if given, one whose pool has `ip` if given.

    Call inside the transaction that books it. Raises Invalid for a node or region that is not there and for an address that
    no candidate has, Conflict when none has room.
    """
    # One placement at a time: two at once would both see the last gap.
    db.lock("placement")
    _check_target(region, name)
    # A node that was named is judged by its own pool, whose bounds the refusal then tells.
    ip = None if name else ip
    wanted = {"memory_mb": size.memory_mb, "disk_gb": size.disk_gb, "region": region, "name": name, "ip": ip}
    candidates = list(db.database.execute_sql(_CANDIDATES, wanted).fetchall())
    if candidates and candidates[0][1] >= 0:
        return CloudPodNode.get_by_id(candidates[0][0])
    where = f"node {name}" if name else f"any active node of region {region}"
    if ip is not None and not candidates and db.database.execute_sql(_CANDIDATES, {**wanted, "ip": None}).fetchall():
        raise Invalid.field("ip", f"outside the address pool of {where}", code="ip_not_allowed")
    raise Conflict(
        f"no room for {size.memory_mb} MB and {size.disk_gb} GB on {where}", code="no_capacity", considered=len(candidates)
    )


def _check_target(region: str, name: str | None) -> None:
    if not CloudPodNode.select().where(CloudPodNode.region == region).exists():
        raise Invalid.field("region", f"there is no node in region {region!r}", code="unknown_region")
    if name is None:
        return
    node = CloudPodNode.get_or_none(CloudPodNode.name == name)
    if node is None:
        raise Invalid.field("node", f"there is no node {name!r}", code="unknown_node")
    if node.region != region:
        raise Invalid.field("node", f"{name} is in region {node.region}, not in {region}", code="unknown_node")
