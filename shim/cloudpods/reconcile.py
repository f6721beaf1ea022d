"""RECONCILE: what a node has beside what the table says, from the clock to its report.

However many pods the node has, an outcome is one read of them, one report and one INSERT of events; what is mended by orders
is ordered after it (`mend.py`). A pod that is being changed, or was since the look began, is left to the next look. What is
queued of a pod keeps it from being judged, but not from being followed: its node may be down, and then the order waits for
just that.
"""

import json
from collections import Counter
from typing import Any

from shim.cloudpods import compare, mend, move
from shim.cloudpods.compare import Finding, Pod, Seen
from shim.cloudpods.drift_models import DriftReport
from shim.config import Settings
from shim.db import database
from shim.errors import CloudPodsError
from shim.jobs import looks, state
from shim.jobs.again import Again
from shim.jobs.models import CloudPodJob
from shim.nodes.models import CloudPodNode

TYPE = "RECONCILE"
# What a report lists; it counts all. A node that shows nothing of what it should is one fault, not thousands.
MAX_ITEMS = 1000

# Also those which ended since the look began: the node may have shown them still. What the clock ordered and nobody began
# changes nothing yet. A lost run is settled by a look at its node, which an offline node never gives.
_KNOWN = """
SELECT p.id, p.tenant_id, p.vmid, p.node_id, n.name,
       p.status = 'active' AND p.updated_at < %(since)s AND NOT EXISTS (
           SELECT 1 FROM cloud_pod_jobs j WHERE j.cloud_pod_id = p.id AND j.changes_pod
           AND (j.status = 'running' OR (j.status = 'queued' AND (j.lost OR NOT j.scheduled)))),
       p.status IN ('active', 'deleting') AND p.updated_at < %(since)s AND NOT EXISTS (
           SELECT 1 FROM cloud_pod_jobs j WHERE j.cloud_pod_id = p.id AND j.changes_pod
           AND (j.status = 'running' OR (j.status = 'queued' AND j.lost AND n.status <> 'offline'))),
       p.wanted_power, p.cores, p.memory_mb, p.swap_mb, p.disk_gb
FROM cloud_pods p JOIN cloud_pod_nodes n ON n.id = p.node_id
WHERE (p.node_id = %(node)s OR p.vmid = ANY(%(vmids)s))
  AND (p.status NOT IN ('deleted', 'failed') OR p.updated_at >= %(since)s)
ORDER BY p.id FOR UPDATE OF p
"""
# They outlive the look's job, hence do not name it.
_RECORD = """
INSERT INTO cloud_pod_events (cloud_pod_id, tenant_id, type, message, data)
SELECT s.id, s.tenant_id, 'WARN', s.message, s.data
FROM jsonb_to_recordset(%s::jsonb) AS s (id text, tenant_id text, message text, data jsonb)
"""


def variables(job: CloudPodJob) -> dict[str, Any]:
    """Return the playbook's extra vars: none means all pods."""
    return {}


def succeed(job: CloudPodJob, result: dict[str, Any]) -> None:
    """Compare, mend what the job may, keep a report, and tell of what the report before did not have."""
    seen = _seen(job, result)
    pods = _known(job, list(seen.rows))
    found = compare.findings(seen, pods)
    _follow(found, seen, job.payload["mends"])
    # Of a pod that is not judged only another place is found.
    found = [finding for finding in found if finding.pod is None or finding.pod.judged or finding.kind in compare.PLACES]
    items = [finding.as_json() for finding in found]
    counts = Counter(finding.kind for finding in found)
    _tell(job, items[:MAX_ITEMS], len(items))
    checked = sum(pod.judged and pod.node_id == seen.node_id for pod in pods)
    DriftReport.keep(
        node=seen.node_id,
        job_id=job.id,
        seen_as=seen.seen_as,
        cluster=seen.cluster,
        checked=checked,
        counts=dict(counts),
        items=items[:MAX_ITEMS],
        mends=[kind for kind in mend.KINDS if kind in job.payload["mends"] and kind in counts],
        looked_at=job.started_at,
    )
    looks.tell_success(job)
    state.keep(job, {"node": job.node_name, "checked": checked, "counts": dict(counts)})


