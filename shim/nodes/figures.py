"""Nodes and address pools as clients see them: their rows beside what is placed there, read by one statement for a page."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from shim import db
from shim.nodes.models import AddressPool, CloudPodNode

_OF_NODES = """
SELECT n.id, p.name, a.cores, a.memory_mb, a.disk_gb, a.pods,
       (SELECT count(*) FROM cloud_pod_jobs j WHERE j.node_id = n.id AND j.status = 'running')
FROM cloud_pod_nodes n LEFT JOIN address_pools p ON p.id = n.address_pool_id
CROSS JOIN LATERAL (
    SELECT coalesce(sum(used_cpu_cores), 0)::bigint AS cores, coalesce(sum(used_memory_mb), 0)::bigint AS memory_mb,
           coalesce(sum(used_disk_gb), 0)::bigint AS disk_gb, count(cloud_pod_id) AS pods
    FROM cloud_pod_allocations WHERE node_id = n.id
) a WHERE n.id = ANY(%s)
"""
_OF_POOLS = """
SELECT p.id, array_remove(array_agg(n.name ORDER BY n.name), NULL),
       (SELECT count(a.cloud_pod_id) FROM cloud_pod_allocations a WHERE a.node_id = ANY(array_agg(n.id)))
FROM address_pools p LEFT JOIN cloud_pod_nodes n ON n.address_pool_id = p.id AND n.deleted_at IS NULL
WHERE p.id = ANY(%s) GROUP BY p.id
"""


@dataclass(frozen=True)
class NodeView:
    """A node with its pool's name, what pods have of it, how many they are, and how many jobs run there."""

    node: CloudPodNode
    address_pool: str | None
    used: tuple[int, int, int]
    pods: int
    running_jobs: int

    @classmethod
    def of(cls, nodes: Sequence[CloudPodNode]) -> "list[NodeView]":
        """Return the nodes as clients see them, in their order."""
        found = {id: rest for id, *rest in db.rows(_OF_NODES, ([node.id for node in nodes],))}
        return [
            cls(node, pool, (cores, memory_mb, disk_gb), pods, jobs)
            for node in nodes
            for pool, cores, memory_mb, disk_gb, pods, jobs in [found[node.id]]
        ]

    @property
    def id(self) -> str:
        """Return the node's id."""
        return self.node.id

    @property
    def updated_at(self) -> datetime:
        """Return the state that was read: what is placed there changes without it."""
        return self.node.updated_at

    def settings(self) -> dict[str, Any]:
        """Return what the operator says of the node, or the node of itself."""
        node = self.node
        return {
            "region": node.region,
            "status": node.status,
            "apiUrl": node.api_url,
            "nodeName": node.node_name,
            "totalCpuCores": node.total_cpu_cores,
            "totalMemoryMb": node.total_memory_mb,
            "totalDiskGb": node.total_disk_gb,
            "cpuOvercommit": float(node.cpu_overcommit),
            "memoryOvercommit": float(node.memory_overcommit),
            "diskOvercommit": float(node.disk_overcommit),
            "storages": node.storages,
            "maxRunningJobs": node.max_running_jobs,
            "addressPool": self.address_pool,
        }

    def as_json(self) -> dict[str, Any]:
        """Return the node as clients see it."""
        node = self.node
        totals = (node.total_cpu_cores, node.total_memory_mb, node.total_disk_gb)
        ratios = (node.cpu_overcommit, node.memory_overcommit, node.disk_overcommit)
        names = ("CpuCores", "MemoryMb", "DiskGb")
        # A total of 0 is not known.
        free = [int(t * r) - used if t else None for t, r, used in zip(totals, ratios, self.used, strict=True)]
        return {
            "id": node.id,
            "name": node.name,
            "provider": node.provider,
            **self.settings(),
            **{f"used{name}": number for name, number in zip(names, self.used, strict=True)},
            **{f"free{name}": number for name, number in zip(names, free, strict=True)},
            "pods": self.pods,
            "runningJobs": self.running_jobs,
            "syncedAt": db.iso(node.synced_at),
            "createdAt": db.iso(node.created_at),
            "updatedAt": db.iso(node.updated_at),
        }


@dataclass(frozen=True)
class PoolView:
    """An address pool with the names of its nodes and how many pods they have."""

    pool: AddressPool
    nodes: list[str]
    used: int

    @classmethod
    def of(cls, pools: Sequence[AddressPool]) -> "list[PoolView]":
        """Return the pools as clients see them, in their order."""
        found = {id: (nodes, used) for id, nodes, used in db.rows(_OF_POOLS, ([pool.id for pool in pools],))}
        return [cls(pool, *found[pool.id]) for pool in pools]

    @property
    def id(self) -> str:
        """Return the pool's id."""
        return self.pool.id

    @property
    def updated_at(self) -> datetime:
        """Return the state that was read: how many of its addresses are booked changes without it."""
        return self.pool.updated_at

    def settings(self) -> dict[str, str]:
        """Return what the operator says of the pool."""
        first, last, gateway = self.pool.bounds()
        return {"firstIp": str(first), "lastIp": str(last), "gateway": str(gateway)}

    def as_json(self) -> dict[str, Any]:
        """Return the pool as clients see it."""
        first, last, gateway = self.pool.bounds()
        return {
            "id": self.pool.id,
            "name": self.pool.name,
            **self.settings(),
            "nodes": self.nodes,
            "addresses": int(last) - int(first) + 1 - (first <= gateway <= last),
            "used": self.used,
            "createdAt": db.iso(self.pool.created_at),
            "updatedAt": db.iso(self.pool.updated_at),
        }
