"""Events followed as a stream over an API of real processes: nothing lost, nothing twice, nobody kept from the API."""

from __future__ import annotations

import http.client
import itertools
import json
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import psycopg2
import pytest

from shim import db
from shim.events.models import Filters
from shim.events.stream import Seen, Streams
from shim.tenants.tokens import ApiToken, Bound

TENANT, OTHER_TENANT = "TENANT-123", "TENANT-456"
INSERT = "INSERT INTO cloud_pod_events (tenant_id, type, message, data) VALUES (%s, 'INFO', %s, '{\"action\": \"TRIED\"}')"


def messages(answer):
    """Yield (id, fields) of each message of a stream as it comes; one without data has only its id."""
    fields = {}
    for line in iter(answer.readline, b""):
        text = line.decode().rstrip("\n")
        if text and not text.startswith(":"):
            name, _, value = text.partition(": ")
            fields[name] = value
        elif fields:
            yield int(fields["id"]), fields
            fields = {}


def texts(stream):
    """Return what the events of a stream say, up to its end."""
    return [json.loads(fields["data"])["message"] for _, fields in stream if "data" in fields]


def told(sql, message, tenant=TENANT):
    sql(INSERT, tenant, message)


def test_what_happens_is_told_as_it_happens_to_whom_it_concerns(served, sql):
    api = served()
    told(sql, "before")
    answer = api.stream(f"/internal/tenants/{TENANT}/events")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/event-stream")
    stream = messages(answer)
    at, first = next(stream)
    assert (at, first) == (sql.value("SELECT max(seq) FROM cloud_pod_events"), {"retry": "1000", "id": str(at)})
    told(sql, "another tenant's", OTHER_TENANT)
    told(sql, "mine: café\nand more")
    id, fields = next(stream)
    event = json.loads(fields["data"])
    assert (fields["event"], event["message"], event["seq"]) == ("INFO", "mine: café\nand more", id)
    assert event == api.read(f"/internal/events?since={id - 1}")[1]["items"][0]


def test_without_the_header_the_same_address_is_a_page(served, sql):
    api = served()
    told(sql, "a")
    for accept in ("application/json", "*/*"):
        assert json.loads(api.get("/internal/events", Accept=accept).read())["items"][0]["message"] == "a"


def test_a_stream_from_the_beginning_tells_everything_and_closes_in_time(served, sql):
    api = served(stream_s=15)
    sql("INSERT INTO cloud_pod_events (type, message) SELECT 'INFO', n::text FROM generate_series(1, 1000) n")
    began = time.monotonic()
    assert texts(messages(api.stream("/internal/events?since=0"))) == [str(n) for n in range(1, 1001)]
    assert 15 <= time.monotonic() - began < 60


@pytest.mark.parametrize("query", ["order=desc", "cursor=WyI1Il0"])
def test_a_stream_goes_on_in_order_only(served, query):
    assert served().stream(f"/internal/events?{query}").status == 422


@pytest.mark.parametrize("query", ["?since=9000000", ""])
def test_a_stream_from_a_number_that_is_not_there_yet_is_refused(served, query):
    assert served(api_processes=1).stream(f"/internal/events{query}", last=None if query else 9000000).status == 422


def test_a_tenants_users_take_a_quarter_and_all_tenants_leave_one_to_services(served, sql):
    api = served(api_processes=1, api_streams=8)
    service = api.token
    told(sql, "a")
    held = []

    def retries(token, count):
        api.token = token
        answers = [api.stream() for _ in range(count)]
        held.extend(answers)
        return [next(messages(answer))[1]["retry"] for answer in answers]

    with db.session():
        users = [ApiToken.issue("u", Bound(tenant, "dev", "u")).secret for tenant in (TENANT, TENANT, OTHER_TENANT)]
    assert retries(users[0], 2) == ["1000"] * 2
    assert retries(users[1], 1) == ["10000"]
    assert retries(users[2], 3) == ["1000", "1000", "10000"]
    assert retries(service, 5) == ["1000"] * 4 + ["10000"]


def test_a_stream_whose_client_reads_slowly_ends_in_time(sql, tenants):
    sql("INSERT INTO cloud_pod_events (type, message) SELECT 'INFO', repeat('x', 40000) FROM generate_series(1, 50)")
    stream = Streams(4, last_s=0.5).follow(Seen(Filters(), None), 0, allowed=lambda: True, gone=lambda: False)
    pieces = []
    for piece in stream:
        pieces.append(len(piece))
        time.sleep(0.05)
    assert max(pieces) <= 16 * 1024
    assert len(pieces) < 20


def test_a_stream_ends_without_a_word_when_the_database_is_away(tenants):
    db.connect("postgresql://nobody@127.0.0.1:1/none")
    for streams in (Streams(4, last_s=5), Streams(0, last_s=5)):
        made = list(streams.follow(Seen(Filters(), None), 0, allowed=lambda: True, gone=lambda: False))
        assert len(made) <= 1


@pytest.mark.parametrize("last", ["-1", "x", "1" * 19, "1.5"])
def test_a_last_event_id_that_is_none_is_refused(served, last):
    assert served().stream(last=last).status == 422


