"""What the kernel counts for a container, from its cgroup's files: all in one folder (v2), or one per controller (v1)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from typing import NamedTuple

# Where a container's first process may be: systemd inside makes scopes, other inits stay at the top.
PROCESS_LISTS = ("ns/init.scope/cgroup.procs", "ns/cgroup.procs", "init.scope/cgroup.procs", "cgroup.procs")
# What v1 calls no limit: the largest number of whole pages, whatever the size of a page.
NO_LIMIT_V1 = 1 << 62
# A guest makes groups as it likes; so many are asked for their kills.
GROUPS_AT_MOST = 200

# Given a file's name, returns its text; empty when there is no such file.
Read = Callable[[str], str]


class Usage(NamedTuple):
    """One container's figures, memory and swap in bytes. None: this kernel does not count it, or there is no limit."""

    cpu_usage_s: float | None
    memory: int | None  # without file cache, which the kernel gives back when needed; pct shows the same
    memory_limit: int | None
    swap: int | None
    swap_limit: int | None
    oom_kills: int | None
    pids: int | None


def usage_v2(read: Read) -> Usage:
    """Given the files of a cgroup v2 folder, return its figures."""
    used = number(read("memory.current"))
    cpu_us = field(read("cpu.stat"), "usage_usec")
    return Usage(
        cpu_usage_s=None if cpu_us is None else round(cpu_us / 1_000_000, 3),
        memory=None if used is None else max(used - (field(read("memory.stat"), "file") or 0), 0),
        memory_limit=number(read("memory.max")),
        swap=number(read("memory.swap.current")),
        swap_limit=number(read("memory.swap.max")),
        oom_kills=field(read("memory.events"), "oom_kill"),
        pids=number(read("pids.current")),
    )


def usage_v1(read: Read) -> Usage:
    """Given the files of a container's cgroup v1 folders, return its figures. Swap is counted together with memory."""
    used, both = number(read("memory.usage_in_bytes")), number(read("memory.memsw.usage_in_bytes"))
    limit, both_limit = limit_v1(read("memory.limit_in_bytes")), limit_v1(read("memory.memsw.limit_in_bytes"))
    cpu_ns = number(read("cpuacct.usage"))
    return Usage(
        cpu_usage_s=None if cpu_ns is None else round(cpu_ns / 1_000_000_000, 3),
        memory=None if used is None else max(used - (field(read("memory.stat"), "total_cache") or 0), 0),
        memory_limit=limit,
        swap=None if used is None or both is None else max(both - used, 0),
        swap_limit=None if limit is None or both_limit is None else max(both_limit - limit, 0),
        oom_kills=field(read("memory.oom_control"), "oom_kill"),
        pids=number(read("pids.current")),
    )


def number(text: str) -> int | None:
    """Return the number a file holds; None for ``max`` or no file."""
    text = text.strip()
    return int(text) if text.isascii() and text.isdecimal() else None


def limit_v1(text: str) -> int | None:
    """Return a limit of v1; None when there is none."""
    limit = number(text)
    return None if limit is None or limit >= NO_LIMIT_V1 else limit


def field(text: str, key: str) -> int | None:
    """Return one figure of ``key number`` lines, the sum where it stands several times; None where it is missing."""
    pairs = (line.split(" ", 1) for line in text.splitlines() if " " in line)
    found = [value for name, value in pairs if name == key and value.isascii() and value.isdecimal()]
    return sum(map(int, found)) if found else None


class Cgroup:
    """One container's cgroup. ``root`` is the folder of v2's; v1's controllers are sought beside it.

    A kernel with v1 has a v2 tree at its side (``…/unified/lxc``) that knows the processes and counts nothing.
    """

    def __init__(self, root: str, vmid: int) -> None:
        above = os.path.dirname(root)
        self._v1 = os.path.dirname(above) if os.path.basename(above) == "unified" else above
        self._vmid = str(vmid)
        self._folder = os.path.join(root, self._vmid)

    def usage(self) -> Usage:
        """Return its figures, by the version that has them."""
        if os.path.exists(self._v1_path("memory.usage_in_bytes")):
            return usage_v1(self._read_v1)
        return usage_v2(lambda name: _text(os.path.join(self._folder, name)))

    def first_pid(self) -> int | None:
        """Return the pid of a first process, as this node counts; None where none is listed."""
        for folder in (self._folder, self._controller("systemd"), self._controller("pids")):
            for name in PROCESS_LISTS:
                pids = _text(os.path.join(folder, name)).split()
                if pids and pids[0].isdecimal():
                    return int(pids[0])
        return None

    def uptime_s(self) -> int:
        """Return how long its first process has run; where that is not seen, how long its cgroup has existed."""
        pid = self.first_pid()
        with suppress(OSError, ValueError, IndexError):
            if pid is not None:
                return process_age_s(pid)
        with suppress(OSError):
            return max(int(time.time() - os.stat(self._folder).st_mtime), 0)
        return 0

    def _controller(self, name: str) -> str:
        return os.path.join(self._v1, name, "lxc", self._vmid)

    def _v1_path(self, name: str) -> str:
        return os.path.join(self._controller(name.partition(".")[0]), name)

    def _read_v1(self, name: str) -> str:
        if name != "memory.oom_control":
            return _text(self._v1_path(name))
        # v1 counts a kill in the group it happened in, and not in those above it.
        groups = islice(_groups(self._controller("memory")), GROUPS_AT_MOST)
        return "".join(_text(os.path.join(group, name)) for group in groups)


def _groups(folder: str) -> Iterator[str]:
    """Yield a cgroup and those below it, from the top down."""
    return (path for path, _folders, _names in os.walk(folder))


def _text(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def process_age_s(pid: int) -> int:
    """Return how long a process has run. Its start is counted in ticks since boot, as the 22nd word of its stat."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        # The second word is the program's name in brackets, and may hold blanks and brackets itself.
        after_name = file.read().rpartition(")")[2].split()
    return max(int(time.clock_gettime(time.CLOCK_BOOTTIME) - int(after_name[19]) / os.sysconf("SC_CLK_TCK")), 0)
