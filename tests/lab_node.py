"""A lab node laid in some 50 ms, without Ansible, safe to use in parallel."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PVE_LAB = REPOSITORY / "roles/lab_node/files/pve_lab"
TEMPLATE = "local:vztmpl/debian-12-standard_12.7-1_amd64.tar.zst"
NODE = "lab1"


class LabNode:
    """A laid lab node. `dir` stands for `/`; `env` has its commands first on PATH."""

    def __init__(self, directory: Path) -> None:
        self.dir = directory
        self.node = NODE
        self.env = {**os.environ, "PATH": f"{directory / 'bin'}:/usr/bin:/bin", "LC_ALL": "C.UTF-8"}

    def init(self, *options: str) -> str:
        """Lay the node (again), with options of lab-init such as `--pods 5`; return `changed` or `unchanged`."""
        argv = [
            sys.executable,
            "-IS",
            str(PVE_LAB / "__main__.py"),
            "-",
            "lab-init",
            str(self.dir),
            "--node",
            NODE,
            "--in-place",
        ]
        return subprocess.run([*argv, *options], check=True, capture_output=True, text=True).stdout.strip()

    def run(self, *argv: str | int, stdin: str = "", timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a command with the lab's programs on PATH; return its rc, stdout and stderr, whatever the rc."""
        words = [str(word) for word in argv]
        return subprocess.run(words, env=self.env, input=stdin, capture_output=True, text=True, timeout=timeout_s, check=False)

    def start(self, *argv: str | int) -> subprocess.Popen[str]:
        """Start a command without waiting for it."""
        words = [str(word) for word in argv]
        return subprocess.Popen(words, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def pct(self, *argv: str | int) -> subprocess.CompletedProcess[str]:
        """Run pct."""
        return self.run("pct", *argv)

    def ok(self, *argv: str | int) -> str:
        """Run a command that must succeed; return its stdout."""
        done = self.run(*argv)
        assert done.returncode == 0, f"{argv}: rc {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def create(self, vmid: int, *options: str | int, ip: str = "", pool: str = "ClientPods") -> str:
        """Create a container as cloudpod-create.sh would, with further options of pct create; return stdout."""
        address = ip or f"10.1.10.{vmid % 200 + 50}"
        return self.ok(
            "pct",
            "create",
            vmid,
            TEMPLATE,
            "--rootfs",
            "clients-main:8",
            "--pool",
            pool,
            "--net0",
            f"name=eth0,bridge=vmbr0,firewall=1,gw=10.1.10.1,ip={address}/24",
            *options,
        )

    def switch(self, *argv: str | int) -> None:
        """Run lab-switch, e.g. `switch("fail", "pct start", "--times", 1)`."""
        self.ok("lab-switch", *argv)

    def conf_path(self, vmid: int) -> Path:
        """Return the path of a container's file."""
        return self.dir / "etc/pve/nodes" / self.node / "lxc" / f"{vmid}.conf"

    def conf(self, vmid: int) -> str | None:
        """Return the text of a container's file, or None."""
        path = self.conf_path(vmid)
        return path.read_text() if path.exists() else None

    def disks(self, vmid: int) -> list[str]:
        """Return the names of a container's volumes on the storages for containers."""
        return sorted(
            path.name for storage in ("main", "backup") for path in (self.dir / "clients" / storage).glob(f"subvol-{vmid}-*")
        )

    def pool(self, name: str = "ClientPods") -> set[int]:
        """Return the vmids in a pool."""
        for line in (self.dir / "etc/pve/user.cfg").read_text().splitlines():
            fields = line.split(":")
            if fields[:2] == ["pool", name]:
                return {int(vmid) for vmid in fields[3].split(",") if vmid}
        raise AssertionError(f"no pool {name}")

    def running(self, vmid: int) -> bool:
        """Return whether a container runs, by the sign a real node gives."""
        return f"@/var/lib/lxc/{vmid}/command\n" in (self.dir / "run/net-unix").read_text()

    def cgroup(self, vmid: int, name: str) -> str:
        """Return the content of one of a running container's cgroup files."""
        return (self.dir / "sys/fs/cgroup/lxc" / str(vmid) / name).read_text().strip()

    def set_cgroup(self, vmid: int, name: str, text: str) -> None:
        """Make a running container show another figure, e.g. `set_cgroup(9101, "memory.current", "1000")`."""
        (self.dir / "sys/fs/cgroup/lxc" / str(vmid) / name).write_text(text)

    def switches(self) -> dict:
        """Return what switches.json says."""
        return json.loads((self.dir / "switches.json").read_text())
