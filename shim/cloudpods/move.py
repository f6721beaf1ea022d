"""A pod that the cluster moved to another node: its row, its share of a node and its queued jobs follow.

Only what is certainly the pod itself is followed. A container that bears a pod's owner on another node is it when

| proof | why it is enough |
|---|---|
| both nodes are of one cluster | a cluster has a vmid once; also when the pod's own node is down, which is why it was moved |
| a look at the pod's own node after that one no longer shows it | it was moved by hand, between nodes of no common cluster |

Otherwise it is a copy, and the pod stays where it is.
"""

import json
from typing import Any

from shim.cloudpods.compare import Finding, Seen
from shim.cloudpods.drift_models import DriftReport
from shim.db import database
from shim.nodes.models import Allocation

# `updated_at` tells looks that began before that they saw what is over.
_FOLLOW = "UPDATE cloud_pods SET node_id = %s, updated_at = now() WHERE id = ANY(%s)"
# Also of pods that moved earlier, while a run of theirs was under way. A drill stays with its archive. How far the queue that
# they leave has come says nothing about the one they come to: they have their turns there as if they were ordered now.
_FOLLOW_JOBS = """
UPDATE cloud_pod_jobs j SET node_id = moved.node_id, turn = moved.turn FROM (
    SELECT j.id, p.node_id, cloudpods.last_turn(p.node_id, j.priority, j.tenant_id)
           + row_number() OVER (PARTITION BY j.priority, j.tenant_id ORDER BY j.turn, j.created_at, j.id) AS turn
    FROM cloud_pod_jobs j JOIN cloud_pods p ON p.id = j.cloud_pod_id
    WHERE p.node_id = %s AND j.status = 'queued' AND j.node_id <> p.node_id AND j.type <> 'RESTORE_DRILL'
) moved WHERE j.id = moved.id AND j.status = 'queued'
"""
_RECORD = """
INSERT INTO cloud_pod_events (cloud_pod_id, tenant_id, type, message, data)
SELECT s.id, s.tenant_id, 'STATE_CHANGE', s.message, s.data
FROM jsonb_to_recordset(%s::jsonb) AS s (id text, tenant_id text, message text, data jsonb)
"""


def resolve(found: list[Finding], seen: Seen) -> dict[str, list[Finding]]:
    """Given a look's findings, say of each that is about another place what it is; return those to follow by node id."""
    _name_nodes(found)
    here = _proven_by_cluster(found, seen)
    gone = _proven_by_absence(found)
    for finding in [*here, *(each for several in gone.values() for each in several)]:
        finding.kind = "moved"
    return {**gone, **({seen.node_id: here} if here else {})}


def follow(node_id: str, moved: list[Finding], names: dict[str, str]) -> None:
    """Let pods' rows follow them to this node. Call inside the transaction that holds the rows."""
    ids = [finding.pod.id for finding in moved if finding.pod]
    database.execute_sql(_FOLLOW, (node_id, ids))
    Allocation.move(ids, node_id)
    follow_with_jobs(node_id)
    database.execute_sql(_RECORD, (json.dumps([_event(finding, names[node_id]) for finding in moved]),))


def follow_with_jobs(node_id: str) -> None:
    """Let what is queued of this node's pods run there, where they are now."""
    database.execute_sql(_FOLLOW_JOBS, (node_id,))


def _name_nodes(found: list[Finding]) -> None:
    """A pod that its own node shows elsewhere in the cluster has moved; that node's own look lets its row follow."""
    elsewhere = [finding for finding in found if finding.kind == "moved_to_unknown_node"]
    ours = DriftReport.nodes_seen_as([finding.node["node"] for finding in elsewhere])
    for finding in elsewhere:
        if finding.node["node"] in ours:
            finding.kind = "moved"


def _proven_by_cluster(found: list[Finding], seen: Seen) -> list[Finding]:
    copies = [finding for finding in found if finding.kind == "duplicate" and finding.pod]
    reports = {id: DriftReport.newest(id) for id in {finding.pod.node_id for finding in copies if finding.pod}}
    return [finding for finding in copies if finding.pod and _one_cluster(seen, reports[finding.pod.node_id])]


def _one_cluster(seen: Seen, other: DriftReport | None) -> bool:
    """Return whether a node and the one of a report are two of one cluster."""
    if other is None or not seen.cluster or not other.cluster or not seen.cluster.get("name"):
        return False
    one = seen.cluster["name"] == other.cluster.get("name")
    return one and other.seen_as != seen.seen_as and other.seen_as in seen.cluster.get("nodes", [])


def _proven_by_absence(found: list[Finding]) -> dict[str, list[Finding]]:
    missing = {finding.pod.id: finding for finding in found if finding.kind == "missing" and finding.pod}
    proven: dict[str, list[Finding]] = {}
    for pod_id, nodes in DriftReport.copies(list(missing)).items():
        # Of two copies nobody knows which is the pod.
        if len(nodes) == 1:
            proven.setdefault(nodes[0], []).append(missing[pod_id])
    return proven


def _event(finding: Finding, to: str) -> dict[str, Any]:
    pod = finding.pod
    before = pod.node_name if pod else None
    return {
        "id": pod.id if pod else None,
        "tenant_id": pod.tenant_id if pod else None,
        "message": f"CloudPod moved to {to}",
        "data": {"action": "MOVED", "vmid": finding.vmid, "before": before, "after": to},
    }
