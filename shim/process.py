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
from collections.abc import Callable, Iterable

import psutil

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_POLL_S = 0.05
# How long a killed process may take to go. One that hangs in the kernel, or is not ours to signal, is given up.
_KILL_S = 10.0

log = logging.getLogger(__name__)

# Says of a process whether it is to be left alone.
Spare = Callable[[psutil.Process], bool]


def clock() -> float:
    """Return the seconds of a clock that nobody sets, and that goes on while the host is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


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


def end_descendants(*, grace_s: float = 10.0, spare_ssh_masters: bool = False, spare: Spare | None = None) -> int:
    """End all processes below this one: first asked (a node script's trap cleans up), then killed; return how many there were.

    A shared SSH connection's master belongs to the run that opened it by birth only: others use it, so a run's end spares it;
    and those of which `spare` says so, but not what is below them.
    """
    asked: set[psutil.Process] = set()
    end_all(lambda: _below(spare), grace_s=grace_s, spare_ssh_masters=spare_ssh_masters, asked=asked)
    return len(asked)


def anything_lives(*, spare_ssh_masters: bool = False, spare: Spare | None = None) -> bool:
    """Return whether a process is below this one, such as could not be ended, but for those that are to be spared."""
    return bool(_living(_below(spare), spare_ssh_masters=spare_ssh_masters))


def _below(spare: Spare | None) -> list[psutil.Process]:
    try:
        # Asked first, since to find descendants all processes of the host are looked through.
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return []
    return [each for each in psutil.Process().children(recursive=True) if not (spare and spare(each))]


def end_all(
    find: Callable[[], Iterable[psutil.Process]],
    *,
    grace_s: float,
    spare_ssh_masters: bool = True,
    asked: set[psutil.Process] | None = None,
) -> list[psutil.Process]:
    """Ask the processes that `find` gives to end, then kill them; return those that live all the same.

    Looks again until none is left, since each that ends may hand over children of its own; or until it is clear that some
    cannot be ended. Those that were asked are noted in `asked`.
    """
    asked = set() if asked is None else asked
    began = time.monotonic()
    while living := _found(find, asked, spare_ssh_masters=spare_ssh_masters):
        kill = time.monotonic() >= began + grace_s
        if time.monotonic() > began + grace_s + _KILL_S:
            log.error("cannot end %s", ", ".join(f"{process.pid}" for process in living))
            return living
        for process in living:
            if kill or process not in asked:
                _signal(process, kill=kill)
                asked.add(process)
        time.sleep(_POLL_S)
    return []


def _found(
    find: Callable[[], Iterable[psutil.Process]], asked: set[psutil.Process], *, spare_ssh_masters: bool
) -> list[psutil.Process]:
    """Return what lives. Where something did, look twice: one that just becomes another program shows no mark meanwhile."""
    living = _living(find(), spare_ssh_masters=spare_ssh_masters)
    if not living and asked:
        time.sleep(_POLL_S)
        living = _living(find(), spare_ssh_masters=spare_ssh_masters)
    return living


def collect_zombies() -> None:
    """Take note of orphans that came to this process and ended. Not for a process whose own children others wait for."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _living(found: Iterable[psutil.Process], *, spare_ssh_masters: bool) -> list[psutil.Process]:
    living = []
    for process in found:
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
            # One that was stopped would hear of it only when it is continued.
            process.resume()
