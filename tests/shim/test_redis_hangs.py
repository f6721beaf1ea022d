"""A Redis that takes connections and says nothing costs one short wait, not each request several."""

from __future__ import annotations

import contextlib
import socket

import pytest
import redis

from shim import redis_link

POD = {"tenantId": "TENANT-123", "hostname": "client-portal", "cores": 1, "memoryMb": 64}

pytestmark = pytest.mark.own_patience


@pytest.fixture
def hung():
    """Yield a server that never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listening:
        listening.setblocking(False)
        yield listening


def called(listening):
    """Return how often somebody connected."""
    count = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            listening.accept()[0].close()
            count += 1
    return count


def test_orders_are_taken_quickly_while_redis_hangs(api_on, tenants, hung, monkeypatch):
    monkeypatch.setattr(redis_link, "PAUSE_S", 300.0)
    api = api_on(tenants.model_copy(update={"redis_url": f"redis://127.0.0.1:{hung.getsockname()[1]}/0"}))
    assert [api.simulate_post("/internal/cloudpods", json=POD).status_code for _ in range(4)] == [202] * 4
    assert called(hung) == 1, "each waited for it"


def test_one_failure_speaks_for_all_until_one_tries_again(monkeypatch):
    now = 100.0
    monkeypatch.setattr(redis_link.time, "monotonic", lambda: now)
    link = redis_link.Link()
    with pytest.raises(redis.TimeoutError), link.asking():
        raise redis.TimeoutError
    with pytest.raises(redis.ConnectionError, match="left alone"), link.asking():
        pytest.fail("it was asked")
    now += redis_link.PAUSE_S
    with link.asking(), pytest.raises(redis.ConnectionError), link.asking():
        pytest.fail("two tried")
    with link.asking(), link.asking():
        pass
