"""lab-host: what a node with real containers needs of this machine besides files: bridge, NAT, sshd, a small storage.

`up` makes what is missing and prints `changed` or `unchanged`; `reload` makes sshd read its configuration again; `down`
takes away what `up` made, containers included.
Everything is told by a mark or a pid of the lab's own, so nothing else of the machine is touched.
"""

from __future__ import annotations

import argparse
import ipaddress
import json
import os
import re
import signal
import subprocess
import sys
import time

from . import cgroups, firewall
from .errors import PveError
from .files import read_text, write_text
from .lab import Lab

FORWARDING = "/proc/sys/net/ipv4/ip_forward"
END_TIMEOUT_S = 10
SSHD_CONFIG = """# Laid by lab_node: the lab's own sshd, for the automation user and the jump host only.
Include {ssh}/sshd_config.d/*.conf
ListenAddress 127.0.0.1
Port {ssh_port}
HostKey {ssh}/host_ed25519
PidFile {root}/run/sshd.pid
AllowUsers {users}
AuthorizedKeysFile .ssh/authorized_keys
AuthenticationMethods publickey
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
PrintMotd no
PermitTunnel no
X11Forwarding no
MaxStartups 200:30:400
MaxSessions 200
"""
NAT = """table ip {table} {{
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {network} oifname != "{bridge}" masquerade
  }}
}}
"""


