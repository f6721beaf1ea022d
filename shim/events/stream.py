"""Events as they happen: a stream that can be left and taken up again at any event, with nothing lost and nothing twice.

Events are numbered in the order in which they can be seen (`migrations/0011_events.sql`), so the number of the last one that a
client had says all about where it stands; nothing is kept of a client between its connections. A stream looks again and again
and has a connection to the database for each look only. It has a thread, of which there are some for streams alone: who comes
when all are taken gets what is there, and when to come again. A tenant's users have a quarter of them at most, and all tenants
together leave a quarter to services.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import peewee

from shim import db
from shim.errors import Unavailable
from shim.events.models import CloudPodEvent, Filters
from shim.events.showing import shown
from shim.web import sse

log = logging.getLogger(__name__)

BATCH = 200
LOOK_S = 0.5
# So that proxies see life, and a client that is gone without a word is noticed.
HEARTBEAT_S = 10.0
HEARTBEAT = b":\n\n"
RETRY_MS = 1000
# When there is no room.
FULL_RETRY_MS = 10_000
# A client has some seconds to read so much (`web/server.py`), and between two of them it is seen whether time is over.
PIECE = 16 * 1024


@dataclass(frozen=True)
class Seen:
    """What a stream tells, and to whose user: None is a service."""

    filters: Filters
    by_tenant: str | None


class Streams:
    """The streams of this process: `most` at a time, each for `last_s` seconds."""

    def __init__(self, most: int, last_s: float) -> None:
        self.last_s = last_s
        self._slots = _Slots(most)
        self._ending = threading.Event()

    def end(self) -> None:
        """End all streams soon: the process is to stop. Their clients go on elsewhere."""
        self._ending.set()

    def follow(self, seen: Seen, after: int, *, allowed: Callable[[], bool], gone: Callable[[], bool]) -> Iterator[bytes]:
        """Yield the events behind `after`, until it is time to close, the client is `gone` or no longer `allowed`."""
        ends_at = time.monotonic() + self.last_s

        def over() -> bool:
            return self._ending.is_set() or gone() or time.monotonic() > ends_at

        try:
            # Taken here, not by the request: who gives up a stream that never began gives nothing back.
            with self._slots.taken(seen.by_tenant) as taken:
                yield from self._live(seen, after, allowed, over) if taken else _what_is_there(seen, after, over)
        except (Unavailable, peewee.OperationalError, peewee.InterfaceError) as error:
            # The client comes again, with the number of the last event that it had.
            log.warning("a stream of events ends, the database does not answer: %s", db.first_line(error))

    def _live(self, seen: Seen, after: int, allowed: Callable[[], bool], over: Callable[[], bool]) -> Iterator[bytes]:
        yield sse.opening(after, RETRY_MS)
        wrote = time.monotonic()
        while not over():
            with db.session():
                if not allowed():
                    return
                found = CloudPodEvent.page(seen.filters, after=after, limit=BATCH)
                written = _written(found, seen)
            if found:
                after = found[-1].seq
                yield from _pieces(written, over)
                wrote = time.monotonic()
            elif time.monotonic() - wrote > HEARTBEAT_S:
                yield HEARTBEAT
                wrote = time.monotonic()
            if len(found) < BATCH:
                self._ending.wait(LOOK_S)


class _Slots:
    """How many streams there may be: of one tenant, of all tenants, and with those of services."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._quarter = max(1, most // 4)
        self._tenants = max(1, most - most // 4)
        self._lock = threading.Lock()
        # By tenant; None stands for services.
        self._taken: Counter[str | None] = Counter()

    @contextmanager
    def taken(self, tenant_id: str | None) -> Iterator[bool]:
        """Take a slot for the block, or say that there is none."""
        with self._lock:
            free = self._is_free(tenant_id)
            self._taken[tenant_id] += free
        try:
            yield free
        finally:
            with self._lock:
                self._taken[tenant_id] -= free
                if not self._taken[tenant_id]:
                    del self._taken[tenant_id]

    def _is_free(self, tenant_id: str | None) -> bool:
        if self._taken.total() >= self._most:
            return False
        of_tenants = self._taken.total() - self._taken[None]
        return tenant_id is None or (self._taken[tenant_id] < self._quarter and of_tenants < self._tenants)


def _what_is_there(seen: Seen, after: int, over: Callable[[], bool]) -> Iterator[bytes]:
    with db.session():
        found = CloudPodEvent.page(seen.filters, after=after, limit=BATCH)
        written = _written(found, seen)
    yield sse.opening(after, RETRY_MS if len(found) == BATCH else FULL_RETRY_MS)
    yield from _pieces(written, over)


def _written(events: list[CloudPodEvent], seen: Seen) -> bytes:
    return b"".join(sse.message(each["seq"], each["type"], each) for each in shown(events, seen.by_tenant))


def _pieces(written: bytes, over: Callable[[], bool]) -> Iterator[bytes]:
    """Yield it in pieces. One that ends within an event is none to the client, which asks for that event again."""
    for begin in range(0, len(written), PIECE):
        if begin and over():
            return
        yield written[begin : begin + PIECE]
