"""This node as seen from its files. Everything is read once; no process is started."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import NamedTuple

from confs import AddressLine, Conf, Note, address_lines, conf_files, parse_conf, parse_note, pool_members

SOCKET = re.compile(r"@/var/lib/lxc/([0-9]+)/command$", re.MULTILINE)
VZDUMP = "vzdump"  # the snapshot of a backup under way, which is nobody's
CLUSTER_NAME = re.compile(r"^\s*cluster_name:\s*(\S+)", re.MULTILINE)
HOLDER = re.compile(r"([0-9]+) (\S+) (\S+) (\S+)\s*")


class OutsidePool(Exception):
    """A container was asked for that is not in the pool."""


class Guest(NamedTuple):
    """Where a guest's conf stands."""

    node: str
    kind: str
    path: str


class Node:
    """What the files of a node say. ``environment`` names them, as the script exports it."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.name = environment["NODE"]
        self.pool = environment["POOL"]
        self.backup_storage = environment.get("ARCHIVES_OF", "")
        self.cgroup_dir = environment["CGROUP_DIR"]
        self._pve_dir = environment["PVE_DIR"]
        self._ipam_file = environment["IPAM_FILE"]
        self._lock_dir = environment["LOCK_DIR"]
        self._notes_dir = os.path.join(environment["STATE_DIR"], "restoring")
        self._vzdump_lock = environment["VZDUMP_LOCK"]
        self._net_unix = environment["NET_UNIX"]
        # Only cloudpod-info.sh hands these over.
        self.version = environment.get("VERSION")
        self.storage = environment.get("STORAGE")
        self.proc_dir = environment.get("PROC_DIR", "/proc")

    def head(self) -> dict:
        """Return what the node is: its name, its pool, its cluster, and whose scripts it has."""
        return {"node": self.name, "pool": self.pool, "cluster": self.cluster(), "version": self.version}

    def cluster(self) -> dict | None:
        """Return the name and the nodes of the cluster this node is in; None when it is in none."""
        found = CLUSTER_NAME.search(read_text(os.path.join(self._pve_dir, "corosync.conf")))
        if not found:
            return None
        return {"name": found[1], "nodes": sorted(os.listdir(os.path.join(self._pve_dir, "nodes")))}

    def elsewhere(self) -> list[dict]:
        """Return the pool's containers on other nodes of the cluster, by vmid."""
        there = {vmid: guest.node for vmid, guest in self.guests.items() if guest.kind == "lxc" and guest.node != self.name}
        return [{"vmid": vmid, "node": node} for vmid, node in sorted(there.items()) if vmid in self.members]

    @cached_property
    def guests(self) -> dict[int, Guest]:
        """Every guest of the cluster by vmid."""
        return {vmid: Guest(node, kind, path) for vmid, node, kind, path in conf_files(self._pve_dir)}

    @cached_property
    def members(self) -> set[int]:
        """The pool's vmids. A virtual machine may stand in a pool too; it is none of ours."""
        return pool_members(read_text(os.path.join(self._pve_dir, "user.cfg")), self.pool)

    @cached_property
    def running(self) -> set[int]:
        """The vmids whose command socket is listening here."""
        return {int(vmid) for vmid in SOCKET.findall(read_text(self._net_unix))}

    @property
    def storage_text(self) -> str:
        """What storages the cluster has."""
        return read_text(os.path.join(self._pve_dir, "storage.cfg"))

    @property
    def is_kernels(self) -> bool:
        """Whether what runs is read from the kernel's own list; from any other, pods are simulated."""
        return self._net_unix == "/proc/net/unix"

    @cached_property
    def _lines(self) -> dict[int, AddressLine]:
        return address_lines(read_text(self._ipam_file))

    def conf(self, vmid: int) -> Conf | None:
        """Return a container's conf, or None when there is none (any more)."""
        guest = self.guests.get(vmid)
        if guest is None:
            return None
        try:
            with open(guest.path, encoding="utf-8", errors="replace") as file:
                return parse_conf(file.read())
        except FileNotFoundError:
            return None

    def in_pool(self, vmid: int) -> bool:
        """Return whether it is a container of the pool."""
        return vmid in self.members and vmid in self.guests and self.guests[vmid].kind == "lxc"

    def is_unfinished(self, vmid: int, conf: Conf, busy: dict | None) -> bool:
        """Return whether a killed create or restore left it and nobody is at work on it."""
        if busy or self.guests[vmid].kind != "lxc":
            return False
        if self.restoring(vmid, conf):
            return True
        line, owner = self._lines.get(vmid), conf.owner()
        if line is None:
            return False
        # No more of a conf than pct writes first, or a whole one while its address is still reserved.
        return conf.is_bare() if owner is None else line.reserved and owner["tenant"] == line.tenant

    @cached_property
    def _notes(self) -> dict[int, Note]:
        """The notes of restores in place that are not through."""
        try:
            names = [name for name in os.listdir(self._notes_dir) if name.isdecimal()]
        except FileNotFoundError:
            return {}
        read = {int(name): parse_note(read_text(os.path.join(self._notes_dir, name))) for name in names}
        return {vmid: note for vmid, note in read.items() if note}

    def restoring(self, vmid: int, conf: Conf | None) -> Note | None:
        """Return the note of a restore that is not through, whether somebody is at work on it or not; None without one."""
        note = self._notes.get(vmid)
        return note if note and note.hinders(conf) else None

    def status(self, vmid: int) -> str:
        """Return ``running`` or ``stopped``; ``unknown`` for a container of another node."""
        if self.guests[vmid].node != self.name:
            return "unknown"
        return "running" if vmid in self.running else "stopped"

    def all_vmids(self) -> list[int]:
        """Return the vmids of the pool's containers on this node, and of those that may be unfinished."""
        here = {
            vmid
            for vmid, guest in self.guests.items()
            if guest.node == self.name and guest.kind == "lxc" and (vmid in self.members or vmid in self._lines)
        }
        return sorted(here | self._notes.keys())

    def busy(self, vmid: int) -> dict | None:
        """Return who holds a vmid's run lock, or None."""
        text = held_lock(os.path.join(self._lock_dir, str(vmid)))
        return None if text is None else parse_holder(text)

    @cached_property
    def _vzdump_works(self) -> bool:
        return held_lock(self._vzdump_lock) is not None

    def lock_is_stale(self, conf: Conf) -> bool:
        """Return whether a backup that was cut off left the container's lock; the scripts lift it before a change."""
        kind = conf.current.get("lock")
        of_backup = kind == "backup" or (kind in ("snapshot", "snapshot-delete") and VZDUMP in conf.snapshots)
        return of_backup and not self._vzdump_works


def held_lock(path: str) -> str | None:
    """Return the text of a lock file that somebody holds, None when nobody does.

    A shared lock is tried, so that two who look do not meet.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.read(fd, 512).decode("ascii", "replace")
    finally:
        os.close(fd)
    return None


def parse_holder(text: str) -> dict:
    """Given a held lock's text, return its holder. The text is empty for the instant between locking and writing."""
    found = HOLDER.fullmatch(text)
    if not found:
        return {"pid": None, "run": None, "script": None, "since": None}
    return {
        "pid": int(found[1]),
        "run": None if found[2] == "-" else found[2],
        "script": found[3],
        "since": found[4],
    }


def read_text(path: str) -> str:
    """Return a file's text; a file that is not there is empty."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def wanted(node: Node, vmids: Iterable[int] | None) -> list[int]:
    """Return the vmids to report, in order."""
    return node.all_vmids() if vmids is None else sorted(set(vmids))
