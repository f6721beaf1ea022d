"""What the kernel counts for a container, from its cgroup's files (cgroup v2)."""

from __future__ import annotations

import os
import time
from contextlib import suppress

BYTES_PER_MB = 1024 * 1024
# Where a container's first process may be: systemd inside makes scopes, other inits stay at the top.
PROCESS_LISTS = ("ns/init.scope/cgroup.procs", "ns/cgroup.procs", "init.scope/cgroup.procs", "cgroup.procs")


class Cgroup:
    """One container's cgroup folder. A file that is not there counts as zero."""

    def __init__(self, root: str, vmid: int) -> None:
        self._folder = os.path.join(root, str(vmid))

    def _read(self, name: str) -> str:
        try:
            with open(os.path.join(self._folder, name), encoding="ascii", errors="replace") as file:
                return file.read()
        except OSError:
            return ""

    def number(self, name: str) -> int | None:
        """Return the number a file holds; None for ``max`` or no file."""
        text = self._read(name).strip()
        return int(text) if text.isdecimal() else None

    def field(self, name: str, key: str) -> int:
        """Return one figure of a file of ``key number`` lines."""
        for line in self._read(name).splitlines():
            word, _, value = line.partition(" ")
            if word == key and value.isdecimal():
                return int(value)
        return 0

    def used_memory_mb(self) -> int:
        """Return memory without file cache, which which the kernel gives back when needed; pct shows the same."""
        used = (self.number("memory.current") or 0) - self.field("memory.stat", "file")
        return max(used, 0) // BYTES_PER_MB

    def memory_limit_mb(self) -> int | None:
        """Return the limit the kernel enforces, or None when there is none."""
        limit = self.number("memory.max")
        return None if limit is None else limit // BYTES_PER_MB

    def uptime_s(self) -> int:
        """Return how long its first process has run; where no process is listed, how long its cgroup has existed."""
        for name in PROCESS_LISTS:
            pids = self._read(name).split()
            if pids and pids[0].isdecimal():
                with suppress(OSError, ValueError, IndexError):
                    return process_age_s(int(pids[0]))
        with suppress(OSError):
            return max(int(time.time() - os.stat(self._folder).st_mtime), 0)
        return 0


def process_age_s(pid: int) -> int:
    """Return how long a process has run. Its start is counted in ticks since boot, as the 22nd word of its stat."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        # The second word is the program's name in brackets, and may hold blanks and brackets itself.
        after_name = file.read().rpartition(")")[2].split()
    return max(int(time.clock_gettime(time.CLOCK_BOOTTIME) - int(after_name[19]) / os.sysconf("SC_CLK_TCK")), 0)