def fail(job: CloudPodJob, failure: dict[str, Any]) -> None:
    """The last report stays."""
    looks.tell_failure(job, f"{job.node_name} not compared: {failure['msg']}", action="RECONCILE_FAILED")


def settle(job: CloudPodJob, seen: dict[str, Any]) -> dict[str, Any] | None:
    """A lost look is taken again."""
    return None


def again(job: CloudPodJob, settings: Settings) -> Again:
    """Return the order of a fresh look."""
    return looks.again(job)


def _follow(found: list[Finding], seen: Seen, allowed: list[str]) -> None:
    to_follow = move.resolve(found, seen)
    if "moved" in allowed and to_follow:
        names = CloudPodNode.names(to_follow)
        for node_id, moved in to_follow.items():
            move.follow(node_id, moved, names)
            for finding in moved:
                finding.mend = {"node": names[node_id]}
    move.follow_with_jobs(seen.node_id)


def _tell(job: CloudPodJob, items: list[dict[str, Any]], count: int) -> None:
    """Record which of the report's items this look found first, and once that it found more than a report lists."""
    before = DriftReport.newest(str(job.node_id))
    known = {compare.identity(item) for item in before.items} if before else set()
    # A pod that was followed has an event of its own.
    new = [item for item in items if compare.identity(item) not in known and not (item["kind"] == "moved" and item["mend"])]
    told = [_event(job, item) for item in new]
    if count > len(items) and not (before and sum(before.counts.values()) > len(before.items)):
        told.append(_summary(job, items, count))
    database.execute_sql(_RECORD, (json.dumps(told),))


def _summary(job: CloudPodJob, items: list[dict[str, Any]], count: int) -> dict[str, Any]:
    data = {"action": "DRIFT_NOT_ALL_TOLD", "seenOn": job.node_name, "job": job.id, "findings": count, "told": len(items)}
    message = f"{count} findings on {job.node_name}: only the first {len(items)} are listed and told"
    return {"id": None, "tenant_id": None, "message": message, "data": data}


def _event(job: CloudPodJob, item: dict[str, Any]) -> dict[str, Any]:
    what = {name: item[name] for name in ("kind", "vmid", "table", "node")}
    return {
        "id": item["cloudPodId"],
        "tenant_id": item["tenantId"],
        "message": f"Container {item['vmid']} on {job.node_name} is not as the table says: {item['kind']}",
        "data": {"action": "DRIFT_FOUND", "seenOn": job.node_name, "job": job.id, **what},
    }


def _seen(job: CloudPodJob, result: dict[str, Any]) -> Seen:
    """Return what the node showed. Raises CloudPodsError for a result that says nothing usable."""
    said = result.get(job.node_name) or {}
    rows = said.get("pods")
    if not isinstance(rows, list):
        raise CloudPodsError(f"the info playbook's result says nothing about node {job.node_name}", code="bad_result")
    # Scripts older than ours say nothing of their cluster.
    cluster, elsewhere = said.get("cluster"), said.get("elsewhere") or []
    return Seen(
        node_id=str(job.node_id),
        node_name=job.node_name,
        seen_as=said.get("node"),
        cluster=cluster if isinstance(cluster, dict) else None,
        rows={int(row["vmid"]): row for row in rows if row.get("exists")},
        elsewhere={int(each["vmid"]): str(each["node"]) for each in elsewhere},
    )


def _known(job: CloudPodJob, vmids: list[int]) -> list[Pod]:
    given = {"node": job.node_id, "vmids": vmids, "since": job.started_at}
    return [Pod(*row) for row in database.execute_sql(_KNOWN, given).fetchall()]