class Host:
    """This machine, as far as one lab node changes it."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        settings = json.loads(read_text(lab.path("host.json")))
        self.bridge: str = settings["bridge"]
        self.gateway: str = settings["gateway"]
        self.prefix: int = settings["prefix"]
        self.ssh_port: int = settings["ssh_port"]
        self.users: list[str] = [settings["user"], settings["jump_user"]]
        self.small_mb: int = settings["small_storage_mb"]
        self.small = lab.path("mnt/clients-small")
        self.mark = f"cloudpods-lab {lab.root}"
        self.table = re.sub(r"\W", "_", f"cloudpods_lab_{lab.node}")
        self.changes: list[str] = []

    def up(self) -> None:
        """Make everything that is missing."""
        self._bridge_up()
        self._forward()
        self._nat_up()
        self._small_storage_up()
        self._keys()
        self._sshd_up()

    def down(self) -> None:
        """Take everything away again."""
        self._sshd_down()
        self._containers_down()
        self._small_storage_down()
        self._nat_down()
        self._bridge_down()
        self._forward_back()

    # -- network ---------------------------------------------------------------------------------------------------

    def _bridge_up(self) -> None:
        alias = f"/sys/class/net/{self.bridge}/ifalias"
        if self._is_half_made():
            _call("ip", "link", "del", self.bridge)
        if os.path.exists(alias):
            if read_text(alias).strip() != self.mark:
                raise PveError(f"the interface '{self.bridge}' is not this lab's: give lab_node_bridge another name")
            return
        self._check_network()
        # A bridge cannot be made with its mark: until it has all it needs, this file says whose it is.
        write_text(self.lab.path("run/bridge.making"), "")
        _call("ip", "link", "add", self.bridge, "type", "bridge")
        _call("ip", "link", "set", self.bridge, "alias", self.mark)
        _call("ip", "addr", "add", f"{self.gateway}/{self.prefix}", "dev", self.bridge)
        _call("ip", "link", "set", self.bridge, "up")
        os.unlink(self.lab.path("run/bridge.making"))
        self.changes.append("bridge")

    def _is_half_made(self) -> bool:
        """Return whether the bridge is what an ended `up` left of its making."""
        return os.path.exists(self.lab.path("run/bridge.making")) and os.path.isdir(f"/sys/class/net/{self.bridge}/bridge")

    @property
    def network(self) -> ipaddress.IPv4Network:
        """Return the containers' network."""
        return ipaddress.IPv4Network(f"{self.gateway}/{self.prefix}", strict=False)

    def _check_network(self) -> None:
        """Refuse a network that this machine knows already: its own traffic would vanish in the bridge."""
        for line in _call("ip", "-4", "route", "show").splitlines():
            first = line.split()[0]
            if first != "default" and ipaddress.IPv4Network(first).overlaps(self.network):
                raise PveError(f"the network {self.network} overlaps the route '{line.strip()}': give lab_node_gateway another")

    def _bridge_down(self) -> None:
        if self._is_half_made() or read_text(f"/sys/class/net/{self.bridge}/ifalias").strip() == self.mark:
            _call("ip", "link", "del", self.bridge)
            self.changes.append("bridge")

    def _forward(self) -> None:
        if read_text(FORWARDING).strip() == "0":
            write_text(self.lab.path("run/ip_forward.before"), "0\n")
            _set(FORWARDING, "1\n")
            self.changes.append("forwarding")

    def _forward_back(self) -> None:
        before = self.lab.path("run/ip_forward.before")
        if os.path.exists(before):
            _set(FORWARDING, read_text(before))
            os.unlink(before)
            self.changes.append("forwarding")

    def _nat_up(self) -> None:
        if self._has_table():
            return
        rules = NAT.format(table=self.table, network=self.network, bridge=self.bridge)
        _call("nft", "-f", "-", stdin=rules)
        self.changes.append("NAT")

    def _nat_down(self) -> None:
        if self._has_table():
            _call("nft", "delete", "table", "ip", self.table)
            self.changes.append("NAT")

    def _has_table(self) -> bool:
        return f"table ip {self.table}\n" in _call("nft", "list", "tables") + "\n"

    # -- a storage that fills up -----------------------------------------------------------------------------------

    def _small_storage_up(self) -> None:
        if self.small_mb and not os.path.ismount(self.small):
            os.makedirs(self.small, exist_ok=True)
            _call("mount", "-t", "tmpfs", "-o", f"size={self.small_mb}m,mode=755", "cloudpods-lab", self.small)
            self.changes.append("small storage")

    def _small_storage_down(self) -> None:
        if os.path.ismount(self.small):
            _call("umount", self.small)
            self.changes.append("small storage")

    # -- sshd ------------------------------------------------------------------------------------------------------

    def _keys(self) -> None:
        """Make the host's key and the callers', and tell the caller's ssh whom to expect."""
        ssh = self.lab.path("ssh")
        os.makedirs(f"{ssh}/sshd_config.d", exist_ok=True)
        for name in ("host_ed25519", "id_ed25519", "jump_ed25519"):
            if not os.path.exists(f"{ssh}/{name}"):
                _call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"{name}@{self.lab.node}", "-f", f"{ssh}/{name}")
                self.changes.append(name)
        kind, key = read_text(f"{ssh}/host_ed25519.pub").split()[:2]
        self._file("ssh/known_hosts", f"[127.0.0.1]:{self.ssh_port} {kind} {key}\n")
        config = SSHD_CONFIG.format(ssh=ssh, root=self.lab.root, ssh_port=self.ssh_port, users=" ".join(self.users))
        if self._file("ssh/sshd_config", config):
            self._sshd_down()

    def _file(self, path: str, text: str) -> bool:
        """Give a file below the lab this text; return whether it had another."""
        full = self.lab.path(path)
        if read_text(full, "\0") == text:
            return False
        write_text(full, text)
        self.changes.append(path)
        return True

    def _sshd_up(self) -> None:
        if self._sshd_pid():
            return
        if not os.path.isdir("/run/sshd"):
            write_text(self.lab.path("run/made-run-sshd"), "")
            os.mkdir("/run/sshd", 0o755)
        config = self.lab.path("ssh/sshd_config")
        # In a session and with descriptors of its own: it outlives whoever lays the lab.
        _call("/usr/sbin/sshd", "-f", config, "-E", self.lab.path("log/sshd.log"), detached=True)
        self._await_pid()
        self.changes.append("sshd")

    def reload(self) -> None:
        """Make sshd read its configuration again; open sessions stay. It begins anew, and writes its pid once it listens."""
        pid = self._sshd_pid()
        if not pid:
            raise PveError("sshd does not run: lab-host up starts it")
        os.unlink(self.lab.path("run/sshd.pid"))
        os.kill(pid, signal.SIGHUP)
        self._await_pid()
        self.changes.append("sshd")

    def _await_pid(self) -> None:
        """Wait until sshd listens, which is when it has written its pid."""
        deadline = time.monotonic() + END_TIMEOUT_S
        while not self._sshd_pid():
            if time.monotonic() > deadline:
                raise PveError(f"sshd did not start: {read_text(self.lab.path('log/sshd.log')).strip()}")
            time.sleep(0.02)

    def _sshd_pid(self) -> int:
        """Return the pid of the lab's sshd, 0 when it does not run; a pid used again by another is told apart."""
        text = read_text(self.lab.path("run/sshd.pid")).strip()
        if not text.isdigit():
            return 0
        return int(text) if self.lab.path("ssh/sshd_config") in read_text(f"/proc/{text}/cmdline") else 0

    def _sshd_down(self) -> None:
        pid = self._sshd_pid()
        if pid:
            _end([pid, *_descendants(pid)])
            self.changes.append("sshd")
        if os.path.exists(made := self.lab.path("run/made-run-sshd")):
            os.unlink(made)
            if os.path.isdir("/run/sshd") and not os.listdir("/run/sshd"):
                os.rmdir("/run/sshd")

    # -- containers ------------------------------------------------------------------------------------------------

    def _containers_down(self) -> None:
        """Stop the lab's containers, each by its name, and remove what lxc and the kernel keep of them."""
        backend = self.lab.backend
        known = {int(name) for name in os.listdir("/var/lib/lxc") if name.isdigit()} if os.path.isdir("/var/lib/lxc") else set()
        for vmid in sorted(known):
            if read_text(f"/var/lib/lxc/{vmid}/cloudpods-lab") != self.lab.root:
                continue
            if backend.is_running(vmid):
                backend.stop(vmid)
            backend.forget(vmid)
            self.changes.append(f"container {vmid}")
        self._firewalls_down()
        for folder in _cgroup_parents():
            cgroups.remove_empty(folder)

    def _firewalls_down(self) -> None:
        """Remove the rules of containers that vanished without being destroyed."""
        mine = f"table bridge {firewall.prefix(self.lab)}"
        for line in _call("nft", "list", "tables").splitlines():
            if line.startswith(mine):
                _call("nft", "delete", *line.split())
                self.changes.append(line)


