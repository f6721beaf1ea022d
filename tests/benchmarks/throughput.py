"""Many creates four at a time, by hand and by HTTP, in turn, over SSH on a node each that needs no time."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg2

from tests.benchmarks.figures import Figure
from tests.benchmarks.memory import rest
from tests.benchmarks.over_ssh import WORKERS, stack_over_ssh, tables
from tests.stack import REPOSITORY, TENANT, Stack

# In turn, so that whatever else the machine does meets both.
ROUNDS, CREATES = 4, 50
# Seldom enough that asking costs the creates nothing.
ASK_S = 0.25


def measure() -> Iterator[Figure]:
    """Yield how many pods a second come by hand and by HTTP, with Ansible kept warm and without, and the ratios."""
    # The limit is for what is delivered. Plain is what a setting gives, or a host on which nothing can be kept warm.
    for warm, least in ((True, 2.0), (False, None)):
        by_hand_s, by_http_s = _seconds(warm)
        pods, how = ROUNDS * CREATES, "kept warm" if warm else "plain"
        yield Figure(f"xargs -P{WORKERS} ansible-playbook cloudpod_create.yml over SSH, {pods} pods", pods / by_hand_s, "/s")
        yield Figure(f"the same by HTTP with {WORKERS} workers, Ansible {how}", pods / by_http_s, "/s")
        yield Figure(f"throughput by HTTP as a share of that by hand, {how}", by_hand_s / by_http_s, "x", least, at_least=True)


def _seconds(warm: bool) -> tuple[float, float]:
    by_hand_s = by_http_s = 0.0
    with stack_over_ssh(at_once=True, WARM_ANSIBLE=warm) as stack:
        stack.node = "lab2"
        stack.seed("--pool", "10.1.20.20-10.1.20.249", "--gateway", "10.1.20.1", "--max-jobs", str(WORKERS))
        # The first open the connections, and pack the modules.
        _by_hand(stack, 4000, WORKERS)
        _by_http(stack, 2 * WORKERS)
        for number in range(ROUNDS):
            by_hand_s += _by_hand(stack, 5000 + number * CREATES, CREATES)
            by_http_s += _by_http(stack, CREATES)
            rest(stack)
    return by_hand_s, by_http_s


def _by_hand(stack: Stack, first: int, creates: int) -> float:
    variables = {"node": "lab1", "vmid": "{}", "hostname": "by-hand", "tenant_id": TENANT, "cores": 1, "memory_mb": 512}
    words = [word for name, value in variables.items() for word in ("-e", f"{name}={value}")]
    program = str(Path(sys.executable).with_name("ansible-playbook"))
    command = ["xargs", f"-P{WORKERS}", "-I{}", program, "-i", stack.inventory, "playbooks/cloudpod_create.yml", *words]
    vmids = "\n".join(str(first + number) for number in range(creates))
    began = time.monotonic()
    subprocess.run(command, input=vmids, text=True, cwd=REPOSITORY, env=stack.environment, check=True, capture_output=True)
    return time.monotonic() - began


def _by_http(stack: Stack, creates: int) -> float:
    began = time.monotonic()
    jobs = [stack.create(hostname="by-http")["job"]["id"] for _ in range(creates)]
    # Asked by a connection of its own: a GET for each would be work for the API that no panel gives it.
    with tables(stack) as table:
        while _unfinished(table, jobs):
            time.sleep(ASK_S)
    seconds = time.monotonic() - began
    assert all(stack.get(f"/internal/jobs/{job}")["status"] == "success" for job in jobs)
    return seconds


def _unfinished(table: psycopg2.extensions.cursor, jobs: list[str]) -> int:
    table.connection.rollback()
    table.execute("SELECT count(*) FROM public.cloud_pod_jobs WHERE id = ANY(%s) AND status IN ('queued', 'running')", (jobs,))
    row = table.fetchone()
    assert row is not None
    return int(row[0])
