"""Root file systems and mount points of containers: parsed, allocated, freed."""

from __future__ import annotations

import os
import re

from . import storage
from .conf import Conf, Section
from .errors import PveError
from .formats import NEW_VOLUME, UNITS, VOLUME, format_size, join_properties, split_properties
from .lab import Lab


def is_volume_option(name: str) -> bool:
    """Return whether an option names a volume."""
    return name == "rootfs" or bool(re.match(r"mp\d+\Z", name))


def allocate(lab: Lab, vmid: int, value: str) -> str:
    """Return an option's value with `STORAGE:GiB` replaced by a new volume; one that names a volume stays."""
    pairs = split_properties(value, "volume")
    new = NEW_VOLUME.match(pairs["volume"])
    if not new:
        if not VOLUME.match(pairs["volume"]) and not pairs["volume"].startswith("/"):
            raise PveError(f"unable to parse volume ID '{pairs['volume']}'")
        return value
    size = int(float(new[2]) * UNITS["G"])
    pairs["volume"] = storage.for_containers(lab, new[1]).allocate(vmid, size)
    pairs["size"] = format_size(size)
    return join_properties(_size_last(pairs), "volume")


def _size_last(pairs: dict[str, str]) -> dict[str, str]:
    """Return the pairs as Proxmox prints them: the volume, then the keys by alphabet."""
    return {"volume": pairs["volume"], **{key: pairs[key] for key in sorted(pairs) if key != "volume"}}


def volids(section: Section) -> list[str]:
    """Return the volumes a section names, unused ones too."""
    names = [name for name in section if is_volume_option(name) or re.match(r"unused\d+\Z", name)]
    found = (split_properties(section[name], "volume")["volume"] for name in sorted(names))
    return [volid for volid in found if ":" in volid]


def free_all(lab: Lab, conf: Conf) -> None:
    """Remove every volume of a container, those only its pending changes or snapshots know too."""
    sections = [conf.main, conf.pending, *conf.snapshots.values()]
    for volid in {volid for section in sections for volid in volids(section)}:
        storage.free(lab, volid)


def root_path(lab: Lab, section: Section) -> str:
    """Return the directory of a container's root file system."""
    return storage.path_of(lab, split_properties(section["rootfs"], "volume")["volume"])


def is_shared(lab: Lab, section: Section) -> bool:
    """Return whether a container's root may share the template's files; on a directory storage it holds its own."""
    volid = split_properties(section["rootfs"], "volume")["volume"]
    return storage.usable(lab, volid.partition(":")[0]).kind == "zfspool"


def put_file(root: str, path: str, text: str, mode: int = 0o644) -> None:
    """Write a file into a container's file system, as create does with keys and host names."""
    target = os.path.join(root, path)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with open(target, "w", encoding="utf-8") as handle:
        handle.write(text)
    os.chmod(target, mode)