def _cgroup_parents() -> list[str]:
    """Return the groups that lxc has made for its containers, in every hierarchy."""
    found = (f"{root}/{name}" for root in cgroups.roots() for name in ("lxc", "lxc.monitor", "lxc.pivot"))
    return [path for path in found if os.path.isdir(path)]


def _descendants(pid: int) -> list[int]:
    """Return the processes below a process."""
    parents: dict[int, list[int]] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        fields = read_text(f"/proc/{name}/stat").rpartition(")")[2].split()
        if fields:
            parents.setdefault(int(fields[1]), []).append(int(name))
    found, left = [], [pid]
    while left:
        children = parents.get(left.pop(), [])
        found += children
        left += children
    return found


def _end(pids: list[int]) -> None:
    """End processes, by SIGKILL those that do not go."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + END_TIMEOUT_S
        for pid in pids:
            _signal(pid, number)
        while any(map(_alive, pids)) and time.monotonic() < deadline:
            time.sleep(0.02)


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _alive(pid: int) -> bool:
    """Return whether a process runs; one that has ended and is not yet fetched does not."""
    fields = read_text(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return bool(fields) and fields[0] not in "ZX"


def _set(path: str, text: str) -> None:
    """Write one of the kernel's settings."""
    with open(path, "w", encoding="ascii") as handle:
        handle.write(text)


def _call(*argv: str, stdin: str = "", detached: bool = False) -> str:
    """Run a program; return its stdout, or fail with its own words."""
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False, start_new_session=detached)
    if done.returncode:
        raise PveError(f"command '{' '.join(argv)}' failed: {done.stderr.strip() or done.returncode}")
    return done.stdout


def main(root: str, argv: list[str]) -> int:
    """Do as asked; print `changed` or `unchanged`; return the exit code."""
    parser = argparse.ArgumentParser(prog="lab-host", description="Prepare this machine for a lab with real containers.")
    parser.add_argument("action", choices=("up", "reload", "down"))
    options = parser.parse_args(argv)
    host = Host(Lab(root))
    try:
        {"up": host.up, "reload": host.reload, "down": host.down}[options.action]()
    except PveError as error:
        sys.stderr.write(f"{error.message}\n")
        return 1
    print("changed" if host.changes else "unchanged")
    return 0
