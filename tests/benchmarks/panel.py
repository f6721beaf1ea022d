"""What a panel asks of the API when its tables are full: reads, lists near and far, orders, memory; and what a read costs.

The control plane has 10,000 pods, 1,000 tenants, 100,000 jobs and 1,000,000 events, and no workers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from tests.benchmarks import client
from tests.benchmarks.figures import Figure, percentile
from tests.benchmarks.filled import JOBS, PODS, TENANTS, Filled, filled

READS_PER_S, CREATES_PER_S, SECONDS, CLIENTS = 200, 50, 10, 8
PAGE, FAR = 20, 500
TENANT = "tenant-7"
READS = {
    "pod": lambda n: f"/internal/cloudpods/{100001 + n * 37 % PODS}",
    "job": lambda n: f"/internal/jobs/job-{1 + n * 37 % JOBS}",
    "quota": lambda n: f"/internal/tenants/tenant-{1 + n % TENANTS}/quota",
}
LISTS = {
    "pods of all": "/internal/cloudpods",
    "jobs of all": "/internal/jobs",
    "events of all": "/internal/events",
    "events of a tenant": f"/internal/events?tenantId={TENANT}",
}


def measure() -> Iterator[Figure]:
    """Yield each figure beside its limit."""
    with filled() as system:
        for name, path in READS.items():
            taken = _at_rate(system, [path(n) for n in range(997)])
            yield Figure(f"GET one {name} of many at {READS_PER_S}/s, p99", percentile(taken, 0.99) * 1000, "ms", 15)
        for name, path in LISTS.items():
            yield from _list(system, name, path)
        yield from _creates(system)
        yield Figure("resident memory of the largest API process", system.api.memory_mb(), "MB", 120)
        yield from _ratio(system)


def _list(system: Filled, name: str, path: str) -> Iterator[Figure]:
    first = f"{path}{'&' if '?' in path else '?'}limit={PAGE}"
    far = f"{first}&cursor={_cursor(system, first, FAR)}"
    near_ms, far_ms = (percentile(_at_rate(system, [page]), 0.99) * 1000 for page in (first, far))
    yield Figure(f"GET list: {name}, page 1 at {READS_PER_S}/s, p99", near_ms, "ms", 25)
    yield Figure(f"GET list: {name}, page {FAR} at {READS_PER_S}/s, p99", far_ms, "ms", 25)


def _cursor(system: Filled, path: str, page: int) -> str:
    """Return the cursor of a page, walked to as a client must; of the last one where there are fewer."""
    connection, cursor = client.Connection(system.api.port), ""
    for _ in range(page - 1):
        status, body = connection.ask(client.get(path + (f"&cursor={cursor}" if cursor else ""), system.token))
        assert status == 200, body
        following = json.loads(body)["next"]
        if following is None:
            break
        cursor = following
    return cursor


def _at_rate(system: Filled, paths: list[str]) -> list[float]:
    requests = [client.get(path, system.token) for path in paths]
    client.at_rate(
        system.api.port, lambda n: requests[n % len(requests)], per_s=READS_PER_S, seconds=1, clients=CLIENTS, expected=200
    )
    return client.at_rate(
        system.api.port,
        lambda n: requests[n % len(requests)],
        per_s=READS_PER_S,
        seconds=SECONDS,
        clients=CLIENTS,
        expected=200,
    )


def _creates(system: Filled) -> Iterator[Figure]:
    def order(number: int) -> bytes:
        tenant = f"tenant-{1 + number % TENANTS}"
        body = {"tenantId": tenant, "hostname": f"new-{number}", "cores": 1, "memoryMb": 512}
        return client.post("/internal/cloudpods", system.token, json.dumps(body).encode())

    taken = client.at_rate(system.api.port, order, per_s=CREATES_PER_S, seconds=SECONDS, clients=CLIENTS, expected=202)
    yield Figure(f"POST create at {CREATES_PER_S}/s, median", percentile(taken, 0.5) * 1000, "ms")
    yield Figure(f"POST create at {CREATES_PER_S}/s, p99", percentile(taken, 0.99) * 1000, "ms", 40)


def _ratio(system: Filled) -> Iterator[Figure]:
    pod = client.get("/internal/cloudpods/100777", system.token)
    with system.bare() as server:
        bare = _throughput(server.port, client.get("/", ""))
        queries = _throughput(server.port, client.get("/pods/100777", system.token))
    ours = _throughput(system.api.port, pod)
    yield Figure("bare Falcon on the same gunicorn settings", bare, "/s")
    yield Figure("the same with one token and one pod query and nothing else", queries, "/s")
    yield Figure("GET /internal/cloudpods/{vmid}, authenticated", ours, "/s")
    yield Figure("ratio of one token and one pod query alone to bare Falcon", queries / bare, "x")
    yield Figure("ratio of an authenticated read to bare Falcon", ours / bare, "x", 0.10, at_least=True)


def _throughput(port: int, request: bytes) -> float:
    client.throughput(port, request, seconds=1, clients=CLIENTS)
    return client.throughput(port, request, seconds=4, clients=CLIENTS)
