"""Backups and drills by the clock: which pods are due, and their jobs. One of each kind is queued or running per node.

So a node's queue stays short, what a person orders is not behind a night's worth of backups, and a node that is down fails one
pod at a time. One query per kind looks at all nodes at once and gives at most one pod of each.
"""

import logging
from collections.abc import Callable
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

# The reason in a scheduled job's payload; the query below and an index go by it.
REASON = "schedule"
# A pod whose job failed is not tried again before POD_PAUSE, another pod of its node not before NODE_PAUSE.
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


# The most overdue pod of each node that has none of this kind under way and none that failed lately.
_DUE = """
SELECT DISTINCT ON (p.node_id) p.id, p.tenant_id
FROM cloud_pods p
JOIN tenants t ON t.id = p.tenant_id
JOIN plans l ON l.id = t.plan_id
JOIN unnest(%(names)s::text[], %(intervals)s::interval[]) AS policy (name, every) ON policy.name = l.backup_policy
CROSS JOIN LATERAL ({last}) last
WHERE p.status = 'active' AND p.vmid <= %(highest_vmid)s AND last.moment < now() - policy.every
  AND NOT EXISTS (
      SELECT 1 FROM cloud_pod_jobs j WHERE j.cloud_pod_id = p.id AND j.type = %(type)s
      AND (j.status IN ('queued', 'running') OR j.status = 'failed' AND j.finished_at > now() - %(pod_pause)s))
  AND NOT EXISTS (
      SELECT 1 FROM cloud_pod_jobs j WHERE j.node_id = p.node_id AND j.type = %(type)s AND j.payload ->> 'reason' = 'schedule'
      AND (j.status IN ('queued', 'running') OR j.status = 'failed' AND j.finished_at > now() - %(node_pause)s))
ORDER BY p.node_id, last.moment + policy.every, p.id
"""


def _back_up(pod_id: str, tenant_id: str) -> CloudPodJob:
    return backup.backup(pod_id, BackupPod(tenantId=tenant_id, reason=REASON))[0]


def _drill(pod_id: str, tenant_id: str) -> CloudPodJob:
    return restore_drill.drill(pod_id, DrillPod(tenantId=tenant_id, reason=REASON))[0]


BACKUPS = Kind(
    type="BACKUP",
    pause_s=10.0,
    last="SELECT coalesce(p.last_backup_at, p.created_at) AS moment",
    every={name: policy.every for name, policy in POLICIES.items()},
    order=_back_up,
)
DRILLS = Kind(
    type="RESTORE_DRILL",
    pause_s=60.0,
    # Without a backup there is nothing to drill. With backups of which none was ever drilled a pod is due at once: nobody
    # knows yet whether they can be restored.
    last="SELECT coalesce((SELECT max(d.drilled_at) FROM cloud_pod_backups d WHERE d.cloud_pod_id = p.id), '-infinity')"
    " AS moment WHERE EXISTS (SELECT 1 FROM cloud_pod_backups b WHERE b.cloud_pod_id = p.id AND b.status = 'ready')",
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
        "pod_pause": POD_PAUSE,
        "node_pause": NODE_PAUSE,
    }
    return list(database.execute_sql(_DUE.format(last=kind.last), wanted).fetchall())
