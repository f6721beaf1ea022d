"""How many runs a worker's children have begun, in memory that they share with it.

A run that finds no stand-in is started plain, and nothing of ours notes that.
"""

import ctypes
import mmap

_runs = ctypes.c_long.from_buffer(mmap.mmap(-1, mmap.PAGESIZE))


def note() -> None:
    """Count a run of this process."""
    _runs.value += 1


def taken() -> int:
    """Return how many there were since this was last asked, by the worker while no child of it is at work."""
    runs, _runs.value = _runs.value, 0
    return runs
