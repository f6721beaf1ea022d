"""Wake-ups over Redis: a job's id on the queue of its type. Losing one loses nothing; the scheduler announces again."""

import logging
from collections.abc import Iterable

import redis
from rq import Queue
from rq.job import Job

from shim import redis_link
from shim.db import database
from shim.jobs.catalog import ACTIONS

log = logging.getLogger(__name__)

# RQ's own limit stands above every action's, which ends its run properly: a message wakes for whatever job is best by then.
_TIMEOUT_S = max(action.timeout_s for action in ACTIONS.values()) + 1800

# What a worker runs when it is woken; named by string because workers stand above.
WAKE = "shim.worker.run.wake"


# So many wake-ups on a queue are not too many.
FEW = 3


class Wakeups:
    """Says on Redis that there is work. Never raises: the job's row is safe by then."""

    def __init__(self, redis_url: str) -> None:
        # A request must not hang on a dead Redis: one quick try, the scheduler will announce again.
        self._link = redis_link.of(redis_url)
        self._redis = redis.Redis.from_url(redis_url, health_check_interval=0, **redis_link.quick())
        self._queues = {a.type: Queue(a.queue, connection=self._redis) for a in ACTIONS.values()}

    def announce(self, jobs: Iterable[tuple[str, str]]) -> None:
        """Wake a worker for each (id, type), inside a transaction once it is committed: nobody can claim them before.

        When the process dies in between, the scheduler announces them.
        """
        told = list(jobs)
        database.after_commit(lambda: self.tell(told))

    def tell(self, jobs: Iterable[tuple[str, str]]) -> bool:
        """Wake a worker for each (id, type) now. False when Redis could not be told."""
        try:
            with self._link.asking():
                self._enqueue(jobs)
        except redis.RedisError as error:
            log.warning("cannot wake a worker, the scheduler will: %s", error)
            return False
        return True

    def _enqueue(self, jobs: Iterable[tuple[str, str]]) -> None:
        for job_id, type in jobs:
            self._queues[type].enqueue_call(
                WAKE,
                args=(job_id,),
                description=job_id,
                timeout=_TIMEOUT_S,
                result_ttl=0,
                failure_ttl=60,
            )

    def nudge(self, jobs: Iterable[tuple[str, str]], places: int) -> None:
        """Wake as many workers as there are places, for the first of the jobs that somebody may be free for.

        Where wake-ups wait already, all workers of that queue are at work, or about to take them: the first who is free takes
        the best job by then. A few more do no harm, since one may be on its way to another job; more would be found empty, as
        would a second one for the same job.
        """
        try:
            with self._link.asking():
                for job_id, type in jobs:
                    if places <= 0:
                        return
                    waiting = self._first_waiting(type)
                    if len(waiting) < FEW and job_id not in waiting:
                        self._enqueue([(job_id, type)])
                    places -= not waiting
        except redis.RedisError as error:
            log.warning("cannot wake a worker, the scheduler will: %s", error)

    def waiting(self, type: str) -> int:
        """Return how many wake-ups of this type nobody has taken yet. Raises redis.RedisError."""
        return int(self._queues[type].count)

    def _first_waiting(self, type: str) -> list[str]:
        """Return for which jobs the first few wake-ups of this type are that nobody has taken yet. Raises redis.RedisError."""
        messages = self._queues[type].get_job_ids(0, FEW)
        asked = self._redis.pipeline(transaction=False)
        for message in messages:
            asked.hget(Job.key_for(message), "description")
        # What a worker took meanwhile may have none any more.
        return [(said or b"").decode() for said in asked.execute()]

    def answers(self) -> bool:
        """Return whether Redis answers."""
        try:
            return bool(self._redis.ping())
        except redis.RedisError:
            return False
