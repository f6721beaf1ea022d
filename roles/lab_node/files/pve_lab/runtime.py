"""What runs: `/proc/net/unix` and cgroup v2 files, as a real node shows them."""

from __future__ import annotations

import os
import time

from .conf import Section
from .files import held, read_text, remove_tree, write_text
from .lab import Lab

MIB = 1024 * 1024
NET_UNIX_HEADER = "Num       RefCount Protocol Flags    Type St Inode Path\n"
# Above the kernel's largest pid (2^22), so that nobody who trusts cgroup.procs can hit a process of this machine.
FIRST_PID = 1 << 22


def running_vmids(lab: Lab) -> set[int]:
    """Return the vmids of the containers that run."""
    found = set()
    for line in read_text(lab.path("run/net-unix")).splitlines():
        path = line.rpartition(" ")[2]
        if path.startswith("@/var/lib/lxc/") and path.endswith("/command"):
            found.add(int(path.split("/")[4]))
    return found


def is_running(lab: Lab, vmid: int) -> bool:
    """Return whether one container runs."""
    return _socket(vmid) in read_text(lab.path("run/net-unix"))


def start(lab: Lab, vmid: int, section: Section) -> None:
    """Make a container's cgroup and its command socket appear."""
    make_cgroup(lab, vmid, section)
    add_lines(lab, [vmid])


def stop(lab: Lab, vmid: int) -> None:
    """Make a container's command socket and its cgroup disappear."""
    _rewrite_net_unix(lab, [vmid], [])
    remove_tree(cgroup(lab, vmid))


def add_lines(lab: Lab, vmids: list[int]) -> None:
    """Make the command sockets of containers appear."""
    lines = [f"0000000000000000: 00000002 00000000 00010000 0001 01 {20000 + vmid} {_socket(vmid)}" for vmid in vmids]
    _rewrite_net_unix(lab, vmids, lines)


def _socket(vmid: int) -> str:
    """Return how a running container's line in /proc/net/unix ends."""
    return f"@/var/lib/lxc/{vmid}/command\n"


def _rewrite_net_unix(lab: Lab, vmids: list[int], lines: list[str]) -> None:
    """Replace the lines of some containers in net-unix."""
    path = lab.path("run/net-unix")
    replaced = {_socket(vmid) for vmid in vmids}
    with held(lab.path("run/lock/net-unix.lock")):
        before = read_text(path, NET_UNIX_HEADER).splitlines(keepends=True)
        kept = [line for line in before if line.rpartition(" ")[2] not in replaced]
        write_text(path, "".join(kept + lines))


# -- cgroup --------------------------------------------------------------------------------------------------------


def cgroup(lab: Lab, vmid: int) -> str:
    """Return the directory of a container's cgroup."""
    return lab.path("sys/fs/cgroup/lxc", str(vmid))


def make_cgroup(lab: Lab, vmid: int, section: Section) -> None:
    """Lay a fresh cgroup with the figures of a small, idle container."""
    folder = cgroup(lab, vmid)
    remove_tree(folder)
    os.makedirs(folder)
    for name, text in {**_limits(section), **_figures(vmid)}.items():
        with open(os.path.join(folder, name), "w", encoding="ascii") as handle:
            handle.write(text)


def update_limits(lab: Lab, vmid: int, section: Section) -> None:
    """Bring a running container's limits in line with its configuration."""
    for name, text in _limits(section).items():
        path = os.path.join(cgroup(lab, vmid), name)
        if read_text(path) != text:
            write_text(path, text)


def _limits(section: Section) -> dict[str, str]:
    """Return the limit files that follow from a configuration (memory.high as pve-container computes it)."""
    memory, swap = int(section.get("memory", 512)), int(section.get("swap", 512))
    high = (memory - 128) * MIB if memory >= 16 * 1024 else memory * 1024 * 1016
    cpulimit = float(section.get("cpulimit", 0))
    return {
        "memory.max": f"{memory * MIB}\n",
        "memory.high": f"{high}\n",
        "memory.swap.max": f"{swap * MIB}\n",
        "cpu.max": f"{int(cpulimit * 100000)} 100000\n" if cpulimit else "max 100000\n",
        "cpu.weight": f"{max(1, min(10000, int(section.get('cpuunits', 100))))}\n",
    }


def _figures(vmid: int) -> dict[str, str]:
    """Return the usage files of a container that has just started."""
    anon, cached = 24 * MIB + vmid % 64 * 16384, 40 * MIB
    user, system = 210_000, 190_000
    return {
        "memory.current": f"{anon + cached}\n",
        "memory.stat": f"anon {anon}\nfile {cached}\nkernel {2 * MIB}\nshmem 0\ninactive_file {cached // 2}\n",
        "memory.events": "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0\n",
        "memory.swap.current": "0\n",
        "cpu.stat": f"usage_usec {user + system}\nuser_usec {user}\nsystem_usec {system}\nnr_periods 0\n"
        "nr_throttled 0\nthrottled_usec 0\n",
        "pids.current": "12\n",
        "pids.max": "max\n",
        "cgroup.procs": f"{FIRST_PID + vmid}\n",
    }


def figure(lab: Lab, vmid: int, name: str, key: str = "") -> int:
    """Return a number from a cgroup file (of its line `key` where it has several); 0 where it is missing."""
    for line in read_text(os.path.join(cgroup(lab, vmid), name)).splitlines():
        name_or_value, _, value = line.partition(" ")
        if not key and name_or_value.isdigit():
            return int(name_or_value)
        if key and name_or_value == key:
            return int(value)
    return 0


def uptime_s(lab: Lab, vmid: int) -> int:
    """Return how long a container has run: its cgroup.procs is written once, at start."""
    try:
        return max(1, int(time.time() - os.stat(os.path.join(cgroup(lab, vmid), "cgroup.procs")).st_mtime))
    except FileNotFoundError:
        return 0


def guest_state(lab: Lab, vmid: int) -> str:
    """Return what systemd inside a running container says; a test writes another state into `run/guest/<vmid>`."""
    return read_text(lab.path("run/guest", str(vmid)), "running").strip()
