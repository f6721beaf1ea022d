"""Events as they happen: a stream that can be left and taken up again at any event, with nothing lost and nothing twice.

Events are numbered in the order in which they can be seen (`migrations/0011_events.sql`), so the number of the last one that a
client had says all about where it stands; nothing is kept of a client between its connections. A stream looks again and again
and has a connection to the database for each look only. It has a thread, of which there are some for streams alone: who comes
when all are taken gets what is there, and when to come again.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator

import peewee

from shim import db
from shim.errors import Unavailable
from shim.events.models import CloudPodEvent, Filters
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


class Streams:
    """The streams of this process: `most` at a time, each for `last_s` seconds."""

    def __init__(self, most: int, last_s: float) -> None:
        self.last_s = last_s
        self._slots = threading.Semaphore(most)
        self._ending = threading.Event()

    def end(self) -> None:
        """End all streams soon: the process is to stop. Their clients go on elsewhere."""
        self._ending.set()

    def follow(self, filters: Filters, after: int, *, allowed: Callable[[], bool], gone: Callable[[], bool]) -> Iterator[bytes]:
        """Yield the events behind `after`, until it is time to close, the client is `gone` or no longer `allowed`."""
        # Taken here, not by the request: who gives up a stream that never began gives nothing back.
        if not self._slots.acquire(blocking=False):
            yield from _what_is_there(filters, after)
            return
        try:
            yield from self._live(filters, after, allowed, gone)
        except (Unavailable, peewee.OperationalError, peewee.InterfaceError) as error:
            # The client comes again, with the number of the last event that it had.
            log.warning("a stream of events ends, the database does not answer: %s", db.first_line(error))
        finally:
            self._slots.release()

    def _live(self, filters: Filters, after: int, allowed: Callable[[], bool], gone: Callable[[], bool]) -> Iterator[bytes]:
        yield sse.opening(after, RETRY_MS)
        began = wrote = time.monotonic()
        while not (self._ending.is_set() or gone() or time.monotonic() - began > self.last_s):
            with db.session():
                if not allowed():
                    return
                found = CloudPodEvent.page(filters, after=after, limit=BATCH)
            if found:
                after = found[-1].seq
                yield _written(found)
                wrote = time.monotonic()
            elif time.monotonic() - wrote > HEARTBEAT_S:
                yield HEARTBEAT
                wrote = time.monotonic()
            if len(found) < BATCH:
                self._ending.wait(LOOK_S)


def _what_is_there(filters: Filters, after: int) -> Iterator[bytes]:
    with db.session():
        found = CloudPodEvent.page(filters, after=after, limit=BATCH)
    yield sse.opening(after, RETRY_MS if len(found) == BATCH else FULL_RETRY_MS)
    yield _written(found)


def _written(events: list[CloudPodEvent]) -> bytes:
    return b"".join(sse.message(event.seq, event.type, event.as_json()) for event in events)
