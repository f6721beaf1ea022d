"""The backend that simulates: what runs is written to files, and a volume holds what create itself writes.

A backend is what differs between the lab nodes; everything else of the commands is shared.

| method | does |
|---|---|
| `running_vmids`, `is_running` | which containers run |
| `start`, `stop`, `shutdown`, `freeze`, `forget` | change that; `forget` removes what is left of a destroyed one |
| `set_limits`, `set_network`, `figures` | a running container's limits, links and usage |
| `execute`, `push`, `pull` | reach into a running container |
| `has_bridge` | whether the node has this bridge |
| `unpack`, `put_file`, `host_keys` | fill a new container's volume |
| `used_bytes` | how full a volume is |
| `copy`, `replace` | snapshots, rollback and clones |
| `write_archive`, `read_member`, `extract` | archives |
"""

# ruff: noqa: ARG002  (the methods have the shape that a backend with real containers needs)

from __future__ import annotations

import os
from binascii import b2a_base64

from . import archive, runtime, volumes
from .conf import Section
from .errors import PveError
from .files import read_text, remove_tree

TYPE_CHECKING = False  # what type checkers know as typing.TYPE_CHECKING
if TYPE_CHECKING:
    from .lab import Lab

# What a template of Debian 12 says when it is unpacked.
TEMPLATE_BYTES = 506_388_480


class Simulated:
    """Runs nothing."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    # -- what runs -------------------------------------------------------------------------------------------------

    def running_vmids(self) -> set[int]:
        """Return the vmids of the containers that run."""
        return runtime.running_vmids(self.lab)

    def is_running(self, vmid: int) -> bool:
        """Return whether one container runs."""
        return runtime.is_running(self.lab, vmid)

    def start(self, vmid: int, section: Section) -> None:
        """Start a container."""
        runtime.start(self.lab, vmid, section)

    def stop(self, vmid: int) -> None:
        """Stop a container at once."""
        runtime.stop(self.lab, vmid)

    def shutdown(self, vmid: int, timeout_s: int, force: bool) -> None:
        """Ask a container to stop."""
        runtime.stop(self.lab, vmid)

    def freeze(self, vmid: int, frozen: bool) -> None:
        """Freeze or thaw a container: nothing an outsider of the lab could see."""

    def forget(self, vmid: int) -> None:
        """Remove what is left of a destroyed container besides its volumes: nothing here."""

    def set_limits(self, vmid: int, section: Section) -> None:
        """Bring a running container's limits in line with its configuration."""
        runtime.update_limits(self.lab, vmid, section)

    def set_network(self, vmid: int, section: Section) -> None:
        """Bring a running container's network in line with its configuration: nothing here."""

    def figures(self, vmid: int) -> dict[str, int]:
        """Return a running container's memory and swap in bytes, uptime in seconds and first pid."""
        memory = runtime.figure(self.lab, vmid, "memory.current") - runtime.figure(self.lab, vmid, "memory.stat", "file")
        return {
            "mem": memory,
            "swap": runtime.figure(self.lab, vmid, "memory.swap.current"),
            "uptime": runtime.uptime_s(self.lab, vmid),
            "pid": runtime.figure(self.lab, vmid, "cgroup.procs"),
        }

    def execute(self, vmid: int, argv: list[str], keep_env: bool) -> int:
        """Say what systemd inside would, show a file of the volume; refuse any other command: there is nothing inside."""
        if argv == ["systemctl", "is-system-running"]:
            state = runtime.guest_state(self.lab, vmid)
            print(state)
            return 0 if state == "running" else 1
        if len(argv) == 2 and argv[0] == "cat":
            if os.path.exists(own := self.lab.path(f"run/guest/{vmid}.cat")):
                import subprocess

                # As lxc-attach does: with every descriptor that the caller let through.
                return subprocess.run([own, argv[1]], close_fds=False, check=False).returncode
            text = read_text(os.path.join(volumes.root_path(self.lab, self.lab.load(vmid).main), argv[1].lstrip("/")))
            if not text:
                raise PveError(f"cat: {argv[1]}: No such file or directory", 1)
            print(text, end="")
            return 0
        raise PveError("the lab node emulates no processes inside containers", 1)

    def push(self, vmid: int, source: str, target: str, owner: str, perms: str) -> None:
        """Refuse to copy into a container."""
        raise PveError("the lab node emulates no files inside running containers", 1)

    def pull(self, vmid: int, source: str, target: str) -> None:
        """Refuse to copy out of a container."""
        raise PveError("the lab node emulates no files inside running containers", 1)

    def has_bridge(self, name: str) -> bool:
        """Return whether the node has this bridge."""
        return os.path.isdir(self.lab.path("sys/class/net", name))

    # -- volumes ---------------------------------------------------------------------------------------------------

    def unpack(self, template: str, volume: str, shared: bool) -> int:
        """Pretend to unpack a template; return how many bytes that would have been."""
        return TEMPLATE_BYTES

    def put_file(self, volume: str, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file into a container's file system."""
        volumes.put_file(volume, path, text, mode)

    def host_keys(self, volume: str, hostname: str, names: tuple[str, ...]) -> dict[str, str]:
        """Make what looks like the container's SSH host keys; return what looks like their fingerprints."""
        for name in names:
            self.put_file(volume, f"etc/ssh/{name}.pub", f"{_public_key(name)} root@{hostname}\n")
        return {name: b2a_base64(os.urandom(32), newline=False).decode().rstrip("=") for name in names}

    def used_bytes(self, volume: str) -> int:
        """Return what a volume holds: what a fresh one does, or what a test has written beside its size limit."""
        from .storage import SUBVOLUME_KIB

        return int(read_text(os.path.join(volume, ".zfs/referenced"), str(SUBVOLUME_KIB * 1024)))

    def copy(self, source: str, target: str) -> None:
        """Copy a volume or a snapshot of one."""
        import shutil

        shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".zfs"))

    def replace(self, volume: str, snapshot: str) -> None:
        """Return a volume to a snapshot of it."""
        for name in os.listdir(volume):
            below = os.path.join(volume, name)
            if os.path.isdir(below) and not os.path.islink(below):
                if name != ".zfs":
                    remove_tree(below)
            else:
                os.unlink(below)
        self.copy(snapshot, volume)

    # -- archives --------------------------------------------------------------------------------------------------

    def write_archive(self, path: str, settings: dict[str, str], volume: str, compress: str, live: bool) -> int:
        """Write an archive of a container, its settings (by member name) first; return its size before compression."""
        return archive.write(path, settings, volume, compress)

    def read_member(self, path: str, name: str) -> str:
        """Return the text of one of an archive's settings."""
        return archive.read_member(path, name)

    def extract(self, path: str, volume: str) -> int:
        """Unpack an archive into a volume; return the size of the tar."""
        return archive.extract(path, volume)


def _public_key(name: str) -> str:
    """Return a public key of the type that a host key's file name tells; only its looks are right."""
    kind = {"ssh_host_ed25519_key": "ssh-ed25519", "ssh_host_rsa_key": "ssh-rsa"}.get(name, "ecdsa-sha2-nistp256")
    parts = [word.to_bytes(4, "big") + text for word, text in ((len(kind), kind.encode()), (32, os.urandom(32)))]
    return f"{kind} {b2a_base64(b''.join(parts), newline=False).decode()}"
