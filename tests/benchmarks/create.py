"""One pod by hand and one by HTTP, in turn, on a node without delay."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.figures import Figure
from tests.stack import REPOSITORY, TENANT, Stack

ROUNDS = 10


def measure(stack: Stack) -> Iterator[Figure]:
    """Yield the medians and their ratio."""
    by_hand, by_http = [], []
    _by_http(stack)  # the first of each warms caches
    _by_hand(stack, 9400)
    for number in range(ROUNDS):
        by_hand.append(_by_hand(stack, 9401 + number))
        by_http.append(_by_http(stack))
    hand, http = statistics.median(by_hand), statistics.median(by_http)
    yield Figure("(a) ansible-playbook cloudpod_create.yml by hand, median", hand, "s")
    yield Figure("(b) the same by HTTP, POST to active, median", http, "s")
    yield Figure("(b)/(a)", http / hand, "x", 1.3)


def _by_hand(stack: Stack, vmid: int) -> float:
    variables = {"node": "lab1", "vmid": vmid, "hostname": "by-hand", "tenant_id": TENANT, "cores": 1, "memory_mb": 512}
    words = [word for name, value in variables.items() for word in ("-e", f"{name}={value}")]
    program = str(Path(sys.executable).with_name("ansible-playbook"))
    began = time.monotonic()
    command = [program, "-i", "inventories/lab", "playbooks/cloudpod_create.yml", *words]
    subprocess.run(command, cwd=REPOSITORY, env=stack.environment, check=True, capture_output=True)
    return time.monotonic() - began


def _by_http(stack: Stack) -> float:
    began = time.monotonic()
    pod_id = stack.create(hostname="by-http")["cloudPod"]["id"]
    while stack.get(f"/internal/cloudpods/{pod_id}")["status"] != "active":
        time.sleep(0.02)
    return time.monotonic() - began
