"""The memory of the worker processes over many jobs."""

from __future__ import annotations

import time
from collections.abc import Iterator

import psutil

from tests.benchmarks.figures import Figure
from tests.benchmarks.over_ssh import tables
from tests.stack import Stack, wait_until

# Real runs, then jobs without one: a run's memory is its own process's, and goes with it.
RUNS, JOBS = 100, 1000
AT_ONCE = 10

# Jobs whose worker was lost in every run: a worker takes each, in a process of its own as always, and writes how it ended.
LOST = """
INSERT INTO cloud_pod_jobs (cloud_pod_id, tenant_id, node_id, type, status, priority, payload, dry_run, changes_pod,
                            lost, attempt, tries, max_tries)
SELECT id, tenant_id, node_id, 'HEALTH_CHECK', 'queued', 50, jsonb_build_object('vmid', vmid), true, false, true, 3, 3, 3
FROM cloud_pods CROSS JOIN generate_series(1, %s) WHERE id = %s
"""
UNFINISHED = "SELECT count(*) FROM cloud_pod_jobs WHERE status IN ('queued', 'running')"


def measure(stack: Stack) -> Iterator[Figure]:
    """Yield how far the workers' resident memory moved, as a share of what it was after the first runs."""
    order = stack.create(hostname="memory")
    stack.finished(order["job"]["id"])
    _look(stack, order["cloudPod"]["vmid"], RUNS)
    before = _resident_mb(stack)
    with tables(stack) as cursor:
        cursor.execute(LOST, (JOBS - RUNS, order["cloudPod"]["id"]))
    wait_until(lambda: _unfinished(stack) == 0, "every job is over", 600)
    after = _resident_mb(stack)
    yield Figure(f"workers' memory after {RUNS} jobs", before, "MB")
    yield Figure(f"change until {JOBS} jobs were done", abs(after - before) / before * 100, "%", 5)


def _look(stack: Stack, vmid: int, times: int) -> None:
    for _ in range(times // AT_ONCE):
        jobs = [stack.get(f"/internal/cloudpods/{vmid}/health", refresh=1)["job"]["id"] for _ in range(AT_ONCE)]
        for job in jobs:
            stack.finished(job)


def _unfinished(stack: Stack) -> int:
    with tables(stack) as cursor:
        cursor.execute(UNFINISHED)
        (count,) = cursor.fetchone() or (0,)
        return int(count)


def rest(stack: Stack) -> None:
    """Wait until no worker has had anything to do for a while, wake-ups that come to nothing included."""
    idle = 0
    while idle < 5:
        # A worker's forks have its command line; the shared SSH connections below it have not.
        idle = idle + 1 if len(stack.processes(of=" worker")) == len(_workers(stack)) else 0
        time.sleep(0.1)


def _resident_mb(stack: Stack) -> float:
    """Return the memory of the workers themselves."""
    rest(stack)
    return sum(worker.memory_info().rss for worker in _workers(stack)) / 1e6


def _workers(stack: Stack) -> list[psutil.Process]:
    found = stack.processes(of=" worker")
    return [process for process in found if process.ppid() not in {other.pid for other in found}]
