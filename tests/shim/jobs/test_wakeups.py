"""Wake-ups: an id on the queue of its type, and no harm when Redis is not there."""

import socket
import time

import pytest
import redis

from shim import db
from shim.jobs.catalog import ACTIONS
from shim.jobs.queue import Wakeups

BODY = {"tenantId": "TENANT-123", "hostname": "client-portal", "cores": 2, "memoryMb": 2048}


@pytest.fixture
def silent():
    """Listen on a port and never answer, as a Redis does that hangs; give its URL."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"


@pytest.fixture
def closed():
    """Give the URL of a port where nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    return f"redis://127.0.0.1:{port}/0"


@pytest.fixture(params=["no socket", "closed", "silent"])
def dead(request):
    """Give the URL of a Redis that does not work."""
    return "unix:///nowhere/redis.sock" if request.param == "no socket" else request.getfixturevalue(request.param)


@pytest.mark.parametrize("action", ACTIONS.values(), ids=ACTIONS)
def test_a_wake_up_is_a_jobs_id_on_the_queue_of_its_type(settings, action):
    wakeups = Wakeups(settings.redis_url)
    assert wakeups.tell([("job-1", action.type)])
    client = redis.Redis.from_url(settings.redis_url)
    ((name, waiting),) = [(name, client.llen(name)) for name in client.keys("rq:queue:*")]
    assert (name.decode(), waiting) == (f"rq:queue:{action.queue}", 1)
    assert wakeups.waiting(action.type) == 1


def test_nothing_to_announce_is_announced_well(settings):
    assert Wakeups(settings.redis_url).tell([])


@pytest.mark.own_patience
def test_a_dead_redis_is_told_quickly_and_without_an_error(dead):
    began = time.monotonic()
    assert Wakeups(dead).tell([("job-1", "CREATE"), ("job-2", "CREATE")]) is False
    assert time.monotonic() - began < 15


@pytest.mark.own_patience
def test_a_dead_redis_does_not_answer(dead):
    assert Wakeups(dead).answers() is False


@pytest.mark.own_patience
def test_an_order_is_taken_without_redis(api_on, tenants, sql, dead):
    api = api_on(tenants.model_copy(update={"redis_url": dead}))
    began = time.monotonic()
    answer = api.simulate_post("/internal/cloudpods", json=BODY)
    assert answer.status_code == 202
    assert time.monotonic() - began < 15
    assert sql.row("cloud_pod_jobs", answer.json["job"]["id"])["status"] == "queued"


def test_a_refused_order_wakes_nobody(api, settings):
    api.simulate_post("/internal/cloudpods", json={**BODY, "cores": 0})
    assert redis.Redis.from_url(settings.redis_url).keys("rq:queue:*") == []


def test_an_error_of_redis_itself_is_no_error_of_ours(settings):
    redis.Redis.from_url(settings.redis_url).set("rq:queue:cloudpods:create", "not a list")
    assert Wakeups(settings.redis_url).tell([("job-1", "CREATE")]) is False


def test_a_wake_up_goes_out_when_the_outermost_transaction_is_committed(session, settings):
    wakeups = Wakeups(settings.redis_url)
    with db.database.atomic():
        with db.database.atomic():
            wakeups.announce([("job-1", "CREATE")])
        assert wakeups.waiting("CREATE") == 0
    assert wakeups.waiting("CREATE") == 1


def test_a_transaction_that_fails_wakes_nobody(session, settings):
    wakeups = Wakeups(settings.redis_url)
    with pytest.raises(ZeroDivisionError), db.database.atomic():
        wakeups.announce([("job-1", "CREATE")])
        raise ZeroDivisionError
    with db.database.atomic():
        pass
    assert wakeups.waiting("CREATE") == 0


def test_a_wake_up_outside_a_transaction_goes_out_at_once(session, settings):
    wakeups = Wakeups(settings.redis_url)
    wakeups.announce([("job-1", "CREATE")])
    assert wakeups.waiting("CREATE") == 1
