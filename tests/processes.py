"""Questions about processes that may end while they are asked."""

from __future__ import annotations

import time
from contextlib import suppress

import psutil


def has_ended(process: psutil.Process | int | None) -> bool:
    """Return whether a process (or pid) has ended; nobody need have taken note of it yet."""
    try:
        found = process if isinstance(process, psutil.Process) else psutil.Process(process)
        return not found.is_running() or found.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def kill(process: psutil.Process | int) -> None:
    """Send SIGKILL and wait until it has ended; one that has ended already is left alone."""
    with suppress(psutil.NoSuchProcess):
        (process if isinstance(process, psutil.Process) else psutil.Process(process)).kill()
    deadline = time.monotonic() + 60
    while not has_ended(process):
        assert time.monotonic() < deadline, f"{process} does not end"
        time.sleep(0.02)
