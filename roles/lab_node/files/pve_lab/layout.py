"""lab-init: lay the directory tree of a lab node. Laying it again changes nothing but what is missing or outdated."""

from __future__ import annotations

import argparse
import json
import os
import sys

from . import runtime, storage
from .conf import Conf, Section
from .files import read_text, write_text
from .lab import Lab
from .pools import join, members

SOURCE = os.path.dirname(os.path.abspath(__file__))
PROGRAMS = ("pct", "vzdump", "pvesm", "zfs", "lab-switch", "lab-host")
TEMPLATE = "debian-12-standard_12.7-1_amd64.tar.zst"
CORE = ((100, "mail", "10.1.10.10"), (101, "dns", "10.1.10.11"), (102, "panel", "10.1.10.12"))
FOLDERS = (
    "bin",
    "lib/pve_lab",
    "etc/pve/nodes/{node}/lxc",
    "etc/pve/nodes/{node}/qemu-server",
    "etc/pve/priv",
    "run/lock/lxc",
    "log",
    "clients/main",
    "clients/backup",
    "var/lib/vz/template/cache",
    "var/lib/vz/dump",
    "mnt/vzdump-backups/dump",
    "mnt/t7-backup/dump",
)
SIMULATED_FOLDERS = ("sys/fs/cgroup/lxc", "sys/class/net/vmbr0", "proc")
# A node of 64 cores and 256 GiB.
CPUINFO = "".join(f"processor\t: {number}\nmodel name\t: simulated\n\n" for number in range(64))
MEMINFO = "MemTotal:       268435456 kB\nMemFree:        134217728 kB\n"
LINKS = {"etc/pve/local": "nodes/{node}", "etc/pve/lxc": "local/lxc", "etc/pve/qemu-server": "local/qemu-server"}
USER_CFG = """user:root@pam:1:0:::root@localhost::

pool:ClientPods:pods of clients:::
pool:MigraTeck_Production:core services:::
"""
STORAGE_CFG = """dir: local
\tpath {root}/var/lib/vz
\tcontent backup,iso,vztmpl

zfspool: clients-main
\tpool clients/main
\tcontent images,rootdir
\tmountpoint {root}/clients/main
\tsparse 1

zfspool: clients-backup
\tpool clients/backup
\tcontent images,rootdir
\tmountpoint {root}/clients/backup
\tsparse 1

dir: vzdump-backups
\tpath {root}/mnt/vzdump-backups
\tcontent backup
\tprune-backups keep-all=1

dir: t7-backup
\tpath {root}/mnt/t7-backup
\tcontent backup
\tprune-backups keep-all=1
"""
# A storage without shared templates, on a file system that fills up.
SMALL_STORAGE_CFG = """
dir: clients-small
\tpath {root}/mnt/clients-small
\tcontent images,rootdir
"""
LAUNCHER = """#!/bin/sh
# Laid by lab_node. -I -S: nothing of the caller's Python reaches the command, and it starts in half the time.
exec {python} -IS {main} {root} {program} "$@"
"""


class Layout:
    """Lays one lab node, noting what it had to change; with `check`, only notes it."""

    def __init__(self, root: str, options: argparse.Namespace) -> None:
        self.root, self.node, self.python, self.check = root, options.node, options.python, options.check
        self.in_place: bool = options.in_place
        self.simulated: bool = options.backend == "simulated"
        self.changes: list[str] = []

    def lay(self) -> None:
        """Make everything that is missing."""
        for folder in FOLDERS + (SIMULATED_FOLDERS if self.simulated else ()):
            self._folder(folder.format(node=self.node))
        for path, target in LINKS.items():
            self._link(path, target.format(node=self.node))
        self._program()
        backend = {} if self.simulated else {"backend": "lxc"}
        self._once("lab.json", json.dumps({"node": self.node, "capacity_kib": {}, **backend}, indent=2) + "\n")
        self._once("switches.json", json.dumps({"root_check": False, "delay_s": {}, "fail": []}, indent=2) + "\n")
        storages = STORAGE_CFG + ("" if self.simulated else SMALL_STORAGE_CFG)
        self._once("etc/pve/storage.cfg", storages.format(root=self.root))
        if self.simulated:
            self._once(f"var/lib/vz/template/cache/{TEMPLATE}", "a stand-in for a template: the lab never unpacks it\n")
            self._once("proc/cpuinfo", CPUINFO)
            self._once("proc/meminfo", MEMINFO)
            self._once("run/net-unix", runtime.NET_UNIX_HEADER)
        # user.cfg comes last: a node that has it has its core containers, and one destroyed since stays destroyed.
        if self._once("etc/pve/user.cfg", USER_CFG) and not self.check:
            self._core_containers()

    def add_pods(self, count: int, first_vmid: int) -> None:
        """Make running pods of different tenants, those that exist already left alone."""
        lab = Lab(self.root)
        have = set(lab.vmids()) if os.path.isdir(lab.conf_dir) else set()
        wanted = [vmid for vmid in range(first_vmid, first_vmid + count) if vmid not in have]
        if wanted:
            self.changes.append(f"{len(wanted)} pods")
        if wanted and not self.check:
            _add_running(lab, "ClientPods", [(vmid, _pod(vmid, vmid - first_vmid)) for vmid in wanted])

    def _core_containers(self) -> None:
        sections = [(vmid, _section(vmid, name, f"{ip}/24", "10.1.10.1", 16)) for vmid, name, ip in CORE]
        _add_running(Lab(self.root), "MigraTeck_Production", sections)

    def _program(self) -> None:
        """Write a launcher for each of this program's names, and by default give the node its own copy of it."""
        home = SOURCE if self.in_place else os.path.join(self.root, "lib/pve_lab")
        if not self.in_place:
            for name in sorted(os.listdir(SOURCE)):
                if name.endswith(".py"):
                    self._file(f"lib/pve_lab/{name}", read_text(os.path.join(SOURCE, name)))
        words = {"python": self.python, "main": os.path.join(home, "__main__.py"), "root": self.root}
        quoted = {key: _quoted(word) for key, word in words.items()}
        for program in PROGRAMS:
            self._file(f"bin/{program}", LAUNCHER.format(program=program, **quoted), 0o755)

    # -- one thing each; every one notes its change ----------------------------------------------------------------

    def _folder(self, path: str) -> None:
        full = os.path.join(self.root, path)
        if not os.path.isdir(full):
            self.changes.append(path)
            if not self.check:
                os.makedirs(full, exist_ok=True)

    def _link(self, path: str, target: str) -> None:
        full = os.path.join(self.root, path)
        if not os.path.islink(full) or os.readlink(full) != target:
            self.changes.append(path)
            if not self.check:
                if os.path.islink(full):
                    os.unlink(full)
                os.symlink(target, full)

    def _file(self, path: str, text: str, mode: int = 0o644) -> bool:
        """Give a file this text; return whether it had another."""
        full = os.path.join(self.root, path)
        if read_text(full, "\0") == text:
            return False
        self.changes.append(path)
        if not self.check:
            write_text(full, text)
            os.chmod(full, mode)
        return True

    def _once(self, path: str, text: str) -> bool:
        """Write a file that the lab's commands change later on; return whether it was missing."""
        return not os.path.exists(os.path.join(self.root, path)) and self._file(path, text)


