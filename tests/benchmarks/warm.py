"""One create after the other, by hand and by HTTP in turn, over SSH to nodes that need no time: how long each takes, and where
the latter's time goes."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import psycopg2

from tests.benchmarks.figures import Figure
from tests.benchmarks.over_ssh import stack_over_ssh, tables
from tests.stack import REPOSITORY, TENANT, Stack

CREATES, POLL_S = 20, 0.002
# From one to the next of these moments, by the database's clock.
_MOMENTS = """
SELECT extract(epoch FROM j.created_at), extract(epoch FROM j.started_at), extract(epoch FROM j.finished_at),
       (SELECT array_agg(extract(epoch FROM e.created_at) ORDER BY e.seq) FROM public.cloud_pod_events e
        WHERE e.job_id = j.id AND e.data->>'action' = 'progress')
FROM public.cloud_pod_jobs j WHERE j.id = %s
"""
PARTS = ("wake-up and claim", "fork, Ansible, play", "checks", "connection, module, script", "end of Ansible, outcome")


def measure() -> Iterator[Figure]:
    """Yield the medians by hand and by HTTP, their ratio, and the parts, with Ansible kept warm and without."""
    for warm, limit in ((True, 0.7), (False, None)):
        how = "kept warm" if warm else "plain"
        with stack_over_ssh(at_once=True, WARM_ANSIBLE=warm) as stack:
            stack.node = "lab2"
            stack.seed("--pool", "10.1.20.50-10.1.20.249", "--gateway", "10.1.20.1")
            by_hand, by_http, parts = _taken(stack)
        a, b = statistics.median(by_hand), statistics.median(by_http)
        yield Figure("ansible-playbook cloudpod_create.yml over SSH, median", a * 1000, "ms")
        yield Figure(f"POST to active over SSH, Ansible {how}, median", b * 1000, "ms")
        yield Figure(f"POST to active as a share of by hand, {how}", b / a, "x", limit)
        for name in PARTS:
            yield Figure(f"  of which {name}, median", statistics.median(parts[name]) * 1000, "ms")


def _taken(stack: Stack) -> tuple[list[float], list[float], dict[str, list[float]]]:
    by_hand, by_http, parts = [], [], defaultdict(list)
    with tables(stack) as table:
        for number in range(-2, CREATES):
            by_hand.append(_by_hand(stack, 5100 + number))
            seconds, moments = _by_http(stack, table)
            by_http.append(seconds)
            for name, (begun, ended) in zip(PARTS, pairwise(moments), strict=True):
                parts[name].append(ended - begun)
    # The first two open the connections, and pack the modules.
    return by_hand[2:], by_http[2:], {name: taken[2:] for name, taken in parts.items()}


def _by_hand(stack: Stack, vmid: int) -> float:
    variables = {"node": "lab1", "vmid": vmid, "hostname": "by-hand", "tenant_id": TENANT, "cores": 1, "memory_mb": 512}
    words = [word for name, value in variables.items() for word in ("-e", f"{name}={value}")]
    program = str(Path(sys.executable).with_name("ansible-playbook"))
    command = [program, "-i", str(stack.inventory), "playbooks/cloudpod_create.yml", *words]
    began = time.monotonic()
    subprocess.run(command, cwd=REPOSITORY, env=stack.environment, check=True, capture_output=True)
    return time.monotonic() - began


def _by_http(stack: Stack, table: psycopg2.extensions.cursor) -> tuple[float, list[float]]:
    began = time.monotonic()
    order = stack.create(hostname="by-http")
    while not _is_active(table, order["cloudPod"]["id"]):
        time.sleep(POLL_S)
    seconds = time.monotonic() - began
    table.execute(_MOMENTS, (order["job"]["id"],))
    row = table.fetchone()
    assert row is not None
    created, started, finished, tasks = row
    assert len(tasks) == 3, tasks
    return seconds, [float(each) for each in (created, started, *tasks, finished)]


def _is_active(table: psycopg2.extensions.cursor, pod: str) -> bool:
    table.connection.rollback()
    table.execute("SELECT status FROM public.cloud_pods WHERE id = %s", (pod,))
    row = table.fetchone()
    assert row in (("provisioning",), ("active",)), row
    return row == ("active",)
