"""Where vzdump's archives go, and how long they stay there."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

from . import archive, retention, storage
from .cli import Call
from .errors import PveError
from .files import remove_tree
from .storage import Storage


class Target:
    """Where archives go, and how long they stay."""

    def __init__(self, call: Call) -> None:
        name, folder = call.parameters.get("storage"), call.parameters.get("dumpdir")
        self.storage: Storage | None = None
        if not folder:
            self.storage = _backup_storage(call, name or "local")
            folder = os.path.join(self.storage.path, "dump")
        elif not os.path.isdir(folder):
            raise PveError(f"directory '{folder}' does not exist")
        self.folder = folder
        default = self.storage.settings.get("prune-backups", "") if self.storage else ""
        self.keep = retention.parse(call.parameters.get("prune-backups", default))

    def archives(self, vmid: int, protected: bool = False) -> list[str]:
        """Return the names of a container's archives, by default only those that retention counts."""
        names = [name for name in os.listdir(self.folder) if re.match(rf"vzdump-lxc-{vmid}-.*\.tar(\.\w\w\w?)?\Z", name)]
        return [name for name in names if protected or not os.path.exists(f"{self.path(name)}.protected")]

    def path(self, name: str) -> str:
        """Return an archive's path."""
        return os.path.join(self.folder, name)

    def shown(self, name: str) -> str:
        """Return what an archive is called in the log."""
        return f"{self.storage.name}:backup/{name}" if self.storage else self.path(name)


def _backup_storage(call: Call, name: str) -> Storage:
    """Return the storage for archives; refuse it in Proxmox's words."""
    try:
        found = storage.usable(call.lab, name)
    except PveError as error:
        raise PveError(
            f"could not activate storage '{name}': {error.message} could not get storage information for "
            f"'{name}': {error.message}"
        ) from None
    if "backup" not in found.content:
        raise PveError(
            f"could not get storage information for '{name}': can't use storage '{name}' for backups - wrong content type"
        )
    return found


def prune(call: Call, target: Target, log: Callable[[str], None], vmid: int) -> None:
    """Remove the archives that retention lets go."""
    if not target.keep or not call.flag("remove", default=True):
        return
    words = ", ".join(f"{key}={target.keep[key]}" for key in retention.KEYS if key in target.keep)
    log(f"prune older backups with retention: {words}")
    gone = retention.to_remove(target.archives(vmid), target.keep)
    for name in gone:
        log(f"removing backup '{target.shown(name)}'")
        discard(target.path(name))
    log(f"pruned {len(gone)} backup(s)" + (" not covered by keep-retention policy" if gone else ""))


def discard(path: str) -> None:
    """Remove an archive with all that belongs to it, a half-made one too."""
    base = path[: path.index(".tar")]
    remove_tree(f"{base}.tmp")
    for name in [*archive.companions(path), f"{base}.tar.dat"]:
        if os.path.exists(name):
            os.unlink(name)
