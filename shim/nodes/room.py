"""Whether a pod may grow where it is: it is never moved for that."""

from shim import db
from shim.errors import Conflict
from shim.nodes.models import CloudPodNode
from shim.nodes.placement import Size

# A total of 0 means "not known": such a node takes what it is given.
_FREE = """
SELECT CASE WHEN n.total_cpu_cores > 0 THEN floor(n.total_cpu_cores * n.cpu_overcommit) - u.cores END,
       CASE WHEN n.total_memory_mb > 0 THEN floor(n.total_memory_mb * n.memory_overcommit) - u.memory_mb END
FROM cloud_pod_nodes n
CROSS JOIN LATERAL (
    SELECT coalesce(sum(a.used_cpu_cores), 0) AS cores, coalesce(sum(a.used_memory_mb), 0) AS memory_mb
    FROM cloud_pod_allocations a WHERE a.node_id = n.id
) u WHERE n.id = %s
"""


def require_room(node: CloudPodNode, more: Size) -> None:
    """Raise Conflict when the node has no room for this much more. Call inside the transaction that books it."""
    if not (more.cores or more.memory_mb):
        return
    db.lock("placement")
    ((cores, memory_mb),) = db.rows(_FREE, (node.id,))
    compared = (("cores", more.cores, cores), ("MB", more.memory_mb, memory_mb))
    short = [f"{asked} {unit} more, {max(left, 0)} free" for unit, asked, left in compared if left is not None and asked > left]
    if short:
        raise Conflict(f"no room to grow on node {node.name}: {'; '.join(short)}", code="no_capacity", considered=1)
