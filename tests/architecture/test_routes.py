"""Every route says who may call it; one that does not is closed, and this test says so first."""

from __future__ import annotations

from pathlib import Path

import pytest

from shim import app
from shim.config import Settings
from shim.jobs.queue import Wakeups
from shim.web import operation

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


def _responders() -> list[tuple[str, str, object]]:
    settings = Settings(database_url="postgresql://", redis_url="redis://localhost", state_dir=Path("/nowhere"))
    table = app.routes(settings, Wakeups(settings.redis_url))
    return [
        (method, path, resource)
        for path, resource in table.items()
        for method in METHODS
        if hasattr(resource, f"on_{method.lower()}") and not getattr(resource, "public", False)
    ]


@pytest.mark.parametrize(("method", "path", "resource"), _responders(), ids=lambda part: part if isinstance(part, str) else "")
def test_a_route_declares_who_may_call_it(method, path, resource):
    assert operation.of(resource, method) is not None, f"{method} {path} declares no permission"
