"""Reading Proxmox's text files: container confs, the pools, the address file."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import unquote

OWNER = r"cloudpod tenant=([A-Za-z0-9][A-Za-z0-9._:-]*) pod=(-|[A-Za-z0-9][A-Za-z0-9._:-]*)"
MARKER = re.compile(OWNER + r"\s*")
HOST_KEY = re.compile(r"host-key (ssh-[a-z0-9-]+ [A-Za-z0-9+/]+=*)")
RESTORE = re.compile(r"restored job=(-|[A-Za-z0-9][A-Za-z0-9_-]*) archive=(\S+)")
NOTE = re.compile(r"restoring: job=\S+ archive=(\S+) tenant=(\S+) pod=(\S+) was=(?:running|stopped) begun=(yes|no)")
SNAPSHOT_MARKER = re.compile(OWNER + r" job=(-|[A-Za-z0-9][A-Za-z0-9_-]*)\s*")
PENDING = "pve:pending"
SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)([KMGT]?)")
GB_PER_UNIT = {"": 1 / 1024**3, "K": 1 / 1024**2, "M": 1 / 1024, "G": 1, "T": 1024}
ADDRESS_LINE = re.compile(r"[0-9.]+[ \t]+([1-9][0-9]{2,8})[ \t]+\S+[ \t]+(\S+)[ \t]+(active|reserved:\S+)[ \t]*")


@dataclass
class Snapshot:
    """One snapshot's section: what Proxmox notes of it, and its description's lines."""

    keys: dict[str, str] = field(default_factory=dict)
    description: list[str] = field(default_factory=list)

    def job(self) -> str | None:
        """Return the job that our note names, or None."""
        found = SNAPSHOT_MARKER.fullmatch(self.description[0]) if self.description else None
        return found[3] if found and found[3] != "-" else None


@dataclass
class Conf:
    """One container's conf: its current section, what waits for its next start, its description's lines and snapshots."""

    current: dict[str, str] = field(default_factory=dict)
    pending: dict[str, str | None] = field(default_factory=dict)
    description: list[str] = field(default_factory=list)
    snapshots: dict[str, Snapshot] = field(default_factory=dict)

    def owner(self) -> dict[str, str | None] | None:
        """Return tenant and pod as our marker in the description names them, or None when there is none."""
        for line in self.description:
            if found := MARKER.fullmatch(line):
                return {"tenant": found[1], "pod": None if found[2] == "-" else found[2]}
        return None

    def host_key(self) -> str | None:
        """Return the guest's SSH host key, or None when it is not known."""
        found = [match[1] for line in self.description if (match := HOST_KEY.fullmatch(line))]
        return found[-1] if found else None

    def restored(self) -> dict[str, str | None] | None:
        """Return job and archive of the last restore, or None."""
        found = [match for line in self.description if (match := RESTORE.fullmatch(line))]
        return {"job": None if found[-1][1] == "-" else found[-1][1], "archive": found[-1][2]} if found else None

    def is_bare(self) -> bool:
        """Return whether this is what ``pct create`` writes first to hold the vmid, or what ``pct unlock`` makes of it."""
        return self.current in ({}, {"lock": "create"})

    def flag(self, key: str) -> bool:
        """Return a boolean key; absent means no."""
        return self.current.get(key) == "1"

    def number(self, key: str, default: int | None = None) -> int | None:
        """Return a whole-number key, or ``default``."""
        value = self.current.get(key, "")
        return int(value) if value.isdecimal() else default

    def options(self, key: str) -> dict[str, str]:
        """Return a comma list such as ``net0`` as a dict; a first word without ``=`` stands under ``volume``."""
        words = self.current.get(key, "").split(",")
        pairs = (word.split("=", 1) if "=" in word else ("volume", word) for word in words if word)
        return dict(pairs)


