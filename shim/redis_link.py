"""How Redis is asked where nobody may wait for it: quickly, and for some seconds not at all once it did not answer.

A process that hangs takes connections and says nothing, so each question to it costs its whole timeout. One answer that did not
come is enough for all who ask in this process: until the pause is over they fail at once, and then one of them tries.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

ANSWER_S = 0.5
PAUSE_S = 5.0


def quick() -> dict[str, Any]:
    """Return the options of a connection that tries once, and not for long."""
    return {"socket_connect_timeout": ANSWER_S, "socket_timeout": ANSWER_S, "retry": Retry(NoBackoff(), 0)}


class Link:
    """Whether Redis may be asked. `of` returns the one of a URL."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._away = False
        self._ask_at = 0.0

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Ask Redis inside the block. Raises redis.ConnectionError at once while it is left alone."""
        with self._lock:
            if self._away and time.monotonic() < self._ask_at:
                raise redis.ConnectionError("it did not answer a moment ago, and is left alone for some seconds")
            # If it is away, the others wait for what this one finds.
            self._ask_at = time.monotonic() + PAUSE_S
        try:
            yield
        except (redis.ConnectionError, redis.TimeoutError):
            self._away, self._ask_at = True, time.monotonic() + PAUSE_S
            raise
        self._away = False


@cache
def of(url: str) -> Link:  # noqa: ARG001
    """Return what this process knows of the Redis at this URL."""
    return Link()
