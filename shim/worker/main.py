"""The worker process: RQ's loop, made to survive Redis, and to leave no process behind when a run dies."""

import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import peewee
import redis
from rq import Queue, Worker
from rq.job import Job

from shim import db, process
from shim.config import Settings
from shim.errors import Unavailable
from shim.jobs.catalog import QUEUES
from shim.jobs.claim import expire
from shim.worker import run

log = logging.getLogger(__name__)

_RECONNECT_S = 0.5


class PodWorker(Worker):
    """An RQ worker that forks a child for each wake-up and cleans up after it."""

    max_connection_wait_time = 2.0

    def __init__(self, *args: Any, holder: str, stop_grace_s: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._holder = holder
        self._stop_grace_s = stop_grace_s
        self.stopping = False

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Run a wake-up in a child; afterwards end what the child left running and give up what it held."""
        try:
            super().execute_job(job, queue)
        except redis.RedisError as error:
            # The child needs no Redis: it claims, runs and writes its outcome in PostgreSQL. Let it finish.
            log.warning("Redis went away during a run: %s", error)
            self._wait_out()
            raise
        finally:
            left = process.end_descendants(spare_ssh_masters=True)
            if left:
                log.warning("ended %d processes that a run left behind", left)
            process.collect_zombies()
            self._give_up_leases()

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        """Stop after the present run. It gets some time; then RQ's forced stop ends it, and the scheduler settles its job."""
        self.stopping = True
        # RQ takes a second signal within a second for an echo of the first.
        timer = threading.Timer(max(1.5, self._stop_grace_s), os.kill, (os.getpid(), signal.SIGTERM))
        timer.daemon = True
        timer.start()
        # Noting the time in Redis is the last it does; the flags are set by then.
        with contextlib.suppress(redis.RedisError):
            super().request_stop(signum, frame)  # type: ignore[no-untyped-call]

    def subscribe(self) -> None:
        """Listen to no commands: jobs are stopped in the database, and a thread here would be forked with every run."""

    def unsubscribe(self) -> None:
        """Nothing was subscribed to."""

    def setup_work_horse_signals(self) -> None:
        """A child ends by its parent's word only, so that a signal to the whole group does not cut a run short."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def _wait_out(self) -> None:
        while self.horse_pid:
            with contextlib.suppress(InterruptedError):
                self.wait_for_horse()
                self._horse_pid = 0

    def _give_up_leases(self) -> None:
        try:
            with db.session():
                expire(self._holder)
        except (Unavailable, peewee.DatabaseError) as error:
            log.warning("cannot give up leases, they will run out: %s", error)


def main(settings: Settings, queues: tuple[str, ...] = QUEUES) -> None:
    """Work until told to stop."""
    process.become_subreaper()
    # ansible-playbook stands beside the interpreter that runs us.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    holder = f"{socket.gethostname()}.{os.getpid()}.{time.time_ns():x}"
    run.prepare(run.Context(settings=settings, name=holder, queues=queues))
    db.connect(settings.database_url, pool_size=2, patience=db.BACKGROUND)
    run.remove_old(settings.state_dir)
    while not _work(settings, holder, queues):
        time.sleep(_RECONNECT_S)


def _work(settings: Settings, holder: str, queues: tuple[str, ...]) -> bool:
    """Work until told to stop (True) or until Redis goes away (False)."""
    connection: Any = redis.Redis.from_url(settings.redis_url)
    worker = None
    try:
        worker = PodWorker(
            [Queue(name, connection=connection) for name in queues],
            # RQ refuses a name it saw before; the jobs' holder stays the same.
            name=f"{holder}.{time.time_ns():x}",
            connection=connection,
            holder=holder,
            stop_grace_s=settings.stop_grace_s,
        )
        worker.work(logging_level="WARNING")
    except redis.RedisError as error:
        log.warning("Redis does not answer (%s), trying again", error)
    return worker is not None and worker.stopping
