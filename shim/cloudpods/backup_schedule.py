"""Backups and drills by the clock: which pods are due, and their jobs. One of each kind is queued or running per node.

So a node's queue stays short, what a person orders is not behind a night's worth of backups, and a node that is down fails one
pod at a time. One query per kind looks at all nodes at once and gives at most one pod of each.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from shim import db
from shim.cloudpods import backup, restore_drill
from shim.cloudpods.backup_policy import POLICIES
from shim.cloudpods.schemas import BackupPod, DrillPod
from shim.config import HIGHEST_VMID
from shim.db import database
from shim.errors import Conflict, NotFound
from shim.jobs.models import CloudPodJob

log = logging.getLogger(__name__)

# What people read in a scheduled job's payload; nothing goes by it.
REASON = "schedule"
# A pod whose job failed, or was cancelled by somebody, is not tried again before POD_PAUSE, another pod of its node not before
# NODE_PAUSE.
POD_PAUSE, NODE_PAUSE = timedelta(hours=1), timedelta(minutes=5)


@dataclass(frozen=True)
class Kind:
    """What is done by the clock: since when `last.moment` counts (SQL), how often by policy, how it is ordered.

    A node idles between two of its jobs for `pause_s` at most.
    """

    type: str
    pause_s: float
    last: str
    every: dict[str, timedelta]
    order: Callable[[str, str], CloudPodJob]
    highest_vmid: int = HIGHEST_VMID


# The most overdue pod of each node that has none of this kind under way and none that failed lately. Each table is read once,
# by an index where one helps: nothing is looked up pod by pod, whatever the planner believes of the tables.
_DUE = """
WITH unfinished AS MATERIALIZED (
    SELECT cloud_pod_id, node_id, scheduled, NULL::timestamptz AS failed_at
    FROM cloud_pod_jobs WHERE type = %(type)s AND NOT dry_run AND status IN ('queued', 'running')
    UNION ALL
    SELECT cloud_pod_id, node_id, scheduled, finished_at
    FROM cloud_pod_jobs WHERE type = %(type)s AND NOT dry_run AND finished_at > now() - %(longest_pause)s
    AND (status = 'failed' OR (status = 'cancelled' AND cancel_requested_at IS NOT NULL))
), busy_pods AS MATERIALIZED (
    SELECT DISTINCT cloud_pod_id AS id FROM unfinished WHERE failed_at IS NULL OR failed_at > now() - %(pod_pause)s
), busy_nodes AS MATERIALIZED (
    SELECT DISTINCT node_id AS id FROM unfinished
    WHERE scheduled AND (failed_at IS NULL OR failed_at > now() - %(node_pause)s)
), last AS MATERIALIZED ({last})
SELECT DISTINCT ON (p.node_id) p.id, p.tenant_id
FROM cloud_pods p
JOIN cloud_pod_nodes n ON n.id = p.node_id AND n.status = 'active'
JOIN tenants t ON t.id = p.tenant_id
JOIN plans l ON l.id = t.plan_id
JOIN unnest(%(names)s::text[], %(intervals)s::interval[]) AS policy (name, every) ON policy.name = l.backup_policy
JOIN last ON last.id = p.id
LEFT JOIN busy_pods ON busy_pods.id = p.id
LEFT JOIN busy_nodes ON busy_nodes.id = p.node_id
WHERE p.status = 'active' AND p.vmid <= %(highest_vmid)s AND last.moment < now() - policy.every
  AND busy_pods.id IS NULL AND busy_nodes.id IS NULL
ORDER BY p.node_id, last.moment + policy.every, p.id
"""


def _back_up(pod_id: str, tenant_id: str) -> CloudPodJob:
    return backup.backup(pod_id, BackupPod(tenantId=tenant_id, reason=REASON), scheduled=True)[0]


def _drill(pod_id: str, tenant_id: str) -> CloudPodJob:
    return restore_drill.drill(pod_id, DrillPod(tenantId=tenant_id, reason=REASON), scheduled=True)[0]


BACKUPS = Kind(
    type="BACKUP",
    pause_s=10.0,
    last="SELECT id, coalesce(last_backup_at, created_at) AS moment FROM cloud_pods WHERE status = 'active'",
    every={name: policy.every for name, policy in POLICIES.items()},
    order=_back_up,
)
DRILLS = Kind(
    type="RESTORE_DRILL",
    pause_s=60.0,
    # Without a backup on the pod's node there is nothing to drill. With backups of which none was ever drilled a pod is due at
    # once: nobody knows yet whether they can be restored.
    last="SELECT a.id, coalesce(max(b.drilled_at), '-infinity') AS moment"
    " FROM cloud_pod_backups b JOIN cloud_pods a ON a.id = b.cloud_pod_id WHERE a.status = 'active'"
    " GROUP BY a.id HAVING bool_or(b.status = 'ready' AND b.node_id = a.node_id)",
    every={name: policy.drill_every for name, policy in POLICIES.items() if policy.drill_every is not None},
    order=_drill,
    highest_vmid=restore_drill.HIGHEST_DRILLED_VMID,
)


def queue(kind: Kind) -> list[tuple[str, str]]:
    """Queue what is due of a kind; return (id, type) of each job, which is to be announced."""
    queued = []
    with database.atomic():
        # Two at once would both find the node free.
        db.lock("backup schedule")
        for pod_id, tenant_id in _due(kind):
            try:
                queued.append((kind.order(pod_id, tenant_id).id, kind.type))
            except (Conflict, NotFound) as error:
                log.info("no scheduled %s: %s", kind.type, error)
    return queued


def _due(kind: Kind) -> list[tuple[str, str]]:
    wanted = {
        "type": kind.type,
        "names": list(kind.every),
        "intervals": list(kind.every.values()),
        "highest_vmid": kind.highest_vmid,
        "longest_pause": max(POD_PAUSE, NODE_PAUSE),
        "pod_pause": POD_PAUSE,
        "node_pause": NODE_PAUSE,
    }
    with _without_nested_loops():
        return list(database.execute_sql(_DUE.format(last=kind.last), wanted).fetchall())


@contextmanager
def _without_nested_loops() -> Iterator[None]:
    """Let the planner join by hash or by order only, inside the transaction that is open.

    Without statistics of a table that grew it takes thousands of rows for one, and a nested loop for cheap.
    """
    database.execute_sql("SET LOCAL enable_nestloop = off")
    yield
    database.execute_sql("SET LOCAL enable_nestloop = on")
