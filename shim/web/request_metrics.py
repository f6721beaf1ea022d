"""How many requests there were and how long they took, by method, route and status class: no label that a client can invent.

gunicorn has several processes: each writes its figures to files of its own below PROMETHEUS_MULTIPROC_DIR, which
`cloudpods api` sets and empties, and whichever is asked adds them up. Without it the figures are this process's.
"""

import os
import time
from collections.abc import Iterable
from typing import Any

import falcon
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_METHODS = frozenset(falcon.HTTP_METHODS)
_OWN = CollectorRegistry()
_REQUESTS = Histogram(
    "cloudpods_http_request_duration_seconds",
    "Requests and how long they took.",
    ("method", "route", "status"),
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 30),
    registry=_OWN,
)


class RequestMetrics:
    """Counts each request with its time. Comes first, so that whatever the others do is in it."""

    def process_request(self, request: falcon.Request, response: falcon.Response) -> None:
        """Note when it began."""
        request.context.began = time.monotonic()

    def process_response(self, request: falcon.Request, response: falcon.Response, resource: Any, req_succeeded: bool) -> None:
        """Count it, under its route's template; those of no route under one name."""
        method = request.method if request.method in _METHODS else "other"
        route = request.uri_template or "none"
        took = time.monotonic() - request.context.began
        _REQUESTS.labels(method, route, f"{str(response.status)[:1]}xx").observe(took)


def exposition(collectors: Iterable[Any]) -> bytes:
    """Return the requests' figures and those of these collectors, as Prometheus reads them."""
    registry = CollectorRegistry()
    if os.environ.get(FOLDER):
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        own = b""
    else:
        own = generate_latest(_OWN)
    for collector in collectors:
        registry.register(collector)
    return own + generate_latest(registry)
