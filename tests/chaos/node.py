"""What a lab node really has, read from its files and not by its scripts."""

from __future__ import annotations

import fcntl
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import psutil

_OWNER = re.compile(r"cloudpod tenant=(\S+) pod=(\S+)(?: job=(\S+))?")
DRILLS_FROM = 900_000_000


@dataclass
class Container:
    """A container of the pool."""

    vmid: int
    tenant: str
    pod: str
    runs: bool
    values: dict[str, str] = field(default_factory=dict)
    snapshots: dict[str, str] = field(default_factory=dict)  # name → the job that made it

    def size(self) -> tuple[int, int, int]:
        """Return cores, memory and swap in MiB."""
        return int(self.values["cores"]), int(self.values["memory"]), int(self.values["swap"])

    @property
    def ip(self) -> str:
        """Return its address."""
        found = re.search(r"\bip=([\d.]+)/", self.values.get("net0", ""))
        return found.group(1) if found else ""


class Node:
    """The node below a folder that stands for its `/`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def containers(self) -> dict[int, Container]:
        """Return the containers that bear our marker, by vmid."""
        found = (self._container(path) for path in (self._root / "etc/pve/lxc").glob("*.conf"))
        return {container.vmid: container for container in found if container is not None}

    def addresses(self) -> list[tuple[str, int, str]]:
        """Return (address, vmid, state) of each line of the IPAM file."""
        lines = (self._root / "etc/migra/ipam-cloudpods.txt").read_text().splitlines()
        words = [line.split() for line in lines if line.strip() and not line.startswith("#")]
        return [(line[0], int(line[1]), line[4]) for line in words]

    def archives(self) -> dict[str, tuple[str, str]]:
        """Return the pod and the job of each archive, by its volid."""
        folder = self._root / "mnt/vzdump-backups/dump"
        found = {}
        for path in folder.glob("vzdump-lxc-*.tar*"):
            if path.suffix in (".notes", ".log", ".protected"):
                continue
            notes = path.with_name(path.name + ".notes")
            owner = _OWNER.search(notes.read_text() if notes.exists() else "")
            found[f"vzdump-backups:backup/{path.name}"] = (owner[2], owner[3] or "") if owner else ("", "")
        return found

    def unfinished_archives(self) -> list[str]:
        """Return the names of what vzdump leaves when it is killed in the middle."""
        folder = self._root / "mnt/vzdump-backups/dump"
        return sorted(path.name for path in folder.iterdir() if path.suffix in (".dat", ".tmp"))

    def log(self) -> list[dict[str, Any]]:
        """Return the lines of its own log."""
        path = self._root / "log/migra-cloudpods.log"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def held_locks(self) -> dict[str, str]:
        """Return what the run locks say that somebody holds."""
        held = {}
        # Beside the locks a folder notes which runs were ended for good.
        for path in filter(Path.is_file, (self._root / "run/lock/cloudpods").iterdir()):
            with path.open() as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    held[path.name] = file.read().strip()
        return held

    def processes(self) -> list[psutil.Process]:
        """Return what runs of its scripts and commands."""
        return [process for process in psutil.process_iter() if self._is_of_node(process)]

    def named(self, script: str) -> list[psutil.Process]:
        """Return what runs of its scripts whose names begin so."""
        return [process for process in self.processes() if self._begins(process, script)]

    def _begins(self, process: psutil.Process, script: str) -> bool:
        try:
            return any(word.startswith(f"{self._root}/sbin/{script}") for word in process.cmdline()[:3])
        except psutil.Error:
            return False

    def _is_of_node(self, process: psutil.Process) -> bool:
        try:
            words = process.cmdline()
            return process.status() != psutil.STATUS_ZOMBIE and any(word.startswith(f"{self._root}/") for word in words)
        except psutil.Error:
            return False

    def _container(self, path: Path) -> Container | None:
        vmid, text = int(path.stem), path.read_text()
        main, *sections = re.split(r"^\[(?=.+\]$)", text, flags=re.MULTILINE)
        owner = _OWNER.search(_description(main))
        if owner is None:
            return None
        runs = f"@/var/lib/lxc/{vmid}/command\n" in (self._root / "run/net-unix").read_text()
        values = dict(_values(main))
        snapshots = {}
        for section in sections:
            made = _OWNER.search(_description(section))
            snapshots[section.split("]", 1)[0]] = (made[3] or "") if made else ""
        return Container(vmid, owner[1], owner[2], runs, values, snapshots)


def _description(section: str) -> str:
    return "\n".join(unquote(line[1:]) for line in section.splitlines() if line.startswith("#"))


def _values(section: str) -> Iterator[tuple[str, str]]:
    for line in section.splitlines():
        if not line.startswith("#") and ": " in line:
            key, _, value = line.partition(": ")
            yield key, value
