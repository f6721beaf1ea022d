"""The health sweep of 1,000 pods on four nodes over SSH, from the clock's order to the last pod's verdict in its row."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from tests.benchmarks.figures import Figure
from tests.benchmarks.over_ssh import NODES, stack_over_ssh, tables
from tests.benchmarks.sweep import fill
from tests.stack import TENANT, Stack, wait_until

ROUNDS, PODS_EACH = 3, 250
# One sweep, and no other before the benchmark wants it.
ONCE_S = 3600
FIRST_VMID = 20000

PODS = """
INSERT INTO cloud_pods (id, tenant_id, node_id, vmid, hostname, ip, status, power_state, cores, memory_mb, disk_gb)
SELECT 'pod-' || n.name || '-' || k, %(tenant)s, n.id, %(first)s + (right(n.name, 1)::int - 1) * %(each)s + k,
       'host-' || k, host('10.100.0.0'::inet + right(n.name, 1)::int * 1000 + k), 'active', 'running', 1, 512, 8
FROM cloud_pod_nodes n CROSS JOIN generate_series(0, %(each)s - 1) k
"""
FORGET = "DELETE FROM cloud_pod_jobs WHERE type = 'HEALTH_SWEEP'"


def measure() -> Iterator[Figure]:
    """Yield the time of a sweep and its runs on each node."""
    with stack_over_ssh(HEALTH_SWEEP_S=ONCE_S) as stack:
        for number, node in enumerate(NODES):
            stack.node = node
            stack.seed(
                "--pool",
                f"10.1.{10 * (number + 1)}.50-10.1.{10 * (number + 1)}.249",
                "--gateway",
                f"10.1.{10 * (number + 1)}.1",
            )
            fill(stack.lab.with_name(node), PODS_EACH, FIRST_VMID + number * PODS_EACH)
        with tables(stack) as cursor:
            cursor.execute(PODS, {"tenant": TENANT, "first": FIRST_VMID, "each": PODS_EACH})
        sweeps = [_sweep(stack) for _ in range(ROUNDS)]
    taken = statistics.median(seconds for seconds, _ in sweeps)
    pods = len(NODES) * PODS_EACH
    yield Figure(f"health sweep of {pods} pods on {len(NODES)} nodes over SSH, median", taken, "s", 8)
    yield Figure("runs on each node", max(runs for _, runs in sweeps) / len(NODES), "", 1)


def _sweep(stack: Stack) -> tuple[float, int]:
    """Have every node swept; return how long it took and how many runs it was."""
    with tables(stack) as cursor:
        # None was ever made, so one is due of each node.
        cursor.execute(FORGET)
    wait_until(lambda: len(_ended(stack)) >= len(NODES), "every node is swept", 300)
    jobs = _ended(stack)
    assert sum(job["result"]["checked"] for job in jobs) == len(NODES) * PODS_EACH, jobs
    began = min(datetime.fromisoformat(job["createdAt"]) for job in jobs)
    ended = max(datetime.fromisoformat(job["finishedAt"]) for job in jobs)
    return (ended - began).total_seconds(), sum(job["tries"] for job in jobs)


def _ended(stack: Stack) -> list[dict[str, Any]]:
    jobs = stack.get("/internal/jobs", type="HEALTH_SWEEP")["items"]
    assert all(job["status"] != "failed" for job in jobs), jobs
    return [job for job in jobs if job["status"] == "success"]
