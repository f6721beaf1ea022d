"""Storages (`/etc/pve/storage.cfg`) and the volumes in them. A subvolume is a directory; its quota lies in `.zfs`."""

from __future__ import annotations

import os
import re

from .errors import ParameterError, PveError
from .files import read_text, remove_tree, write_text
from .lab import Lab

# What one container's root file system takes of a storage, so that `pvesm status` moves as pods come and go.
SUBVOLUME_KIB = 400 * 1024
DEFAULT_CAPACITY_KIB = 1178599424
BASE_USED_KIB = 104857600
_SUBVOLUME = re.compile(r"(subvol|vm|base)-(\d+)-disk-(\d+)(\.subvol)?\Z")
_ARCHIVE = re.compile(r"vzdump-(?:lxc|qemu)-(\d+)-.*\.(tar(?:\.zst|\.gz|\.lzo)?)\Z")
_TEMPLATE = re.compile(r".+\.tar\.(zst|gz|xz)\Z")


class Storage:
    """One storage of the node."""

    def __init__(self, lab: Lab, kind: str, name: str, settings: dict[str, str]) -> None:
        self.lab, self.kind, self.name, self.settings = lab, kind, name, settings

    @property
    def content(self) -> list[str]:
        """Return what the storage may hold."""
        return self.settings.get("content", "").split(",")

    @property
    def disabled(self) -> bool:
        """Return whether the node's owner has switched it off."""
        return "disable" in self.settings

    @property
    def path(self) -> str:
        """Return the directory that holds its content."""
        return self.settings.get("path") or self.settings.get("mountpoint", "")

    @property
    def active(self) -> bool:
        """Return whether it can be used now."""
        return not self.disabled and os.path.isdir(self.path)

    def figures_kib(self) -> tuple[int, int, int]:
        """Return total, used and available in KiB."""
        total = self.lab.capacity_kib.get(self.name, DEFAULT_CAPACITY_KIB)
        files = [*self._files("backup", "dump", _ARCHIVE), *self._files("vztmpl", "template/cache", _TEMPLATE)]
        held = SUBVOLUME_KIB * len(self.subvolume_paths()) + sum(volume["size"] for volume in files) // 1024
        used = min(total, min(BASE_USED_KIB, total // 10) + held)
        return total, used, total - used

    # -- volumes ---------------------------------------------------------------------------------------------------

    def volumes(self) -> list[dict]:
        """Return the volumes, each with volid, name, path, format, type, size (bytes) and vmid, sorted by volid."""
        return sorted(
            [
                *self._subvolumes(),
                *self._files("backup", "dump", _ARCHIVE),
                *self._files("vztmpl", "template/cache", _TEMPLATE),
            ],
            key=lambda volume: volume["volid"],
        )

    def _subvolumes(self) -> list[dict]:
        return [
            {
                "volid": f"{self.name}:{name}",
                "path": path,
                "format": "subvol",
                "type": "rootdir",
                "size": refquota(path),
                "vmid": vmid,
            }
            for name, path, vmid in self.subvolume_paths()
        ]

    def subvolume_paths(self) -> list[tuple[str, str, int]]:
        """Return (name in a volid, path, vmid) of each subvolume."""
        found = [
            (f"{prefix}{name}", os.path.join(folder, name), _SUBVOLUME.match(name))
            for folder, prefix in self._subvolume_folders()
            for name in os.listdir(folder)
        ]
        return [(name, path, int(match[2])) for name, path, match in found if match]

    def _subvolume_folders(self) -> list[tuple[str, str]]:
        """Return the directories that hold subvolumes, with what stands before their names in a volid."""
        if "rootdir" not in self.content or not os.path.isdir(self.path):
            return []
        if self.kind == "zfspool":
            return [(self.path, "")]
        images = os.path.join(self.path, "images")
        vmids = os.listdir(images) if os.path.isdir(images) else []
        return [(os.path.join(images, vmid), f"{vmid}/") for vmid in vmids]

    def _files(self, kind: str, subfolder: str, pattern: re.Pattern[str]) -> list[dict]:
        folder = os.path.join(self.path, subfolder)
        if kind not in self.content or not os.path.isdir(folder):
            return []
        found = [self._file(kind, folder, match) for name in os.listdir(folder) if (match := pattern.match(name))]
        return [volume for volume in found if volume]

    def _file(self, kind: str, folder: str, match: re.Match) -> dict | None:
        """Return an archive or a template; None if it has been removed since the folder was read."""
        path = os.path.join(folder, match[0])
        try:
            size = os.stat(path).st_size
        except FileNotFoundError:
            return None
        vmid, form = (int(match[1]), match[2]) if kind == "backup" else (None, f"t{match[1]}")
        volid = f"{self.name}:{kind}/{match[0]}"
        return {"volid": volid, "path": path, "format": form, "type": kind, "size": size, "vmid": vmid}

    def volume_path(self, name: str) -> str:
        """Return the path of the volume of that name (what stands after the colon in a volid)."""
        for kind, subfolder in (("backup", "dump"), ("vztmpl", "template/cache")):
            if name.startswith(f"{kind}/"):
                return os.path.join(self.path, subfolder, os.path.basename(name))
        return os.path.join(self.path, name if self.kind == "zfspool" else f"images/{name}")

    def allocate(self, vmid: int, size: int) -> str:
        """Make a new subvolume for a container; return its volid. mkdir decides between two who want the same name."""
        if self.figures_kib()[2] < SUBVOLUME_KIB:
            raise PveError("zfs error: cannot create: out of space" if self.kind == "zfspool" else "out of space")
        for number in range(1000):
            name = f"subvol-{vmid}-disk-{number}"
            name = name if self.kind == "zfspool" else f"{vmid}/{name}.subvol"
            path = self.volume_path(name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            try:
                os.mkdir(path)
            except FileExistsError:
                continue
            set_refquota(path, size)
            return f"{self.name}:{name}"
        raise PveError(f"unable to allocate an image name for VM {vmid} in storage '{self.name}'")


def refquota(path: str) -> int:
    """Return the size limit of a subvolume in bytes."""
    return int(read_text(os.path.join(path, ".zfs/refquota"), "0"))


def set_refquota(path: str, size: int) -> None:
    """Set the size limit of a subvolume."""
    os.makedirs(os.path.join(path, ".zfs/snapshot"), exist_ok=True)
    write_text(os.path.join(path, ".zfs/refquota"), f"{size}\n")


def storages(lab: Lab) -> dict[str, Storage]:
    """Return the node's storages by name."""
    found: dict[str, Storage] = {}
    current: dict[str, str] = {}
    for line in read_text(lab.path("etc/pve/storage.cfg")).splitlines():
        kind, colon, name = line.partition(": ")
        if line[:1].isspace():
            key, _, value = line.strip().partition(" ")
            current[key] = value
        elif colon:
            current = {}
            found[name] = Storage(lab, kind, name, current)
    return found


def usable(lab: Lab, name: str) -> Storage:
    """Return a storage that can be used now; refuse it in Proxmox's words otherwise."""
    storage = storages(lab).get(name)
    if storage is None:
        raise PveError(f"storage '{name}' does not exist")
    if storage.disabled:
        raise PveError(f"storage '{name}' is disabled")
    nodes = storage.settings.get("nodes")
    if nodes and lab.node not in nodes.split(","):
        raise PveError(f"storage '{name}' is not available on node '{lab.node}'")
    if not storage.active:
        raise PveError(
            f"unable to activate storage '{name}' - directory is expected to be a mount point but is not "
            f"mounted: '{storage.path}'"
        )
    return storage


def for_containers(lab: Lab, name: str) -> Storage:
    """Return a storage that may hold container directories."""
    storage = usable(lab, name)
    if "rootdir" not in storage.content:
        raise ParameterError({"storage": f"storage '{name}' does not support container directories"})
    return storage


def path_of(lab: Lab, volid: str) -> str:
    """Return the path of a volume."""
    name, colon, volume = volid.partition(":")
    if not colon or not volume or ".." in volume.split("/"):
        raise PveError(f"unable to parse volume ID '{volid}'")
    return usable(lab, name).volume_path(volume)


def subvolumes_of(lab: Lab, vmid: int) -> list[str]:
    """Return the volids of all subvolumes that carry a vmid, whether or not its configuration names them."""
    return [
        f"{each.name}:{name}"
        for each in storages(lab).values()
        if each.active
        for name, _path, owner in each.subvolume_paths()
        if owner == vmid
    ]


def free(lab: Lab, volid: str) -> None:
    """Remove a volume; absent is fine, as a retried zfs destroy is."""
    path = path_of(lab, volid)
    if os.path.isdir(path):
        remove_tree(path)
    elif os.path.exists(path):
        os.unlink(path)
