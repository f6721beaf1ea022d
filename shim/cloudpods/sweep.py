"""HEALTH_SWEEP: how all pods of a node are, in one run, from the clock to its outcome.

However many pods the node has, an outcome is one read, one UPDATE and one INSERT of events. A pod that was changed since the
sweep began, or is being changed and does not run, is left to the next sweep: what was seen of it may be over. Pods that are
being made or destroyed are not judged.
"""

import json
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from shim import db
from shim.cloudpods import host_key, verdict
from shim.config import DRILL_VMIDS, Settings
from shim.db import database
from shim.errors import CloudPodsError
from shim.jobs import looks, state
from shim.jobs.again import Again
from shim.jobs.models import CloudPodJob
from shim.jobs.submit import submit

TYPE = "HEALTH_SWEEP"

_DUE = """
SELECT n.id FROM cloud_pod_nodes n
WHERE n.status = 'active'
  AND EXISTS (SELECT 1 FROM cloud_pods p WHERE p.node_id = n.id AND p.status NOT IN ('deleted', 'failed'))
  AND NOT EXISTS (
      SELECT 1 FROM cloud_pod_jobs j WHERE j.node_id = n.id AND j.cloud_pod_id IS NULL AND j.type = %s
      AND (j.status IN ('queued', 'running') OR j.created_at > now() - make_interval(secs => %s)))
ORDER BY n.name
"""
# Also those which ended since the sweep began: the node may have shown them still.
_KNOWN = """
SELECT p.id, p.tenant_id, p.vmid, p.node_id = %(node)s AND p.status = 'active' AND p.updated_at < %(since)s,
       EXISTS (SELECT 1 FROM cloud_pod_jobs j WHERE j.cloud_pod_id = p.id AND j.changes_pod AND j.status = 'running'),
       p.wanted_power, p.last_health_status
FROM cloud_pods p
WHERE (p.node_id = %(node)s OR p.vmid = ANY(%(vmids)s))
  AND (p.status NOT IN ('deleted', 'failed') OR p.updated_at >= %(since)s)
ORDER BY p.id FOR UPDATE OF p
"""
# `updated_at` stays: nothing of the pod was changed, and `last_health_checked` says when it was looked at.
_UPDATE = """
UPDATE cloud_pods p SET last_health_status = s.verdict, last_health_checked = now(), last_health = s.health,
       power_state = s.power_state, host_key = coalesce(s.host_key, p.host_key)
FROM jsonb_to_recordset(%s::jsonb) AS s (id text, verdict text, power_state text, health jsonb, host_key text)
WHERE p.id = s.id
"""
# They outlive the sweep's job, hence name it in their data only.
_RECORD = """
INSERT INTO cloud_pod_events (cloud_pod_id, tenant_id, type, message, data)
SELECT s.id, s.tenant_id, 'HEALTH', s.message, s.data
FROM jsonb_to_recordset(%s::jsonb) AS s (id text, tenant_id text, message text, data jsonb)
"""


@dataclass(frozen=True)
class _Pod:
    """What a sweep needs to know of a pod."""

    id: str
    tenant_id: str
    vmid: int
    judged: bool
    changing: bool
    wanted_power: str
    before: str | None


def order_due(interval_s: float) -> list[CloudPodJob]:
    """Queue a sweep of every active node with pods whose last one is this long ago; return the jobs."""
    with database.atomic():
        looks.alone(TYPE)
        due = db.rows(_DUE, (TYPE, interval_s))
        return [
            submit(TYPE, tenant_id=None, cloud_pod_id=None, node_id=node_id, payload={}, requested_by=None)
            for (node_id,) in due
        ]


def variables(job: CloudPodJob) -> dict[str, Any]:
    """Return the playbook's extra vars: all pods, and whether they answer."""
    return {"reach": True}


