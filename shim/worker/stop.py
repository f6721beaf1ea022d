"""Being told to stop by SIGTERM or SIGINT: the first lets the run end within its grace, a second ends it at once."""

import os
import signal

from shim.process import clock
from shim.worker.watch import Watch

# Who stops a process group or a control group often tells its first process twice.
ECHO_S = 1.0


class Stop:
    """Whether a worker process was told to stop, and through its watch from when on the run in its child must."""

    def __init__(self, watch: Watch, grace_s: float) -> None:
        self.watch = watch
        self.told = False
        self._grace_s = grace_s
        self._first = 0.0

    def listen(self) -> None:
        """Hear of it while RQ does not."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.tell)

    def begin_anew(self) -> None:
        """Forget what was said to the last run only."""
        self.watch.clear()
        if self.told:
            self.watch.stop_at(self._first + self._grace_s)

    def tell(self, *_: object) -> None:
        """Take a signal, in the worker or in the child that runs a job."""
        if not self.told:
            self.told, self._first = True, clock()
            self.watch.stop_at(self._first + self._grace_s)
        elif clock() > self._first + ECHO_S and os.getpid() == self.watch.worker_pid:
            self.watch.stop_at(clock())
