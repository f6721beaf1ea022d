"""The worker process: RQ's loop, made to survive Redis, to stop in time, and to leave no process behind when a run dies.

| it gets | it does |
|---|---|
| SIGTERM or SIGINT | takes no more; its run has `stop_grace_s` to end, then that is ended and its job left to others |
| the same again, more than a second later | that at once |
| SIGKILL | nothing: its run notices and leaves the job to others; where that was killed too, `jobs/reap.py` finds it |
"""

import contextlib
import logging
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import peewee
import redis
from rq import Queue, Worker
from rq.exceptions import StopRequested
from rq.executions import Execution
from rq.job import Job

from shim import db, process
from shim.config import Settings
from shim.errors import Unavailable
from shim.jobs import reap, state
from shim.jobs.catalog import QUEUES
from shim.jobs.queue import Wakeups
from shim.warm import begun
from shim.warm.keeper import Keeper
from shim.worker import on_node, run, starts
from shim.worker.run_directories import RunDirectories
from shim.worker.stop import Stop
from shim.worker.watch import ENDING_S, Watch

log = logging.getLogger(__name__)

_RECONNECT_S = 0.5
_LOOK_S = 0.1
# How often a worker looks whether its run hangs; what comes of it is in the table of `watch.py`.
_MONITOR_S = 3


class PodWorker(Worker):
    """An RQ worker that forks a child for each wake-up and cleans up after it."""

    max_connection_wait_time = 2.0

    def __init__(
        self,
        queues: list[Queue],
        *,
        holder: str,
        stop: Stop,
        wakeups: Wakeups,
        directories: RunDirectories,
        keeper: Keeper | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(queues, job_monitoring_interval=_MONITOR_S, **kwargs)
        self._holder = holder
        self._stop = stop
        self._wakeups = wakeups
        self._directories = directories
        self._keeper = keeper
        self._at_work = False

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Run a wake-up in a child; afterwards end what the child left running and give up what it held."""
        self._at_work = True
        try:
            super().execute_job(job, queue)
        except redis.RedisError as error:
            # The child needs no Redis: it claims, runs and writes its outcome in PostgreSQL. Let it finish.
            log.warning("Redis went away during a run: %s", error)
            self._wait_out()
            raise
        finally:
            self._clean_up()
            self._at_work = False

    def request_stop(self, *_: object) -> None:
        """Take no more; the present run gets some time."""
        self._stop.tell()
        self._stop_requested = True
        if not self._at_work:
            raise StopRequested

    def _install_signal_handlers(self) -> None:
        """Take signals from here on; we may have been told to stop since RQ began."""
        super()._install_signal_handlers()  # type: ignore[no-untyped-call]
        if self._stop.told:
            self._stop_requested = True

    def maintain_heartbeats(self, job: Job, execution: Execution) -> None:
        """Look after the run, every few seconds, and say in Redis that it goes on."""
        self._end_if_it_hangs()
        super().maintain_heartbeats(job, execution)

    def subscribe(self) -> None:
        """Listen to no commands: jobs are stopped in the database, and a thread here would be forked with every run."""

    def unsubscribe(self) -> None:
        """Nothing was subscribed to."""

    def collect_orphans(self, *_: object) -> None:
        """Take note of what came to this process, as subreaper or as a container's first, and ended while it is idle."""
        if not self._at_work:
            process.collect_zombies()

    def setup_work_horse_signals(self) -> None:
        """A child ends by its parent's word only, so that a signal to the whole group does not cut a run short."""
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, self._stop.tell)
        signal.signal(signal.SIGTERM, self._stop.tell)

    def _end_if_it_hangs(self) -> None:
        if self._stop.watch.hangs():
            log.error("the run in process %d does not end itself though it must: it is killed", self.horse_pid)
            self.kill_horse()

    def _wait_out(self) -> None:
        while self.horse_pid:
            with contextlib.suppress(ChildProcessError):
                if not os.waitpid(self.horse_pid, os.WNOHANG)[0]:
                    self._end_if_it_hangs()
                    time.sleep(_LOOK_S)
                    continue
            self._horse_pid = 0

    def _clean_up(self) -> None:
        hung = self._stop.watch.hangs()
        own = self._keeper.is_own if self._keeper else None
        left = process.end_descendants(grace_s=0.0 if hung else ENDING_S, spare_ssh_masters=True, spare=own)
        if left:
            log.warning("ended %d processes that a run left behind", left)
        self._stop.begin_anew()
        process.collect_zombies()
        if process.anything_lives(spare_ssh_masters=True, spare=own):
            # Nobody may begin what such a run left.
            _collect_lost(self._wakeups)
        self._give_up_jobs()
        self._directories.tidy()
        if self._keeper:
            starts.count(self._keeper.look(begun.taken()))

    def _give_up_jobs(self) -> None:
        try:
            with db.session():
                lost = state.give_up(self._holder, no_try=self._stop.told)
        except (Unavailable, peewee.DatabaseError) as error:
            log.warning("cannot give up what a run held, its lease will run out: %s", error)
            return
        if lost:
            self._wakeups.tell(lost)


