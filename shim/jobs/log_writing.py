"""Writing what a run prints to the table: every piece once, also when the database goes away in the middle of it."""

import time

from shim.jobs.log_models import CloudPodJobLog
from shim.jobs.log_text import Printed
from shim.jobs.models import CloudPodJob

# Somebody who reads along hardly sees the difference, and the database gets one statement for many tasks.
PAUSE_S = 0.5


class LogWriter:
    """One attempt's way to its job's log. `add` is for the run's thread, the rest for the thread that has the database."""

    def __init__(self, job: CloudPodJob) -> None:
        self._job = job
        self._printed = Printed()
        self._charged = False
        # Taken, and perhaps written: a connection may break after the commit and before we hear of it.
        self._taken: list[str] = []
        self._last = 0
        self._wrote = 0.0
        self._writing = False

    def add(self, text: str) -> None:
        """Note what was printed. Asks nobody and waits for nothing."""
        self._printed.add(text)

    def end(self) -> None:
        """Note that a run is over."""
        self._printed.end()

    def waits(self) -> bool:
        """Return whether something is to be written."""
        return self._writing or bool(self._taken) or self._printed.waits()

    def is_due(self) -> bool:
        """Return whether something is to be written, and the last time was long enough ago."""
        return self.waits() and time.monotonic() - self._wrote > PAUSE_S

    def write(self) -> None:
        """Write what waits. Raises what the database raises; then nothing is lost, and the next call goes on."""
        self._writing = True
        try:
            self._write()
        finally:
            self._writing = False

    def _write(self) -> None:
        if not self._charged:
            self._printed.charge(CloudPodJobLog.size_of(self._job.id))
            self._charged = True
        if self._taken and (last := CloudPodJobLog.last_of(self._job)) > self._last:
            # It was written after all.
            self._last, self._taken = last, []
        self._taken = self._taken or self._printed.take()
        if self._taken:
            # None: the job is over and another attempt's; nobody waits for these words.
            self._last = CloudPodJobLog.append(self._job, self._taken) or self._last
            self._taken = []
        self._wrote = time.monotonic()
