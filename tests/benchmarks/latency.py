"""From an order to the worker's claim, on a system that has nothing else to do.

Measured as a client sees it: from before the POST is sent until another connection reads the job as running, committed.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator

import psycopg2

from shim.config import REMEMBERED
from tests.benchmarks import client
from tests.benchmarks.figures import Figure, percentile
from tests.stack import TENANT, Stack

ROUNDS, POLL_S = 30, 0.0005


def measure(stack: Stack) -> Iterator[Figure]:
    """Yield the median and the 90th percentile, and the share of the POST itself."""
    order = stack.create(hostname="latency")
    stack.finished(order["job"]["id"])
    path = f"/internal/cloudpods/{order['cloudPod']['vmid']}/scale"
    connection = psycopg2.connect(json.loads((stack.state_dir / REMEMBERED).read_text())["database_url"])
    connection.autocommit = True
    answered, claimed = [], []
    for number in range(ROUNDS):
        answer_s, claim_s, job = _order(stack, connection, path, 512 + number % 2)
        stack.finished(job)
        # The worker's child has ended too, and nothing else is under way.
        time.sleep(0.5)
        answered.append(answer_s * 1000)
        claimed.append(claim_s * 1000)
    connection.close()
    yield Figure("POST of an order on an idle system, median", statistics.median(answered), "ms")
    yield Figure("POST to the worker's claim on an idle system, median", statistics.median(claimed), "ms", 50)
    yield Figure("POST to the worker's claim on an idle system, p90", percentile(claimed, 0.9), "ms")


def _order(stack: Stack, connection: psycopg2.extensions.connection, path: str, memory_mb: int) -> tuple[float, float, str]:
    token = str(stack.session.headers["Authorization"]).removeprefix("Bearer ")
    body = client.post(path, token, json.dumps({"tenantId": TENANT, "newMemoryMb": memory_mb}).encode())
    opened = client.Connection(stack.port)
    began = time.monotonic()
    status, answer = opened.ask(body)
    answer_s = time.monotonic() - began
    assert status == 202, answer
    job = str(json.loads(answer)["job"]["id"])
    with connection.cursor() as cursor:
        while True:
            cursor.execute("SELECT attempt FROM public.cloud_pod_jobs WHERE id = %s", (job,))
            if cursor.fetchone() != (0,):
                return answer_s, time.monotonic() - began, job
            time.sleep(POLL_S)
