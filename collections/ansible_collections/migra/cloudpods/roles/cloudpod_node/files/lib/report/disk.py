"""How full the root disks of containers are: of ZFS by one call for the node, of others by their mounted file system."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

# refquota limits what the dataset itself holds, so that is what to set against it; `used` has its snapshots too.
ZFS_GET = ("zfs", "get", "-Hp", "-o", "name,property,value", "-t", "filesystem", "-d", "1", "referenced,refquota")
# A suspended pool answers never.
ZFS_TIMEOUT_S = 10
# File systems of the kernel's own. One that a process answers for (fuse) could keep the caller for ever.
BLOCK_FILE_SYSTEMS = frozenset({"ext4", "ext3", "xfs", "btrfs"})

Storages = dict[str, dict[str, str]]


class Disk(NamedTuple):
    """A disk's use and size in bytes; None for what nobody can tell."""

    used: int | None
    size: int | None


def parse_storages(text: str) -> Storages:
    """Given storage.cfg, return the settings of each storage by its name, its kind under ``type``."""
    found: Storages = {}
    current: dict[str, str] = {}
    for line in text.splitlines():
        kind, colon, name = line.partition(":")
        if line[:1].isspace():
            key, _, value = line.strip().partition(" ")
            current[key] = value.strip()
        elif colon and not line.startswith("#"):
            current = found[name.strip()] = {"type": kind.strip()}
    return found


def dataset(storages: Storages, volume: str) -> str | None:
    """Given a volume such as ``clients-main:subvol-9101-disk-0``, return its ZFS dataset; None when it has none."""
    name, _, path = volume.partition(":")
    settings = storages.get(name, {})
    if settings.get("type") != "zfspool" or "pool" not in settings or not path:
        return None
    # A linked clone's volume has its origin's name before its own.
    return f"{settings['pool']}/{path.rpartition('/')[2]}"


def zfs_disks(storages: Storages, volumes: Iterable[str]) -> dict[str, Disk]:
    """Return the disk of each volume that is a ZFS dataset, by the volume's name."""
    wanted = {volume: name for volume in volumes if (name := dataset(storages, volume))}
    parents = sorted({name.rpartition("/")[0] for name in wanted.values()})
    known = parse_zfs(_run_zfs([*ZFS_GET, *parents])) if parents else {}
    return {volume: known[name] for volume, name in wanted.items() if name in known}


def parse_zfs(text: str) -> dict[str, Disk]:
    """Given what ``zfs get -Hp`` printed of referenced and refquota, return the disk of each dataset."""
    figures: dict[str, dict[str, int]] = {}
    for line in text.splitlines():
        words = line.split("\t")
        if len(words) == 3 and words[2].isascii() and words[2].isdecimal():
            figures.setdefault(words[0], {})[words[1]] = int(words[2])
    return {name: Disk(each.get("referenced"), each.get("refquota") or None) for name, each in figures.items()}


def _run_zfs(argv: list[str]) -> str:
    """Return what it printed, also beside an error: a pool that is gone hides no other. Empty when it does not end."""
    try:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    except OSError:
        return ""
    try:
        return process.communicate(timeout=ZFS_TIMEOUT_S)[0]
    except subprocess.TimeoutExpired:
        process.kill()  # not waited for: what hangs in the kernel hears it only when that answers
        return ""


def mounted_disk(volume: str, pid: int | None) -> Disk | None:
    """Return the disk of a running container that has a file system of its own (an image, LVM); None when it shares one.

    The path leads to a directory of the kernel's, not of the guest's, so that no link of a guest's is followed.
    """
    if pid is None or not _is_image(volume):
        return None
    with suppress(OSError):
        with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="replace") as file:
            if root_file_system(file.read()) not in BLOCK_FILE_SYSTEMS:
                return None
        stat = os.statvfs(f"/proc/{pid}/root")
        return Disk((stat.f_blocks - stat.f_bfree) * stat.f_frsize, stat.f_blocks * stat.f_frsize)
    return None


def _is_image(volume: str) -> bool:
    return volume.rpartition("/")[2].rpartition(":")[2].startswith(("vm-", "base-"))


def root_file_system(mountinfo: str) -> str:
    """Given /proc/<pid>/mountinfo, return what kind of file system is at ``/``; the last one mounted there is seen."""
    kind = ""
    for line in mountinfo.splitlines():
        words = line.split(" ")
        if len(words) > 6 and words[4] == "/" and "-" in words[6:-1]:
            kind = words[words.index("-", 6) + 1]
    return kind
