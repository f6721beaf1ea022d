"""Holding a job while it runs: one thread that renews the lease and writes the run's progress and what it prints.

It has a connection of its own; the run's own thread is busy in ansible-runner.
"""

import logging
import queue
import threading
import time
from contextvars import copy_context

import peewee

from shim import db
from shim.errors import Unavailable
from shim.jobs import events
from shim.jobs.claim import renew
from shim.jobs.log_writing import LogWriter
from shim.jobs.models import CloudPodJob
from shim.process import clock, end_descendants
from shim.worker.watch import ENDING_S, Watch

log = logging.getLogger(__name__)

FLUSH_S = 2.0
# So often is looked whether somebody asked for the job's end.
WATCH_S = 1.0


class Lease:
    """A job held by this process. `lost` says why its run must end, or is None.

    `since`, by `process.clock`, is a moment before its claim.
    """

    def __init__(self, job: CloudPodJob, lease_s: float, *, since: float | None = None, watch: Watch | None = None) -> None:
        self._job = job
        self._lease_s = lease_s
        self._progress: queue.Queue[str] = queue.Queue()
        self.log = LogWriter(job)
        self._stop = threading.Event()
        self._kick = threading.Event()
        self._watch = watch or Watch()
        self._hold_from(clock() if since is None else since)
        self._lost: str | None = None
        # Whoever has a job that is to be ended already does just that.
        self._can_be_cancelled = job.cancel_requested_at is None
        # On behalf of whom the run is, and what its lines say, is so in this thread too.
        self._thread = threading.Thread(target=copy_context().run, args=(self._hold,), name=f"lease-{job.id}", daemon=True)

    def __enter__(self) -> "Lease":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._kick.set()
        self._thread.join()
        self._watch.let_go()

    def progress(self, task: str) -> None:
        """Note that a task of the run began. Only queues: it is called from ansible-runner's event handler."""
        self._progress.put(db.storable(task))

    def flush(self) -> None:
        """Write what was noted so far, so that what is written next comes after it. Gives up when the database is away."""
        self._kick.set()
        deadline = time.monotonic() + FLUSH_S
        while (self._progress.unfinished_tasks or self.log.waits()) and time.monotonic() < deadline:
            time.sleep(0.005)

    def lost(self) -> str | None:
        """Return why the run must end, None while the job is held."""
        if self._lost is None and clock() > self._held_until:
            # Somebody else may have been given the job by now; not to know is reason enough to stop.
            self._lost = "the lease could not be renewed in time"
        return self._lost or self._watch.must_stop()

    def _hold_from(self, moment: float) -> None:
        # The database's own time for it began later: it ends after ours.
        self._held_until = moment + self._lease_s
        self._watch.hold(self._held_until)

    def _end_if_others_may_begin(self) -> None:
        """End what the run started, unasked: this process or its host was stopped for long, and goes on just now."""
        if clock() > self._held_until + ENDING_S and end_descendants(grace_s=0, spare_ssh_masters=True):
            log.warning("job %s: its lease ran out long ago; what it had started was killed", self._job.id)

    def _hold(self) -> None:
        next_renewal = clock() + self._lease_s / 3
        next_watch = clock() + WATCH_S
        while not self._stop.is_set():
            kicked = self._kick.wait(0.2)
            self._kick.clear()
            self._end_if_others_may_begin()
            if clock() >= next_watch:
                self._see_cancel()
                next_watch = clock() + WATCH_S
            if not (self._has_news(now=kicked) or clock() >= next_renewal):
                continue
            if self._write(renewal=clock() >= next_renewal):
                next_renewal = min(next_renewal, clock()) + self._lease_s / 3
        self._write(renewal=False)

    def _has_news(self, *, now: bool) -> bool:
        return not self._progress.empty() or (self.log.waits() if now else self.log.is_due())

    def _see_cancel(self) -> None:
        """Let the run end when somebody asked for the job's end."""
        if not self._can_be_cancelled:
            return
        try:
            with db.session():
                who = CloudPodJob.cancelled_by(self._job.id)
        except (peewee.DatabaseError, peewee.InterfaceError, Unavailable) as error:
            log.warning("job %s: cannot see whether it is cancelled, looking again: %s", self._job.id, error)
            return
        if who is not None and self._lost is None:
            self._lost = f"cancelled by {who}"

    def _write(self, *, renewal: bool) -> bool:
        """Write what is queued, and renew if it is time; return whether the lease was renewed."""
        began = clock()
        try:
            with db.session():
                if renewal:
                    if not renew(self._job, lease_s=self._lease_s):
                        self._lost = "the job was given to another attempt"
                        return False
                    self._hold_from(began)
                self._write_progress()
                self.log.write()
        except (peewee.DatabaseError, peewee.InterfaceError, Unavailable) as error:
            log.warning("job %s: cannot write to the database, trying again: %s", self._job.id, error)
            return False
        return renewal

    def _write_progress(self) -> None:
        while not self._progress.empty():
            task = self._progress.get()
            try:
                events.record_step(self._job, task, action="progress", attempt=self._job.attempt)
            finally:
                self._progress.task_done()
