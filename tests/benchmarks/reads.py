"""Reading one pod at a steady rate. Each request has its time to start, so a slow answer does not slow the asking down."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator

from tests.benchmarks.figures import Figure, percentile
from tests.stack import Stack

RATE_PER_S, SECONDS, CLIENTS = 100, 10, 8


def measure(stack: Stack) -> Iterator[Figure]:
    """Yield the median and the 99th percentile."""
    vmid = stack.create(hostname="reads")["cloudPod"]["vmid"]
    taken: list[float] = []
    began = time.monotonic() + 0.5
    threads = [threading.Thread(target=_read, args=(stack, vmid, client, began, taken)) for client in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == RATE_PER_S * SECONDS, "every request was answered with 200"
    yield Figure(f"GET /internal/cloudpods/{{vmid}} at {RATE_PER_S}/s, median", percentile(taken, 0.5) * 1000, "ms")
    yield Figure(f"GET /internal/cloudpods/{{vmid}} at {RATE_PER_S}/s, p99", percentile(taken, 0.99) * 1000, "ms", 20)


def _read(stack: Stack, vmid: int, client: int, began: float, taken: list[float]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", stack.port)
    headers = {"Authorization": str(stack.session.headers["Authorization"])}
    for number in range(client, RATE_PER_S * SECONDS, CLIENTS):
        due = began + number / RATE_PER_S
        time.sleep(max(0.0, due - time.monotonic()))
        connection.request("GET", f"/internal/cloudpods/{vmid}", headers=headers)
        answer = connection.getresponse()
        answer.read()
        if answer.status == 200:
            taken.append(time.monotonic() - due)
