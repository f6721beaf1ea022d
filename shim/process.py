"""Ending a run's whole process tree.

ansible-core's workers sit in sessions of their own, so killing a process group leaves them and the node's script at work.
A process that is a *subreaper* inherits its orphaned grandchildren instead of init; every process of a run therefore stays
below the one that started it, and can be found and ended.
"""

import contextlib
import ctypes
import logging
import os
import signal
import time
from collections.abc import Callable

import psutil

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_POLL_S = 0.05
# How long a killed process may take to go. One that hangs in the kernel, or is not ours to signal, is given up.
_KILL_S = 10.0

log = logging.getLogger(__name__)


def become_subreaper() -> None:
    """Make orphans among this process's descendants its own children from now on. Linux only."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"cannot become a subreaper: {os.strerror(number)}")


def end_with_parent(number: signal.Signals) -> Callable[[], None]:
    """Return what a child does before it becomes its program: ask the kernel for this signal when its parent dies."""
    libc = ctypes.CDLL(None, use_errno=True)

    def ask() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)

    return ask


def end_descendants(*, grace_s: float = 10.0, spare_ssh_masters: bool = False) -> int:
    """End all processes below this one: first asked (a node script's trap cleans up), then killed; return how many there were.

    A shared SSH connection's master belongs to the run that opened it by birth only: others use it, so a run's end spares it.
    Looks again until none is left, since each that ends may hand over children of its own; or until it is clear that some
    cannot be ended.
    """
    asked: set[psutil.Process] = set()
    began = time.monotonic()
    while living := _living_descendants(spare_ssh_masters=spare_ssh_masters):
        kill = time.monotonic() > began + grace_s
        if time.monotonic() > began + grace_s + _KILL_S:
            log.error("cannot end %s", ", ".join(f"{process.pid}" for process in living))
            break
        for process in living:
            if kill or process not in asked:
                _signal(process, kill=kill)
                asked.add(process)
        time.sleep(_POLL_S)
    return len(asked)


def collect_zombies() -> None:
    """Take note of orphans that came to this process and ended. Not for a process whose own children others wait for."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _living_descendants(*, spare_ssh_masters: bool) -> list[psutil.Process]:
    living = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE and not (spare_ssh_masters and _is_ssh_master(process)):
                living.append(process)
    return living


def _is_ssh_master(process: psutil.Process) -> bool:
    # OpenSSH writes it over its arguments: "ssh: /path/of/the/socket [mux]".
    title = " ".join(process.cmdline())
    return title.startswith("ssh: ") and "[mux]" in title


def _signal(process: psutil.Process, *, kill: bool) -> None:
    # What is not ours to signal (sudo on this machine runs as root) ends when the process above it does.
    with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        if kill:
            process.kill()
        else:
            process.terminate()
