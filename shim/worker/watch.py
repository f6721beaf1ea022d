"""What a worker and the child that runs its job tell each other, in memory that both see: no lock, no pipe, no thread.

| who | tells | so that |
|---|---|---|
| the child | until when it holds its job | the worker ends it when it hangs and cannot notice itself that this is over |
| the worker | from when on the child is to stop | the child ends its run and leaves its job to others, instead of dying |

| seconds after the lease, or when the time to stop is over | what happens |
|---|---|
| 0 to 1 | the run notices, and asks what it started to end |
| 10 | the run kills what is left of it |
| 12 to 15 | the worker kills a run that did not even notice, and all below it |
| 20 (`state.RUN_ENDS_S`) | somebody on another host may be given the job |

All by the clock that goes on while a host is suspended.
"""

import ctypes
import math
import mmap
import os

from shim.process import clock

# What a run started may take so long to end when it is asked to.
ENDING_S = 10.0
HUNG_S = 12.0


class Watch:
    """Made by a worker before it forks."""

    def __init__(self) -> None:
        self.worker_pid = os.getpid()
        self._shared = (ctypes.c_double * 2).from_buffer(mmap.mmap(-1, mmap.PAGESIZE))
        self.clear()

    def clear(self) -> None:
        """Begin anew: nothing is held, and nobody said stop."""
        self._shared[:] = [math.inf, math.inf]

    def hold(self, until: float) -> None:
        """Note until when the job is held."""
        self._shared[0] = until

    def let_go(self) -> None:
        """Note that no job is held."""
        self._shared[0] = math.inf

    def hangs(self) -> bool:
        """Return whether the run in the child should have ended by now."""
        return bool(clock() > min(self._shared) + HUNG_S)

    def stop_at(self, moment: float) -> None:
        """Note when the worker's run is to be stopped; the earliest word counts."""
        self._shared[1] = min(self._shared[1], moment)

    def told_to_stop(self) -> bool:
        """Return whether the worker was told to stop, though there may be time left."""
        return not math.isinf(self._shared[1])

    def must_stop(self) -> str | None:
        """Return why the run in this process must be handed back, or None."""
        if clock() > self._shared[1]:
            return "its worker was told to stop"
        if os.getpid() != self.worker_pid and os.getppid() != self.worker_pid:
            return "its worker died"
        return None
