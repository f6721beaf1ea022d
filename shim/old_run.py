"""Which process a run is, and the sure end of one that may have been left behind.

A run is the process that holds a job, with all that it started. Whoever finds its job again must know that it is dead before
anything is run anew.

| who finds it | how it knows |
|---|---|
| somebody of the same `host()` | the process is there (pid and start time) or not; what still lives is ended here |
| somebody elsewhere | the lease ran out and some more time passed, in which a run ends itself (`worker/watch.py`) |
| both | the node says `busy` while a script of it is at work |

What a process that was killed has started goes on without it, in sessions of its own and with another parent. It is known by
the job's name in its environment, which it has from ansible-playbook.
"""

import contextlib
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

from shim.process import end_all

# In the environment of all that a run starts: the job's id and, behind a dot, its attempt.
MARK = "MIGRA_CLOUDPODS_RUN"
# A node's script that is asked to end cleans up; whoever waits for it has other things to do.
_GRACE_S = 5.0
# Of /proc/<pid>/stat what follows the name, which may hold anything: the start time is the file's 22nd field.
_START_TIME = 19


@dataclass(frozen=True)
class Run:
    """A process among all that ever were: on which host, its pid, and when it began, in the clock ticks of that host."""

    host: str
    pid: int
    started: int


@cache
def host() -> str:
    """Return the name of those who see and may end each other's processes: of one kernel's boot, pid namespace and user.

    Hostnames would not do: two containers may have the same, and one that was started again has processes of other pids.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}:{Path('/proc/self/ns/pid').readlink()}:{os.getuid()}"
    except OSError:
        # Where /proc does not say it (systemd's ProcSubset=pid), nobody else's processes are taken for ours, or ours for gone.
        return f"unknown:{uuid.uuid4()}"


def current() -> Run:
    """Return the run that this process is."""
    return Run(host(), os.getpid(), _started(os.getpid()))


def lives(run: Run) -> bool:
    """Return whether a run of this host is still there."""
    return _find(run) is not None


def end(run: Run, job_id: str, attempt: int) -> bool:
    """End a run of this host, what is below it and what the job's runs up to this attempt left; return whether nothing lives.

    Others may have begun a later attempt meanwhile: that is left alone.
    """
    found = _find(run)
    if found is not None and found.pid == os.getpid():
        # Whoever runs a job and looks for its lost ones in one process is no old run of its own.
        return False
    tree = _below(found) if found else []
    if found is not None:
        # At once, so that it starts nothing more and writes nothing: it was asked to end long ago, by its own clock.
        with contextlib.suppress(psutil.NoSuchProcess):
            found.kill()
        tree.append(found)
    return not end_all(lambda: _with_those_below([*tree, *_marked(job_id, attempt)]), grace_s=_GRACE_S)


def end_marked(mark: str, *, grace_s: float) -> None:
    """End what this run of a job, or one before it, has left on this host, wherever it got to."""
    job_id, _, attempt = mark.partition(".")
    if attempt.isdecimal():
        end_all(lambda: _with_those_below(list(_marked(job_id, int(attempt)))), grace_s=grace_s)


def _find(run: Run) -> psutil.Process | None:
    try:
        process = psutil.Process(run.pid)
        same = _started(run.pid) == run.started and process.uids().real == os.getuid()
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
        return None


def _started(pid: int) -> int:
    # psutil's `create_time` moves when somebody sets the host's clock.
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[_START_TIME])


def _marked(job_id: str, attempt: int) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        # Others' environments cannot be read, and a process may end while it is looked at.
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            marked, _, number = process.environ().get(MARK, "").partition(".")
            if marked == job_id and number.isdecimal() and int(number) <= attempt:
                yield process


def _with_those_below(found: list[psutil.Process]) -> list[psutil.Process]:
    return list(dict.fromkeys(each for process in found for each in (process, *_below(process))))


def _below(process: psutil.Process) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.children(recursive=True)
    return []