def main(settings: Settings, queues: tuple[str, ...] = QUEUES) -> None:
    """Work until told to stop."""
    stop = Stop(Watch(), settings.stop_grace_s)
    stop.listen()
    process.become_subreaper()
    # ansible-playbook stands beside the interpreter that runs us.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    keeper = _keeper(settings)
    if keeper:
        os.environ["PATH"] = os.pathsep.join([str(keeper.bin), os.environ["PATH"]])
    holder = f"{socket.gethostname()}.{os.getpid()}.{time.time_ns():x}"
    run.prepare(run.Context(settings=settings, name=holder, queues=queues, watch=stop.watch))
    db.connect(settings.database_url, pool_size=2, patience=db.BACKGROUND)
    directories = on_node.directories(settings)
    directories.tidy()
    wakeups = Wakeups(settings.redis_url)
    _collect_lost(wakeups)
    try:
        while not stop.told:
            _work(settings, holder, queues, stop, wakeups, directories, keeper)
            if not stop.told:
                time.sleep(_RECONNECT_S)
    finally:
        if keeper:
            keeper.stop()


def _keeper(settings: Settings) -> Keeper | None:
    """Return what keeps Ansible warm; None where it is not to be."""
    if not settings.warm_ansible:
        return None
    return Keeper(settings.state_dir, lambda: on_node.environment(settings), settings.project_dir)


def _collect_lost(wakeups: Wakeups) -> None:
    """End what a worker of this host left that was killed, and put its jobs back: a scheduler elsewhere cannot."""
    try:
        with db.session():
            wakeups.tell(reap.collect_lost_here())
    except (Unavailable, peewee.DatabaseError) as error:
        log.warning("cannot look for lost jobs of this host, the scheduler will: %s", error)


def _work(
    settings: Settings,
    holder: str,
    queues: tuple[str, ...],
    stop: Stop,
    wakeups: Wakeups,
    directories: RunDirectories,
    keeper: Keeper | None,
) -> None:
    """Work until told to stop or until Redis goes away."""
    connection: Any = redis.Redis.from_url(settings.redis_url)
    try:
        worker = PodWorker(
            [Queue(name, connection=connection) for name in queues],
            # RQ refuses a name it saw before; the jobs' holder stays the same.
            name=f"{holder}.{time.time_ns():x}",
            connection=connection,
            holder=holder,
            stop=stop,
            wakeups=wakeups,
            directories=directories,
            keeper=keeper,
        )
        signal.signal(signal.SIGCHLD, worker.collect_orphans)
        worker.work(logging_level="WARNING")
    except redis.RedisError as error:
        log.warning("Redis does not answer (%s), trying again", error)
    except StopRequested:
        # Told while RQ was beginning or ending.
        log.debug("told to stop")
    finally:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        stop.listen()
