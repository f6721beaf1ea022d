"""Where everything of one lab node is, and how its containers' files are found, locked and replaced."""

from __future__ import annotations

import json
import os
from contextlib import AbstractContextManager
from functools import cached_property

from .conf import Conf
from .errors import NoSuchContainer, PveError
from .files import held_as_proxmox, read_text, write_text

TYPE_CHECKING = False  # what type checkers know as typing.TYPE_CHECKING
if TYPE_CHECKING:
    from .simulated import Simulated

CONF_LOCK_TIMEOUT_S = 10


class Lab:
    """One lab node: a directory that stands for `/`."""

    def __init__(self, root: str) -> None:
        self.root = root
        settings = json.loads(read_text(os.path.join(root, "lab.json"), "{}"))
        self.node: str = settings.get("node", "lab")
        self.capacity_kib: dict[str, int] = settings.get("capacity_kib", {})
        self.backend_name: str = settings.get("backend", "simulated")

    def path(self, *parts: str) -> str:
        """Return the path below the lab of a path below `/`."""
        return os.path.join(self.root, *parts)

    @cached_property
    def backend(self) -> Simulated:
        """Return what starts and fills this node's containers."""
        if self.backend_name == "lxc":
            from .lxc import Lxc

            return Lxc(self)
        from .simulated import Simulated

        return Simulated(self)

    # -- containers ------------------------------------------------------------------------------------------------

    @property
    def conf_dir(self) -> str:
        """Return the directory of this node's container files."""
        return self.path("etc/pve/nodes", self.node, "lxc")

    def conf_path(self, vmid: int) -> str:
        """Return the path of a container's file on this node."""
        return os.path.join(self.conf_dir, f"{vmid}.conf")

    def firewall_path(self, vmid: int) -> str:
        """Return the path of a container's firewall file."""
        return self.path("etc/pve/firewall", f"{vmid}.fw")

    def vmids(self) -> list[int]:
        """Return the vmids of this node's containers in numeric order."""
        names = (name[:-5] for name in os.listdir(self.conf_dir) if name.endswith(".conf"))
        return sorted(int(name) for name in names if name.isdigit())

    def load(self, vmid: int, missing_rc: int = 255) -> Conf:
        """Return a container's configuration; `missing_rc` is 2 where Proxmox dies in the foreground."""
        text = read_text(self.conf_path(vmid), "\0")
        if text == "\0":
            raise NoSuchContainer(f"Configuration file 'nodes/{self.node}/lxc/{vmid}.conf' does not exist", missing_rc)
        return Conf.parse(text, vmid)

    def save(self, vmid: int, conf: Conf) -> None:
        """Replace a container's file."""
        write_text(self.conf_path(vmid), conf.text())

    def remove_lock(self, vmid: int, lock: str) -> None:
        """Take a lock off a container's file as it is now: unlocked, or even destroyed, meanwhile."""
        with self.locked(vmid):
            if not os.path.exists(self.conf_path(vmid)):
                return
            conf = self.load(vmid)
            if conf.main.get("lock") == lock:
                del conf.main["lock"]
                self.save(vmid, conf)

    def owner_of(self, vmid: int) -> tuple[str, str] | None:
        """Return (`CT` or `VM`, node) of whoever has this vmid anywhere in the cluster, or None."""
        nodes = self.path("etc/pve/nodes")
        for node in sorted(os.listdir(nodes)):
            for kind, folder in (("CT", "lxc"), ("VM", "qemu-server")):
                if os.path.exists(os.path.join(nodes, node, folder, f"{vmid}.conf")):
                    return kind, node
        return None

    def locked(self, vmid: int, rc: int = 255) -> AbstractContextManager[None]:
        """Return a context manager that holds Proxmox's own flock on a container's configuration."""
        name = f"pve-config-{vmid}.lock"
        path = self.path("run/lock/lxc", name)
        return held_as_proxmox(path, f"/run/lock/lxc/{name}", CONF_LOCK_TIMEOUT_S, rc)


def check_lock(conf: Conf, tolerated: str = "") -> None:
    """Refuse a container under a lock of Proxmox's own (`lock:` in its file)."""
    lock = conf.main.get("lock")
    if lock and lock != tolerated:
        raise PveError(f"CT is locked ({lock})")