def _quoted(text: str) -> str:
    """Return a word for sh."""
    return "'" + text.replace("'", "'\\''") + "'"


def _section(vmid: int, hostname: str, address: str, gateway: str, disk_gb: int) -> Section:
    """Return the configuration of a ready-made container."""
    mac = f"BC:24:11:{vmid >> 16 & 255:02X}:{vmid >> 8 & 255:02X}:{vmid & 255:02X}"
    return Section(
        {
            "arch": "amd64",
            "cores": "2",
            "features": "nesting=1",
            "hostname": hostname,
            "memory": "1024",
            "net0": f"name=eth0,bridge=vmbr0,firewall=1,gw={gateway},hwaddr={mac},ip={address},type=veth",
            "onboot": "1",
            "ostype": "debian",
            "rootfs": f"clients-main:subvol-{vmid}-disk-0,size={disk_gb}G",
            "swap": "512",
            "unprivileged": "1",
        }
    )


def _pod(vmid: int, number: int) -> Section:
    """Return the configuration of a ready-made pod: its own tenant, pod id and address in 10.2.0.0/16."""
    address = f"10.2.{(number + 10) // 250}.{(number + 10) % 250 + 1}/16"
    section = _section(vmid, f"pod{number}", address, "10.2.255.254", 8)
    section["description"] = f"cloudpod tenant=TENANT-{number} pod=pod{number}\n"
    return section


def _add_running(lab: Lab, pool: str, sections: list[tuple[int, Section]]) -> None:
    """Write containers that run (real ones could be started), the shared files once for all of them."""
    disks = storage.storages(lab)["clients-main"]
    for vmid, section in sections:
        lab.save(vmid, Conf(section))
        path = disks.volume_path(f"subvol-{vmid}-disk-0")
        os.makedirs(path, exist_ok=True)
        storage.set_refquota(path, int(section["rootfs"].rpartition("=")[2].rstrip("G")) << 30)
        if lab.backend_name == "simulated":
            runtime.make_cgroup(lab, vmid, section)
        else:
            lab.backend.unpack(lab.path(f"var/lib/vz/template/cache/{TEMPLATE}"), path, True)
    vmids = [vmid for vmid, _ in sections]
    if lab.backend_name == "simulated":
        runtime.add_lines(lab, vmids)
    join(lab, pool, *(set(vmids) - members(lab, pool)))


def main(argv: list[str]) -> int:
    """Lay a lab node as asked; print `changed` or `unchanged`; return the exit code."""
    parser = argparse.ArgumentParser(prog="lab-init", description="Lay the directory of a simulated Proxmox node.")
    parser.add_argument("directory")
    parser.add_argument("--node", required=True, help="the node's name")
    parser.add_argument("--pods", type=int, default=0, help="how many running pods to make in ClientPods")
    parser.add_argument("--first-vmid", type=int, default=10000)
    parser.add_argument("--python", default=sys.executable, help="the interpreter of the lab's commands")
    parser.add_argument("--backend", choices=("simulated", "lxc"), default="simulated", help="what runs containers")
    parser.add_argument("--in-place", action="store_true", help="run the program from where it is instead of a copy")
    parser.add_argument("--check", action="store_true", help="only say whether anything would change")
    options = parser.parse_args(argv)
    layout = Layout(os.path.abspath(options.directory), options)
    layout.lay()
    layout.add_pods(options.pods, options.first_vmid)
    print("changed" if layout.changes else "unchanged")
    return 0
