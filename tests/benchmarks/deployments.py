"""Many stacks of two pods and as many plain pods, in turn, on a simulated node: what it costs to make pods as a stack's.

The blueprint has no steps: what those take is their roles' work, and a run of Ansible more, whoever plays it.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.benchmarks.figures import Figure
from tests.benchmarks.memory import rest
from tests.benchmarks.over_ssh import QUIET, WORKERS
from tests.benchmarks.throughput import ASK_S
from tests.stack import TENANT, Stack

# In turn, so that whatever else the machine does meets both.
ROUNDS, STACKS = 5, 10
SIZE = {"cores": 1, "memoryMb": 512}
SPEC = {
    "version": 1,
    "resources": [
        {"kind": "CloudPod", "role": role, "hostnamePattern": f"{role}-{{tenantSlug}}", **SIZE} for role in ("app", "db")
    ],
}


def measure() -> Iterator[Figure]:
    """Yield the time of stacks and of plain pods, and the ratio."""
    home = Path(tempfile.mkdtemp(prefix="cloudpods-bench-"))
    home.chmod(0o711)
    stack = Stack(home)
    stack.environment |= {f"CLOUDPODS_{name}": str(value) for name, value in QUIET.items()}
    plain_s = stacks_s = 0.0
    try:
        stack.lay_lab()
        stack.start(workers=WORKERS, said=home / "said")
        stack.seed("--max-jobs", str(WORKERS))
        assert stack.post("/internal/blueprints", name="Two", slug="two", spec=SPEC).status_code == 201
        for number in range(ROUNDS):
            plain_s += _until(stack, _plain)
            stacks_s += _until(stack, lambda stack, number=number: _stacks(stack, number))
    finally:
        stack.stop()
        shutil.rmtree(home, ignore_errors=True)
    deployments = ROUNDS * STACKS
    yield Figure(f"{2 * deployments} plain creates with {WORKERS} workers", plain_s, "s")
    yield Figure(f"{deployments} deployments of 2 pods", stacks_s, "s")
    yield Figure("deployments / plain creates", stacks_s / plain_s, "x", 1.2)


def _plain(stack: Stack) -> dict[str, str]:
    jobs = [stack.create(hostname="plain")["job"]["id"] for _ in range(2 * STACKS)]
    return {f"/internal/jobs/{job}": "success" for job in jobs}


def _stacks(stack: Stack, number: int) -> dict[str, str]:
    paths = {}
    for each in range(STACKS):
        answer = stack.post("/internal/blueprints/two/deploy", tenantId=TENANT, name=f"{number}-{each}")
        assert answer.status_code == 202, answer.text
        paths[f"/internal/deployments/{answer.json()['deployment']['id']}"] = "active"
    return paths


def _until(stack: Stack, order: Callable[[Stack], dict[str, str]]) -> float:
    """Return how long it takes from the first order until all that is ordered is what it is to be."""
    began = time.monotonic()
    waited = order(stack)
    while waited:
        path, wanted = next(reversed(waited.items()))
        status = stack.get(path)["status"]
        assert status not in ("failed", "rolled_back", "cancelled"), f"{path} is {status}"
        if status == wanted:
            del waited[path]
        else:
            time.sleep(ASK_S)
    seconds = time.monotonic() - began
    rest(stack)
    return seconds
