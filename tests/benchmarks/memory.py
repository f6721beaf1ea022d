"""The memory of the worker processes over many jobs."""

from __future__ import annotations

from collections.abc import Iterator

from tests.benchmarks.figures import Figure
from tests.stack import Stack

WARM_UP, JOBS = 10, 100


def measure(stack: Stack) -> Iterator[Figure]:
    """Yield how far the workers' resident memory moved, as a share of what it was after some jobs."""
    order = stack.create(hostname="memory")
    stack.finished(order["job"]["id"])
    vmid = order["cloudPod"]["vmid"]
    _health(stack, vmid, WARM_UP)
    before = _resident_mb(stack)
    _health(stack, vmid, JOBS)
    after = _resident_mb(stack)
    yield Figure(f"workers' memory after {WARM_UP} jobs", before, "MB")
    yield Figure(f"change over {JOBS} further jobs", abs(after - before) / before * 100, "%", 10)


def _health(stack: Stack, vmid: int, times: int) -> None:
    for _ in range(times):
        stack.finished(stack.get(f"/internal/cloudpods/{vmid}/health", refresh=1)["job"]["id"])


def _resident_mb(stack: Stack) -> float:
    return sum(process.memory_info().rss for process in stack.processes(of=" worker")) / 1e6