def succeed(job: CloudPodJob, result: dict[str, Any]) -> None:
    """Keep what was seen of each pod, tell of each whose verdict changed, and name the containers that are none of ours."""
    seen, odd = _seen(job, result)
    pods = _known(job, list(seen))
    found = {pod: row for pod in pods if (row := _row(pod, seen, odd)) is not None}
    changed = {pod: row for pod, row in found.items() if row["verdict"] != pod.before}
    database.execute_sql(_UPDATE, (json.dumps([_columns(pod, row) for pod, row in found.items()]),))
    database.execute_sql(_RECORD, (json.dumps([_event(job, pod, row) for pod, row in changed.items()]),))
    verdicts = Counter(row["verdict"] for row in found.values())
    kept = {
        "node": job.node_name,
        "checked": len(found),
        "changed": len(changed),
        **{name: verdicts[name] for name in verdict.VERDICTS},
        "missing": sorted(pod.vmid for pod in found if pod.vmid not in seen),
        "foreign": sorted(vmid for vmid in set(seen) - {pod.vmid for pod in pods} if vmid < DRILL_VMIDS),
        # Rows that say nothing usable; None for one that does not even say about which container.
        "skipped": odd,
    }
    # A job row holds the sum of what was seen, not the rows of a thousand pods, which are with the pods now.
    looks.tell_success(job)
    state.keep(job, kept)


def fail(job: CloudPodJob, failure: dict[str, Any]) -> None:
    """The last known health of every pod stays."""
    looks.tell_failure(job, f"Health of the pods on {job.node_name} not known: {failure['msg']}", action="HEALTH_SWEEP_FAILED")


def settle(job: CloudPodJob, seen: dict[str, Any]) -> dict[str, Any] | None:
    """A lost sweep runs again."""
    return None


def again(job: CloudPodJob, settings: Settings) -> Again:
    """Return the order of a fresh look."""
    return looks.again(job)


def _seen(job: CloudPodJob, result: dict[str, Any]) -> tuple[dict[int, dict[str, Any]], list[int | None]]:
    """Return the usable rows by vmid, and the vmids of the others: one odd row says nothing of a thousand other pods.

    Raises CloudPodsError when none is usable.
    """
    rows = (result.get(job.node_name) or {}).get("health")
    if not isinstance(rows, list):
        raise CloudPodsError(f"the health playbook's result says nothing about node {job.node_name}", code="bad_result")
    usable = [row for row in rows if verdict.is_usable(row)]
    odd = [verdict.vmid_of(row) for row in rows if not verdict.is_usable(row)]
    if odd and not usable:
        raise CloudPodsError(f"node {job.node_name} says nothing usable about any of its pods", code="bad_result")
    # What was asked for and is not there is a row too; without vmids there is none such.
    return {row["vmid"]: row for row in usable if row.get("exists", True)}, odd


def _known(job: CloudPodJob, vmids: list[int]) -> list[_Pod]:
    since: datetime | None = job.started_at
    return [
        _Pod(*row) for row in database.execute_sql(_KNOWN, {"node": job.node_id, "vmids": vmids, "since": since}).fetchall()
    ]


def _row(pod: _Pod, seen: dict[int, dict[str, Any]], odd: list[int | None]) -> dict[str, Any] | None:
    if pod.vmid not in seen and (pod.vmid in odd or None in odd):
        # The node may have shown it.
        return None
    row = seen.get(pod.vmid) or {**verdict.MISSING, "vmid": pod.vmid}
    if not pod.judged or (pod.changing and row.get("status") != "running"):
        return None
    return verdict.judged(row, pod.wanted_power)


def _columns(pod: _Pod, row: dict[str, Any]) -> dict[str, Any]:
    kept = {"verdict": row["verdict"], "power_state": verdict.power_state(row), "host_key": host_key.of(row)}
    return {"id": pod.id, "health": row, **kept}


def _event(job: CloudPodJob, pod: _Pod, row: dict[str, Any]) -> dict[str, Any]:
    data = {"action": "HEALTH_CHANGED", "vmid": pod.vmid, "verdict": row["verdict"], "before": pod.before}
    return {
        "id": pod.id,
        "tenant_id": pod.tenant_id,
        "message": f"CloudPod health: {row['verdict']}",
        "data": {**data, "reasons": row["reasons"], "sweep": job.id},
    }
