"""What placement knows of nodes: their totals, what is taken of them and by whom, read by one statement."""

from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal

from shim.db import database


@dataclass(frozen=True)
class Size:
    """What a pod takes of a node."""

    cores: int
    memory_mb: int
    disk_gb: int


@dataclass(frozen=True)
class Wish:
    """What is asked of a node, for whom. `ip` is an address that its pool must have; `has_ip`: it needs no free one there."""

    size: Size
    _: KW_ONLY
    region: str
    name: str | None = None
    ip: str | None = None
    has_ip: bool = False
    tenant_id: str | None = None
    role: str | None = None
    storage: str | None = None


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A node. `addresses` is how many its pool can give, None without one; `pool_has_ip` is None without pool or address."""

    id: str
    name: str
    status: str
    total: Size
    overcommit: tuple[float, float, float]
    used: Size
    storages: list[str] | None = None
    addresses: int | None = None
    addresses_used: int = 0
    pool_has_ip: bool | None = None
    pods_of_tenant: int = 0
    pods_of_role: int = 0
    pool_id: str | None = None

    def capacity(self, what: Literal["cores", "memory_mb", "disk_gb"]) -> float | None:
        """Return what pods may take in all: the total times its over-commit. None: the total is not known."""
        total = getattr(self.total, what)
        ratio = self.overcommit[("cores", "memory_mb", "disk_gb").index(what)]
        return total * ratio if total else None


# Pools are counted over all their nodes, of whatever region. Drills, which have no allocation, bring their own addresses.
# Each node is summed by itself, which spares the rows a sort or a hash by node; the tenant's few come by their own index.
_CANDIDATES = """
WITH used AS (
    SELECT n.id AS node_id, s.* FROM cloud_pod_nodes n CROSS JOIN LATERAL (
        SELECT sum(a.used_cpu_cores) AS cores, sum(a.used_memory_mb) AS memory_mb, sum(a.used_disk_gb) AS disk_gb,
               count(a.tenant_id) AS pods
        FROM cloud_pod_allocations a WHERE a.node_id = n.id
    ) s
), own AS (
    SELECT node_id, count(*) AS of_tenant, count(*) FILTER (WHERE role = %(role)s) AS of_role
    FROM cloud_pod_allocations WHERE tenant_id = %(tenant_id)s GROUP BY node_id
), pools AS (
    SELECT p.id, p.first_ip, p.last_ip,
           (p.last_ip - p.first_ip) + 1 - (p.gateway BETWEEN p.first_ip AND p.last_ip)::integer AS addresses,
           coalesce(sum(u.pods), 0) AS addresses_used
    FROM address_pools p LEFT JOIN cloud_pod_nodes n ON n.address_pool_id = p.id LEFT JOIN used u ON u.node_id = n.id
    GROUP BY p.id
)
SELECT n.id, n.name, n.status, n.total_cpu_cores, n.total_memory_mb, n.total_disk_gb,
       n.cpu_overcommit, n.memory_overcommit, n.disk_overcommit,
       coalesce(u.cores, 0), coalesce(u.memory_mb, 0), coalesce(u.disk_gb, 0), n.storages,
       p.addresses, coalesce(p.addresses_used, 0), %(ip)s::inet BETWEEN p.first_ip AND p.last_ip,
       coalesce(o.of_tenant, 0), coalesce(o.of_role, 0), p.id
FROM cloud_pod_nodes n JOIN used u ON u.node_id = n.id LEFT JOIN own o ON o.node_id = n.id
LEFT JOIN pools p ON p.id = n.address_pool_id
WHERE n.deleted_at IS NULL AND n.region = %(region)s AND (%(name)s::text IS NULL OR n.name = %(name)s)
"""


def candidates(wish: Wish) -> list[Candidate]:
    """Return the nodes of the wish's region, or the one that it names, whatever their state."""
    given = {"tenant_id": wish.tenant_id, "role": wish.role, "region": wish.region, "name": wish.name, "ip": wish.ip}
    return [_candidate(row) for row in database.execute_sql(_CANDIDATES, given).fetchall()]


def _candidate(row: tuple[Any, ...]) -> Candidate:
    id, name, status, *numbers = row[:12]
    storages, addresses, addresses_used, pool_has_ip, of_tenant, of_role, pool_id = row[12:]
    return Candidate(
        id=id,
        name=name,
        status=status,
        total=Size(*numbers[0:3]),
        overcommit=(float(numbers[3]), float(numbers[4]), float(numbers[5])),
        used=Size(*(int(number) for number in numbers[6:9])),
        storages=storages,
        addresses=addresses,
        addresses_used=int(addresses_used),
        pool_has_ip=pool_has_ip,
        pods_of_tenant=of_tenant,
        pods_of_role=of_role,
        pool_id=pool_id,
    )
