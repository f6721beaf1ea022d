"""What the database knows, as figures: read when somebody asks, at most every few seconds in each process.

Labels are bounded by what the operator makes: types, states, queues, plans, nodes. None names a tenant or a pod.
"""

import threading
import time
from collections.abc import Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily

from shim import db
from shim.jobs.catalog import ACTIONS, FORGOTTEN, QUEUES

# Several Prometheus servers, or an impatient one, cost no more than one.
KEEP_S = 5.0

_JOBS = "SELECT type, status, count(*) FROM cloud_pod_jobs GROUP BY type, status"
# Rows of looks are dropped, so that their sums would fall.
_DURATIONS = """
SELECT type, count(*), coalesce(sum(extract(epoch FROM finished_at - started_at)), 0) FROM cloud_pod_jobs
WHERE status IN ('success', 'failed') AND started_at IS NOT NULL AND type <> ALL(%s) GROUP BY type
"""
_QUEUED = """
SELECT type, count(*), extract(epoch FROM now() - min(created_at)) FROM cloud_pod_jobs
WHERE status = 'queued' AND run_after <= now() GROUP BY type
"""
_QUOTAS = """
SELECT t.plan_id, sum(q.used_cloud_pods), sum(q.max_cloud_pods), sum(q.used_cpu_cores), sum(q.max_cpu_cores),
       sum(q.used_ram_mb), sum(q.max_ram_mb), sum(q.used_disk_gb), sum(q.max_disk_gb)
FROM tenant_quotas q JOIN tenants t ON t.id = q.tenant_id GROUP BY t.plan_id
"""
# A total of 0 is not known.
_HEADROOM = """
SELECT n.name, n.total_cpu_cores * n.cpu_overcommit - u.cores, n.total_cpu_cores > 0,
       n.total_memory_mb * n.memory_overcommit - u.memory_mb, n.total_memory_mb > 0,
       n.total_disk_gb * n.disk_overcommit - u.disk_gb, n.total_disk_gb > 0
FROM cloud_pod_nodes n CROSS JOIN LATERAL (
    SELECT coalesce(sum(used_cpu_cores), 0) AS cores, coalesce(sum(used_memory_mb), 0) AS memory_mb,
           coalesce(sum(used_disk_gb), 0) AS disk_gb FROM cloud_pod_allocations a WHERE a.node_id = n.id
) u WHERE n.deleted_at IS NULL
"""
_DRIFT = """
SELECT n.name, extract(epoch FROM now() - r.created_at), r.counts FROM cloud_pod_nodes n CROSS JOIN LATERAL (
    SELECT created_at, counts FROM drift_reports d WHERE d.node_id = n.id ORDER BY d.created_at DESC, d.id DESC LIMIT 1
) r WHERE n.deleted_at IS NULL
"""
_RESOURCES = ("pods", "cores", "memory_mb", "disk_gb")


class Figures:
    """A collector of prometheus-client over the database. Needs a session when it is asked."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: list[Metric] = []
        self._read_at = float("-inf")

    def collect(self) -> Iterator[Metric]:
        """Yield each figure."""
        with self._lock:
            if time.monotonic() - self._read_at > KEEP_S:
                self._kept = [*_jobs(), _plain_runs(), *_queues(), _quotas(), _headroom(), *_drift()]
                self._read_at = time.monotonic()
            yield from self._kept

    def describe(self) -> list[Metric]:
        """Return nothing: registering must not ask the database."""
        return []


def _jobs() -> list[Metric]:
    jobs = GaugeMetricFamily("cloudpods_jobs", "Jobs that are kept, by type and state.", labels=("type", "status"))
    for type, status, count in db.rows(_JOBS):
        jobs.add_metric((type, status), count)
    took = SummaryMetricFamily("cloudpods_job_duration_seconds", "From a job's first run to its end.", labels=("type",))
    for type, count, seconds in db.rows(_DURATIONS, (list(FORGOTTEN),)):
        took.add_metric((type,), count, float(seconds))
    return [jobs, took]


def _plain_runs() -> Metric:
    plain = CounterMetricFamily("cloudpods_plain_runs", "Runs that could not be started warm, by reason.", labels=("reason",))
    for reason, runs in db.rows("SELECT reason, runs FROM cloud_pod_plain_runs"):
        plain.add_metric((reason,), runs)
    return plain


def _queues() -> list[Metric]:
    depth = GaugeMetricFamily("cloudpods_queue_depth", "Jobs that are due and wait.", labels=("queue",))
    age = GaugeMetricFamily("cloudpods_queue_age_seconds", "How old the oldest of them is.", labels=("queue",))
    waiting: dict[str, tuple[int, float]] = dict.fromkeys(QUEUES, (0, 0.0))
    for type, count, seconds in db.rows(_QUEUED):
        action = ACTIONS.get(type)
        if action is not None:
            before = waiting[action.queue]
            waiting[action.queue] = (before[0] + count, max(before[1], float(seconds)))
    for queue, (count, seconds) in waiting.items():
        depth.add_metric((queue,), count)
        age.add_metric((queue,), seconds)
    return [depth, age]


def _quotas() -> Metric:
    labels = ("plan", "resource", "of")
    quotas = GaugeMetricFamily("cloudpods_quota", "What the tenants of a plan use, and may.", labels=labels)
    for plan, *figures in db.rows(_QUOTAS):
        for resource, used, limit in zip(_RESOURCES, figures[::2], figures[1::2], strict=True):
            quotas.add_metric((plan, resource, "used"), int(used))
            quotas.add_metric((plan, resource, "limit"), int(limit))
    return quotas


def _headroom() -> Metric:
    free = GaugeMetricFamily("cloudpods_node_headroom", "What pods may still take of a node.", labels=("node", "resource"))
    for node, *figures in db.rows(_HEADROOM):
        for resource, left, known in zip(_RESOURCES[1:], figures[::2], figures[1::2], strict=True):
            if known:
                free.add_metric((node, resource), float(left))
    return free


def _drift() -> list[Metric]:
    items = GaugeMetricFamily("cloudpods_drift", "Findings of a node's last comparison, by kind.", labels=("node", "kind"))
    age = GaugeMetricFamily("cloudpods_drift_report_age_seconds", "How old that comparison is.", labels=("node",))
    for node, seconds, counts in db.rows(_DRIFT):
        age.add_metric((node,), float(seconds))
        found: dict[str, Any] = counts
        for kind, count in found.items():
            items.add_metric((node, kind), count)
    return [items, age]
