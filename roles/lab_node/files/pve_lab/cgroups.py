"""The kernel's limits and figures of a real container, in cgroup v1 (a hierarchy per controller) or v2 (one for all)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from .conf import Section
from .errors import ParameterError
from .files import read_text

ROOT = "/sys/fs/cgroup"
MIB = 1024 * 1024
PERIOD_US = 100_000
# (controller, file, value)
Limit = tuple[str, str, str]


def is_unified() -> bool:
    """Return whether this machine has cgroup v2 only."""
    return os.path.exists(f"{ROOT}/cgroup.controllers")


def limits(vmid: int, section: Section, cpus: list[int], unified: bool) -> list[Limit]:
    """Return the limits that follow from a configuration."""
    memory, swap = int(section.get("memory", 512)), int(section.get("swap", 512))
    cpulimit = float(section.get("cpulimit", 0))
    quota = int(cpulimit * PERIOD_US)
    units = int(section.get("cpuunits", 100))
    cpuset = ("cpuset", "cpuset.cpus", _cpuset(vmid, int(section.get("cores", 0)), cpus))
    if unified:
        # memory.high as pve-container computes it.
        high = (memory - 128) * MIB if memory >= 16 * 1024 else memory * 1024 * 1016
        return [
            ("memory", "memory.max", str(memory * MIB)),
            ("memory", "memory.high", str(high)),
            ("memory", "memory.swap.max", str(swap * MIB)),
            ("cpu", "cpu.max", f"{quota or 'max'} {PERIOD_US}"),
            ("cpu", "cpu.weight", str(max(1, min(10000, units)))),
            cpuset,
        ]
    return [
        ("memory", "memory.limit_in_bytes", str(memory * MIB)),
        ("memory", "memory.memsw.limit_in_bytes", str((memory + swap) * MIB)),
        ("cpu", "cpu.cfs_quota_us", str(quota or -1)),
        ("cpu", "cpu.shares", str(max(2, units * 1024 // 100))),
        cpuset,
    ]


def _cpuset(vmid: int, cores: int, cpus: list[int]) -> str:
    """Return the processors of a container: as many as it has cores, other ones for its neighbour."""
    count = min(cores, len(cpus)) or len(cpus)
    return ",".join(str(each) for each in sorted(cpus[(vmid + number) % len(cpus)] for number in range(count)))


def roots() -> list[str]:
    """Return where hierarchies are mounted: the one of v2, or those of v1 with the v2 tree beside them."""
    return [ROOT, *(entry.path for entry in os.scandir(ROOT) if entry.is_dir(follow_symlinks=False))]


def remove(vmid: int) -> None:
    """Remove the groups of a stopped container: lxc leaves them when a start fails, and the next one then fails too."""
    for root in roots():
        for parent in ("lxc", "lxc.monitor", "lxc.pivot"):
            remove_empty(f"{root}/{parent}/{vmid}")


def remove_empty(folder: str) -> None:
    """Remove a group and those below it that hold nobody."""
    for path, _folders, _names in os.walk(folder, topdown=False):
        with contextlib.suppress(OSError):  # a process is in it
            os.rmdir(path)


def folder(controller: str, vmid: int) -> str:
    """Return the directory of a container's cgroup."""
    return f"{ROOT}/lxc/{vmid}" if is_unified() else f"{ROOT}/{controller}/lxc/{vmid}"


def apply(vmid: int, wanted: list[Limit]) -> None:
    """Give a running container these limits; what the kernel refuses is said as Proxmox says it."""
    for controller, name, value in _ordered(vmid, wanted):
        path = os.path.join(folder(controller, vmid), name)
        if not os.path.exists(path):  # a kernel without that controller, or without swap accounting
            continue
        try:
            _write_cpuset(path, value) if name == "cpuset.cpus" else _write(path, value)
        except OSError as error:
            key = controller if controller == "memory" else "cores"
            raise ParameterError({key: f"unable to hotplug {key}: {error.strerror}"}) from None


def _ordered(vmid: int, wanted: list[Limit]) -> list[Limit]:
    """Return the limits in an order that v1 accepts: memory may at no time exceed memory and swap together."""
    now = read_text(os.path.join(folder("memory", vmid), "memory.limit_in_bytes"), "")
    first, second, *others = wanted
    if now.strip().isdigit() and first[1] == "memory.limit_in_bytes" and int(first[2]) > int(now):
        return [second, first, *others]
    return wanted


def _write(path: str, value: str) -> None:
    """Write one limit. Unbuffered, so that the kernel's refusal is raised here."""
    with open(path, "wb", buffering=0) as handle:
        handle.write(value.encode())


def _write_cpuset(path: str, value: str) -> None:
    """Give a cpuset other processors: in v1 no group below it may have one that it has not."""
    if is_unified():
        _write(path, value)
        return
    before = read_text(path).strip()
    _write(path, f"{before},{value}" if before else value)
    for group in sorted(_below(os.path.dirname(path)), reverse=True):
        _write(os.path.join(group, "cpuset.cpus"), value)
    _write(path, value)


def _below(group: str) -> Iterator[str]:
    """Return the groups below a group."""
    for path, folders, _names in os.walk(group):
        yield from (os.path.join(path, each) for each in folders)


def figures(vmid: int) -> dict[str, int]:
    """Return a running container's memory without file cache and its swap, in bytes."""
    if is_unified():
        used, cache = _number("memory.current", vmid), _field("file", vmid)
        return {"mem": max(0, used - cache), "swap": _number("memory.swap.current", vmid)}
    used, cache = _number("memory.usage_in_bytes", vmid), _field("total_cache", vmid)
    return {"mem": max(0, used - cache), "swap": _field("total_swap", vmid)}


def _number(name: str, vmid: int) -> int:
    text = read_text(os.path.join(folder("memory", vmid), name)).strip()
    return int(text) if text.isdigit() else 0


def _field(key: str, vmid: int) -> int:
    for line in read_text(os.path.join(folder("memory", vmid), "memory.stat")).splitlines():
        name, _, value = line.partition(" ")
        if name == key:
            return int(value)
    return 0