def parse_conf(text: str) -> Conf:
    """Given a conf file's text, return it read."""
    conf, section = Conf(), ""
    for line in text.splitlines():
        if line.startswith("[") and line.rstrip().endswith("]"):
            section = line.strip()[1:-1]
            if section != PENDING:
                conf.snapshots.setdefault(section, Snapshot())
        elif line.startswith("#") and section != PENDING:
            lines = conf.snapshots[section].description if section else conf.description
            lines.append(unquote(line[1:]))
        elif ":" in line:
            key, value = (part.strip() for part in line.split(":", 1))
            _store(conf, section, key, value)
    return conf


def _store(conf: Conf, section: str, key: str, value: str) -> None:
    if section == "":
        # lxc.* keys may stand several times.
        conf.current[key] = f"{conf.current[key]}\n{value}" if key in conf.current else value
    elif section != PENDING:
        conf.snapshots[section].keys[key] = value
    elif key == "delete":
        conf.pending.update(dict.fromkeys(filter(None, value.split(","))))
    else:
        conf.pending[key] = value


@dataclass
class Note:
    """What a restore in place has noted outside the conf (note.bash): from which archive, whose pod, which disk it had."""

    archive: str
    owner: dict[str, str | None]
    begun: bool
    volume: str | None

    def hinders(self, conf: Conf | None) -> bool:
        """Return whether the restore is not through; one that never began has left the conf as it was."""
        if conf is None or conf.is_bare():
            return True
        if conf.owner() != self.owner:  # another pod, made since
            return False
        return self.begun or conf.current.get("lock") == "create" or conf.options("rootfs").get("volume") != self.volume


def parse_note(text: str) -> Note | None:
    """Given a note's text, return it read; None when it is none."""
    head, _, rest = text.partition("\n")
    found = NOTE.fullmatch(head)
    if not found:
        return None
    owner: dict[str, str | None] = {"tenant": found[2], "pod": found[3]}
    return Note(found[1], owner, found[4] == "yes", parse_conf(rest).options("rootfs").get("volume"))


def size_in_gb(text: str) -> int | float | None:
    """Given a size such as ``8G`` or ``1536M``, return it in GB, whole where it is whole; None when it is none."""
    found = SIZE.fullmatch(text)
    if not found:
        return None
    gb = float(found[1]) * GB_PER_UNIT[found[2]]
    return int(gb) if gb == int(gb) else round(gb, 3)


def pool_members(text: str, pool: str) -> set[int]:
    """Given user.cfg, return the vmids of one pool."""
    for line in text.splitlines():
        fields = line.split(":")
        if fields[:2] == ["pool", pool] and len(fields) > 3:
            return {int(vmid) for vmid in fields[3].split(",") if vmid.isdecimal()}
    return set()


@dataclass
class AddressLine:
    """A line of ours in the address file: whose it is, and whether its create is not known to be complete."""

    tenant: str
    reserved: bool


def address_lines(text: str) -> dict[int, AddressLine]:
    """Given the address file, return vmid → its line of ours; a reserved one where there are two."""
    found: dict[int, AddressLine] = {}
    for line in text.splitlines():
        match = ADDRESS_LINE.fullmatch(line)
        if match and (match[3] != "active" or int(match[1]) not in found):
            found[int(match[1])] = AddressLine(match[2], match[3] != "active")
    return found


def conf_files(pve_dir: str) -> Iterator[tuple[int, str, str, str]]:
    """Yield vmid, node, kind (``lxc`` or ``qemu-server``) and path of every guest of every node."""
    nodes = os.path.join(pve_dir, "nodes")
    for node in sorted(_names(nodes)):
        for kind in ("lxc", "qemu-server"):
            folder = os.path.join(nodes, node, kind)
            for name in _names(folder):
                stem, dot, suffix = name.rpartition(".")
                if dot and suffix == "conf" and stem.isdecimal():
                    yield int(stem), node, kind, os.path.join(folder, name)


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
