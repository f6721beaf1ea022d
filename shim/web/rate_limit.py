"""How many orders a tenant may give in a span of time, however many tokens ask for it; how many may be unfinished.

Rates are counted in Redis, for all processes together. Redis keeps no truth here: while it is away each process counts by
itself, so that orders are still taken, and bounded.
"""

import logging
import math
import time
from collections.abc import Callable, Mapping
from typing import Literal, Protocol, TypeVar

import limits
import redis
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import MovingWindowRateLimiter

from shim import caller, db, redis_link
from shim.config import Settings
from shim.errors import Conflict, Invalid, RateLimited

log = logging.getLogger(__name__)

Counted = Literal["create", "destroy", "order"]

# Given a tenant and a number, how many of its jobs are unfinished; beyond the number nobody need count.
Unfinished = Callable[[str, int], int]
# A limit, whose count it is, and how many more.
Asked = tuple[limits.RateLimitItem, str, int]
# The limit that was reached, and the seconds to wait.
Refused = tuple[limits.RateLimitItem, int]


class Order(Protocol):
    """A request that counts."""

    @property
    def tenant_id(self) -> str:
        """Whose pod it is about."""

    def counts_as(self) -> Counted:
        """What it is counted as."""


AnyOrder = TypeVar("AnyOrder", bound=Order)


class RateLimits:
    """Admits orders or refuses them. Ask where the order is known to be well-formed, before its transaction does anything."""

    def __init__(self, settings: Settings, unfinished: Unfinished) -> None:
        rates = {"create": settings.rate_create, "destroy": settings.rate_destroy, "order": settings.rate_orders}
        self._items = {name: limits.parse(rate) for name, rate in rates.items()}
        self._jobs, self._unfinished = settings.tenant_jobs, unfinished
        self._link = redis_link.of(settings.redis_url)
        pool = redis.ConnectionPool.from_url(settings.redis_url, **redis_link.quick())
        storage = RedisStorage("redis://", connection_pool=pool, key_prefix="cloudpods:rate")
        self._shared, self._own = MovingWindowRateLimiter(storage), MovingWindowRateLimiter(MemoryStorage())
        self._away = False

    def admit(self, order: AnyOrder, *, rehearsed: bool = False) -> AnyOrder:
        """Return the order, counted; one that is only rehearsed is no pod made or destroyed, but its job is one that is queued.

        Raises RateLimited, and Conflict when the tenant has too many unfinished jobs.
        """
        self.take(order.tenant_id, {"order" if rehearsed else order.counts_as(): 1})
        return order

    def take(self, tenant_id: str, counts: Mapping[Counted, int]) -> None:
        """Count so many orders of a tenant of each kind, all or none of them.

        Raises RateLimited when they are too many just now, Invalid when they would always be, Conflict when too many of the
        tenant's jobs are unfinished.
        """
        for what, count in counts.items():
            if count > self._items[what].amount:
                rule = f"{count} orders at once are more than the limit of {self._items[what]}; send fewer"
                raise Invalid(rule, code="over_rate_limit")
        # Naming another tenant in the body must not use up that one's share.
        whose = caller.only_tenant() or tenant_id
        self._require_room(whose, sum(counts.values()))
        asked = [(self._items[what], f"{what}:{whose}", count) for what, count in counts.items()]
        refused = self._hit(asked)
        if refused is not None:
            item, wait_s = refused
            raise RateLimited(f"the limit of this tenant is {item}; try again in {wait_s} s", retry_after_s=wait_s)

    def _require_room(self, tenant_id: str, count: int) -> None:
        """Raise Conflict when so many more jobs would be too many. Orders of one moment may pass it together, by a few."""
        with db.session():
            unfinished = self._unfinished(tenant_id, self._jobs)
        if unfinished + count > self._jobs:
            raise Conflict(
                f"at most {self._jobs} jobs of a tenant may be unfinished; try again when some are done", code="too_many_jobs"
            )

    def _hit(self, asked: list[Asked]) -> Refused | None:
        """Return what refuses and for how many seconds, None when all are admitted."""
        try:
            with self._link.asking():
                refused = _ask(self._shared, asked)
        except redis.RedisError as error:
            if not self._away:
                log.warning("Redis does not answer: each process limits rates by itself until it does: %s", error)
            self._away = True
            return _ask(self._own, asked)
        if self._away:
            log.warning("Redis answers again: rates are limited for all processes together")
        self._away = False
        return refused


def _ask(limiter: MovingWindowRateLimiter, asked: list[Asked]) -> Refused | None:
    # Of several all are asked before any is counted: what one refuses must not use up the others.
    for admits in (limiter.test, limiter.hit)[len(asked) < 2 :]:
        for item, key, count in asked:
            if not admits(item, key, cost=count):
                free_at = limiter.get_window_stats(item, key).reset_time
                return item, max(1, math.ceil(free_at - time.time()))
    return None
