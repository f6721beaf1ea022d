"""Holding a job while it runs: one thread that renews the lease and writes the run's progress.

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
from shim.jobs.models import CloudPodJob

log = logging.getLogger(__name__)

FLUSH_S = 2.0


class Lease:
    """A job held by this process. `lost` says why it must be let go, or is None."""

    def __init__(self, job: CloudPodJob, lease_s: float) -> None:
        self._job = job
        self._lease_s = lease_s
        self._progress: queue.Queue[str] = queue.Queue()
        self._stop = threading.Event()
        self._kick = threading.Event()
        self._held_until = time.monotonic() + lease_s
        self._lost: str | None = None
        # On behalf of whom the run is, and what its lines say, is so in this thread too.
        self._thread = threading.Thread(target=copy_context().run, args=(self._hold,), name=f"lease-{job.id}", daemon=True)

    def __enter__(self) -> "Lease":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._kick.set()
        self._thread.join()

    def progress(self, task: str) -> None:
        """Note that a task of the run began. Only queues: it is called from ansible-runner's event handler."""
        self._progress.put(db.storable(task))

    def flush(self) -> None:
        """Write the progress noted so far, so that what is written next comes after it. Gives up when the database is away."""
        self._kick.set()
        deadline = time.monotonic() + FLUSH_S
        while self._progress.unfinished_tasks and time.monotonic() < deadline:
            time.sleep(0.005)

    def lost(self) -> str | None:
        """Return why the run must end, None while the job is held."""
        if self._lost is None and time.monotonic() > self._held_until:
            # Somebody else may have been given the job by now; not to know is reason enough to stop.
            self._lost = "the lease could not be renewed in time"
        return self._lost

    def _hold(self) -> None:
        next_renewal = time.monotonic() + self._lease_s / 3
        while not self._stop.is_set():
            self._kick.wait(0.2)
            self._kick.clear()
            if self._progress.empty() and time.monotonic() < next_renewal:
                continue
            if self._write(renewal=time.monotonic() >= next_renewal):
                next_renewal = min(next_renewal, time.monotonic()) + self._lease_s / 3
        self._write(renewal=False)

    def _write(self, *, renewal: bool) -> bool:
        """Write what is queued, and renew if it is time; return whether the lease was renewed."""
        began = time.monotonic()
        try:
            with db.session():
                if renewal:
                    if not renew(self._job, lease_s=self._lease_s):
                        self._lost = "the job was given to another attempt"
                        return False
                    self._held_until = began + self._lease_s
                self._write_progress()
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
