"""What a node has beside what the table says it has: a finding for each difference.

| kind | what was found |
|---|---|
| `missing` | the pod's container is not among the pool's containers of its node, nor of the node's cluster |
| `moved` | it stands on another node, and is no copy: the row follows |
| `moved_to_unknown_node` | it stands on a node of the cluster that is none of ours |
| `duplicate` | a container with the pod's owner stands on a node that is not the pod's, and may be a copy made by hand |
| `unfinished` | a create or restore that was cut off left the pod's container |
| `owner` | the container's owner is not the pod's |
| `size` | cores, memory, swap or disk differ |
| `power` | it runs and should not, or the other way round |
| `foreign` | a container of the pool is no pod of ours |

Nothing here reads or writes anything.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from shim.config import DRILL_VMIDS

SIZES = ("cores", "memory_mb", "swap_mb", "disk_gb")
# Findings that a pod is, or may be, where the table does not have it.
PLACES = ("moved", "moved_to_unknown_node", "duplicate")


@dataclass(frozen=True)
class Pod:
    """What a comparison needs to know of a pod. `judged`: nothing changes it or is about to. `placed`: nothing is at work on it
    just now, so that where it is shown is where it is."""

    id: str
    tenant_id: str
    vmid: int
    node_id: str
    node_name: str
    judged: bool
    placed: bool
    wanted_power: str
    cores: int
    memory_mb: int
    swap_mb: int
    disk_gb: int

    def size(self) -> dict[str, int]:
        """Return what the table says of its size."""
        return {name: getattr(self, name) for name in SIZES}


@dataclass(frozen=True)
class Seen:
    """What a node showed. `elsewhere`: containers of the pool on other nodes of its cluster, by vmid."""

    node_id: str
    node_name: str
    seen_as: str | None
    cluster: dict[str, Any] | None
    rows: dict[int, dict[str, Any]]
    elsewhere: dict[int, str]


@dataclass
class Finding:
    """One difference, and what was done about it."""

    kind: str
    vmid: int
    pod: Pod | None = None
    table: dict[str, Any] = field(default_factory=dict)
    node: dict[str, Any] = field(default_factory=dict)
    mend: dict[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the finding as reports keep it and clients see it."""
        return {
            "kind": self.kind,
            "vmid": self.vmid,
            "cloudPodId": self.pod.id if self.pod else None,
            "tenantId": self.pod.tenant_id if self.pod else None,
            "table": self.table,
            "node": self.node,
            "mend": self.mend,
        }


def identity(item: dict[str, Any]) -> str:
    """Return what makes a finding of a report the same as one of the report before."""
    return json.dumps([item[name] for name in ("kind", "vmid", "cloudPodId", "node")], sort_keys=True)


def findings(seen: Seen, pods: list[Pod]) -> list[Finding]:
    """Return every difference between what a node showed and the table, by vmid."""
    found = [finding for pod in pods if pod.placed for finding in _of_pod(pod, seen)]
    return sorted([*found, *_foreign(seen, pods)], key=lambda finding: (finding.vmid, finding.kind))


def owned(pod: Pod, row: dict[str, Any]) -> bool:
    """Return whether a container says that it is this pod."""
    owner = row.get("owner") or {}
    return owner.get("tenant") == pod.tenant_id and owner.get("pod") == pod.id


def _of_pod(pod: Pod, seen: Seen) -> Iterator[Finding]:
    row = seen.rows.get(pod.vmid)
    if pod.node_id != seen.node_id:
        if row is not None and owned(pod, row) and not row.get("unfinished") and not row.get("busy"):
            yield Finding("duplicate", pod.vmid, pod, {"node": pod.node_name}, {"node": seen.node_name})
        return
    if row is None:
        yield _gone(pod, seen)
    elif not pod.judged:
        return
    elif row.get("busy"):
        # A script is at work on it; what it shows may be over in a moment.
        return
    elif row.get("unfinished"):
        yield Finding("unfinished", pod.vmid, pod, {"status": "active"}, {"unfinished": True})
    elif not owned(pod, row):
        yield Finding("owner", pod.vmid, pod, {"tenant": pod.tenant_id, "pod": pod.id}, dict(row.get("owner") or {}))
    else:
        yield from _differences(pod, row)


def _gone(pod: Pod, seen: Seen) -> Finding:
    there = seen.elsewhere.get(pod.vmid)
    if there is None:
        return Finding("missing", pod.vmid, pod, {"node": pod.node_name})
    # Which node of ours that is, if any, the caller knows.
    return Finding("moved_to_unknown_node", pod.vmid, pod, {"node": pod.node_name}, {"node": there})


def _differences(pod: Pod, row: dict[str, Any]) -> Iterator[Finding]:
    table, node = pod.size(), {name: row.get(name) for name in SIZES}
    if table != node:
        different = [name for name in SIZES if table[name] != node[name]]
        yield Finding(
            "size", pod.vmid, pod, {name: table[name] for name in different}, {name: node[name] for name in different}
        )
    if row.get("status") in ("running", "stopped") and row["status"] != pod.wanted_power:
        yield Finding("power", pod.vmid, pod, {"power": pod.wanted_power}, {"power": row["status"]})


def _foreign(seen: Seen, pods: list[Pod]) -> Iterator[Finding]:
    """Also a container with the vmid of a pod of another node, unless it says that it is that pod."""
    known = {pod.vmid: pod for pod in pods}
    for vmid, row in seen.rows.items():
        pod = known.get(vmid)
        if pod is not None and (pod.node_id == seen.node_id or owned(pod, row)):
            continue
        if row.get("in_pool") and not row.get("busy") and not _is_drill(vmid, row):
            yield Finding("foreign", vmid, None, {}, {"owner": row.get("owner"), "hostname": row.get("hostname")})


def _is_drill(vmid: int, row: dict[str, Any]) -> bool:
    return vmid >= DRILL_VMIDS or str((row.get("owner") or {}).get("pod") or "").startswith("drill.")
