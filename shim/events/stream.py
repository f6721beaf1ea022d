"""What happens, as it happens: a stream that can be left and taken up again anywhere, with nothing lost and nothing twice.

What it tells, events or a job's log, is numbered in the order in which it can be seen (`migrations/0011_events.sql`,
`0019_logs.sql`), so the number of the last thing that a client had says all about where it stands; nothing is kept of a client
between its connections. A stream looks again and again
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
from typing import Protocol

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
class Look:
    """What there was behind a number, as it is sent, and the last one's number; `more`: there is more; `over`: never again."""

    written: bytes
    last: int
    more: bool
    over: bool = False


class Source(Protocol):
    """What a stream tells, and to whose user: None is a service."""

    @property
    def by_tenant(self) -> str | None:
        """Return the tenant whose user asks."""

    def look(self, after: int) -> Look:
        """Return what is behind this number. It has a connection to the database."""


@dataclass(frozen=True)
class Seen:
    """Events, as a tenant's user or a service may see them."""

    filters: Filters
    by_tenant: str | None

    def look(self, after: int) -> Look:
        """Return the events behind `after`."""
        found = CloudPodEvent.page(self.filters, after=after, limit=BATCH)
        written = b"".join(sse.message(each["seq"], each["type"], each) for each in shown(found, self.by_tenant))
        return Look(written, found[-1].seq if found else after, more=len(found) == BATCH)


class Streams:
    """The streams of this process: `most` at a time, each for `last_s` seconds."""

    def __init__(self, most: int, last_s: float) -> None:
        self.last_s = last_s
        self._slots = _Slots(most)
        self._ending = threading.Event()

    def end(self) -> None:
        """End all streams soon: the process is to stop. Their clients go on elsewhere."""
        self._ending.set()

    def follow(self, source: Source, after: int, *, allowed: Callable[[], bool], gone: Callable[[], bool]) -> Iterator[bytes]:
        """Yield what is behind `after`, until all is told, it is time to close, the client is `gone` or no longer `allowed`."""
        ends_at = time.monotonic() + self.last_s

        def over() -> bool:
            return self._ending.is_set() or gone() or time.monotonic() > ends_at

        try:
            # Taken here, not by the request: who gives up a stream that never began gives nothing back.
            with self._slots.taken(source.by_tenant) as taken:
                yield from self._live(source, after, allowed, over) if taken else _what_is_there(source, after, over)
        except (Unavailable, peewee.OperationalError, peewee.InterfaceError) as error:
            # The client comes again, with the number of the last event that it had.
            log.warning("a stream ends, the database does not answer: %s", db.first_line(error))

    def _live(self, source: Source, after: int, allowed: Callable[[], bool], over: Callable[[], bool]) -> Iterator[bytes]:
        yield sse.opening(after, RETRY_MS)
        wrote = time.monotonic()
        while not over():
            with db.session():
                if not allowed():
                    return
                seen = source.look(after)
            after = seen.last
            if seen.written:
                yield from _pieces(seen.written, over)
                wrote = time.monotonic()
            elif time.monotonic() - wrote > HEARTBEAT_S:
                yield HEARTBEAT
                wrote = time.monotonic()
            if seen.over:
                return
            if not seen.more:
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


def _what_is_there(source: Source, after: int, over: Callable[[], bool]) -> Iterator[bytes]:
    with db.session():
        seen = source.look(after)
    yield sse.opening(after, RETRY_MS if seen.more else FULL_RETRY_MS)
    yield from _pieces(seen.written, over)


def _pieces(written: bytes, over: Callable[[], bool]) -> Iterator[bytes]:
    """Yield it in pieces. One that ends within an event is none to the client, which asks for that event again."""
    for begin in range(0, len(written), PIECE):
        if begin and over():
            return
        yield written[begin : begin + PIECE]