def test_a_revoked_token_ends_its_stream(served, sql):
    api = served()
    stream = messages(api.stream())
    next(stream)
    sql("UPDATE api_tokens SET revoked_at = now()")
    told(sql, "not for you any more")
    began = time.monotonic()
    assert texts(stream) == []
    assert time.monotonic() - began < 30
    assert api.stream().status == 401


@pytest.mark.parametrize("listeners", [8, 30])
def test_listeners_do_not_keep_anybody_from_the_api(served, sql, listeners):
    api = served(api_processes=1, api_streams=12)
    answers = [api.stream() for _ in range(listeners)]
    retries = [next(messages(answer))[1]["retry"] for answer in answers]
    assert retries.count("1000") == min(listeners, 12)
    assert retries.count("10000") == max(0, listeners - 12)
    began = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        assert {status for status, _ in pool.map(lambda _: api.read("/internal/cloudpods"), range(80))} == {200}
    assert time.monotonic() - began < 60
    in_use = sql.value("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'cloudpods' AND state <> 'idle'")
    assert in_use <= 4


def test_whoever_finds_no_room_gets_what_is_there_and_misses_nothing(served, sql):
    api = served(api_processes=1, api_streams=1)
    held = api.stream()
    _, first = next(messages(held))
    told(sql, "a")
    stream = list(messages(api.stream(last=first["id"])))
    assert texts(stream) == ["a"]
    assert stream[0][1]["retry"] == "10000"
    told(sql, "b")
    assert texts(messages(api.stream(last=stream[-1][0]))) == ["b"]


def test_the_room_of_a_client_that_vanished_is_free_at_once(served, eventually):
    api = served(api_processes=1, api_streams=1)
    held = api.stream()
    next(messages(held))
    assert next(messages(api.stream()))[1]["retry"] == "10000"
    held.close()
    began = time.monotonic()
    eventually(lambda: next(messages(api.stream()))[1]["retry"] == "1000")
    assert time.monotonic() - began < 30


def test_an_api_that_stops_does_not_wait_for_its_listeners(served):
    api = served(api_processes=1, stream_s=120)
    stream = messages(api.stream())
    next(stream)
    # One of whose processes had to be killed takes ten seconds.
    assert api.stop() < 10
    assert list(stream) == []


class Writers:
    """Threads that write events in transactions of any length, which end in another order than they began, or not at all."""

    def __init__(self, url, threads):
        self._url = url
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(threads)
        self._ended = [self._pool.submit(self._write, number) for number in range(threads)]

    def _write(self, number):
        chance = random.Random(number)
        with closing(psycopg2.connect(self._url, options="-c search_path=cloudpods,public")) as connection:
            for turn in itertools.count():
                if self._stop.is_set():
                    return
                with connection.cursor() as cursor:
                    for step in range(chance.randint(1, 4)):
                        cursor.execute(INSERT, (TENANT, f"{number}.{turn}.{step}"))
                        time.sleep(chance.choice((0, 0, 0.001, 0.02)))
                if chance.random() < 0.2:
                    connection.rollback()
                else:
                    connection.commit()

    def end(self):
        """Stop them; raises what one of them met."""
        self._stop.set()
        self._pool.shutdown()
        for ended in self._ended:
            ended.result()


@contextmanager
def writing(url, threads):
    writers = Writers(url, threads)
    try:
        yield writers
    finally:
        writers.end()


class Follower:
    """A client that takes a few messages of a stream, breaks off anywhere, and comes again with the last id that it had."""

    def __init__(self, api, path):
        self._api, self._path, self._chance = api, path, random.Random(1)
        self.last, self.seen, self.connections = None, [], 0

    def connect(self, *, until=None):
        """Follow for a while (`until` a number is reached, if given)."""
        try:
            answer = self._api.stream(self._path, self.last)
            assert answer.status == 200
            self.connections += 1
            few = self._chance.randint(0, 40)
            for taken, (id, fields) in enumerate(messages(answer)):
                self.last = id
                if "data" in fields:
                    self.seen.append((id, json.loads(fields["data"])["message"]))
                if (taken >= few) if until is None else (id >= until):
                    break
            answer.close()
        except (OSError, http.client.HTTPException):
            # The API is away: as an EventSource does, try again.
            time.sleep(0.02)


def test_a_client_that_reconnects_fifty_times_over_a_restart_receives_every_event_once_in_order(served, settings, sql):
    api = served()
    follower = Follower(api, f"/internal/tenants/{TENANT}/events")
    with writing(settings.database_url, 12):
        follower.connect()
        begins = follower.seen[0][0] if follower.seen else follower.last + 1
        while follower.connections < 25:
            follower.connect()
        restart = threading.Thread(target=lambda: (api.stop(), api.start()))
        restart.start()
        while follower.connections < 50 or restart.is_alive():
            follower.connect()
        restart.join()
    last = sql.value("SELECT max(seq) FROM cloud_pod_events")
    while follower.last < last:
        follower.connect(until=last)
    assert follower.connections >= 50
    assert follower.seen == sql("SELECT seq, message FROM cloud_pod_events WHERE seq >= %s ORDER BY seq", begins)
    assert len(follower.seen) > 500
