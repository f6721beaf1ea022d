"""The lab node with real containers, as the tests drive it: by the playbooks a user would run."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
INVENTORY = REPOSITORY / "inventories/lab_lxc"
NODE = "lxc1"
CGROUP = Path("/sys/fs/cgroup")


class RealNode:
    """This machine as the node lxc1. `dir` holds what a node has below `/`."""

    def __init__(self) -> None:
        self.hostvars = json.loads(run("ansible-inventory", "-i", INVENTORY, "--host", NODE).stdout)
        self.dir = Path(str(self.hostvars["lab_node_dir"]).replace("{{ inventory_hostname }}", NODE))

    def host(self) -> dict:
        """Return what the lab has been told about the machine: bridge, gateway, port."""
        return json.loads((self.dir / "host.json").read_text())

    def playbook(self, name: str, *, ok: bool = True, check: bool = False, **variables: object) -> dict:
        """Run a playbook over SSH and sudo; return its result (`set_stats`), or with `ok=False` what it printed."""
        environment = {"ANSIBLE_SHOW_CUSTOM_STATS": "1", "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"}
        path = REPOSITORY / "playbooks" / f"{name}.yml"
        # In a file, of mode 0600: some are secret.
        with tempfile.NamedTemporaryFile("w", suffix=".json") as said:
            json.dump(variables, said)
            said.flush()
            words = ["-e", f"@{said.name}", *(["--check"] if check else [])]
            done = run("ansible-playbook", "-i", INVENTORY, path, *words, env=environment)
        assert (done.returncode == 0) is ok, done.stdout + done.stderr
        return {"output": done.stdout + done.stderr, "result": _custom_stats(done.stdout)}

    def pct(self, *argv: object) -> subprocess.CompletedProcess[str]:
        """Run the node's pct as root."""
        return run(self.dir / "bin/pct", *argv)

    def ok(self, *argv: object) -> str:
        """Run one of the node's commands, which must succeed; return its stdout."""
        done = run(self.dir / "bin" / str(argv[0]), *argv[1:])
        assert done.returncode == 0, f"{argv}: rc {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def ssh(self, *command: str, key: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command on the node as the automation user, the host key verified."""
        return run("ssh", *self.ssh_options(key), f"{self.host()['user']}@127.0.0.1", "--", *command)

    def jump(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run ssh to the node as the jump host's user, with more options or a command."""
        options = self.ssh_options(self.dir / "ssh/jump_ed25519")
        return run("ssh", *options, "-oExitOnForwardFailure=yes", f"{self.host()['jump_user']}@127.0.0.1", *words)

    def ssh_options(self, key: Path | None = None) -> list[str]:
        """Return the options with which ssh goes to the node, and nowhere but there."""
        return [
            "-F/dev/null",
            f"-i{key or self.dir / 'ssh/id_ed25519'}",
            f"-p{self.host()['ssh_port']}",
            "-oBatchMode=yes",
            "-oIdentitiesOnly=yes",
            "-oStrictHostKeyChecking=yes",
            f"-oUserKnownHostsFile={self.dir / 'ssh/known_hosts'}",
        ]

    def ipam(self) -> str:
        """Return the text of the address file."""
        return (self.dir / "etc/migra/ipam-cloudpods.txt").read_text()

    def traces(self, vmid: int) -> list[str]:
        """Return whatever there is of a container on this machine."""
        paths = [
            self.dir / f"etc/pve/lxc/{vmid}.conf",
            self.dir / f"clients/main/subvol-{vmid}-disk-0",
            self.dir / f"mnt/clients-small/images/{vmid}/subvol-{vmid}-disk-0.subvol",
            Path(f"/var/lib/lxc/{vmid}"),
            Path(f"/sys/class/net/veth{vmid}i0"),
            *CGROUP.glob(f"**/lxc*/{vmid}"),
        ]
        found = [str(path) for path in paths if path.exists()]
        texts = {"/proc/net/unix": f"/lxc/{vmid}/", "/proc/mounts": f"-{vmid}-disk"}
        found += [path for path, text in texts.items() if text in Path(path).read_text()]
        found += ["the address file"] if f" {vmid} " in self.ipam() else []
        return found

    def limit(self, vmid: int, v1: tuple[str, str], v2: str) -> str:
        """Return a limit from a running container's cgroup, whichever version the kernel has."""
        unified = (CGROUP / "cgroup.controllers").exists()
        path = CGROUP / "lxc" / str(vmid) / v2 if unified else CGROUP / v1[0] / "lxc" / str(vmid) / v1[1]
        return path.read_text().strip()

    def memory_mb(self, vmid: int) -> int:
        """Return how much memory the kernel lets a container have."""
        return int(self.limit(vmid, ("memory", "memory.limit_in_bytes"), "memory.max")) >> 20

    def cpus(self, vmid: int) -> int:
        """Return how many processors the kernel lets a container use."""
        words = self.limit(vmid, ("cpuset", "cpuset.cpus"), "cpuset.cpus").split(",")
        bounds = [[int(each) for each in word.split("-")] for word in words]
        return sum(each[-1] - each[0] + 1 for each in bounds)


def _custom_stats(text: str) -> dict:
    """Return what a playbook has handed over by set_stats."""
    _, _, tail = text.partition("RUN: ")
    return json.JSONDecoder().raw_decode(tail.lstrip())[0].get("result", {}) if tail else {}


def run(*argv: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command; return its rc, stdout and stderr."""
    words = [str(word) for word in argv]
    environment = {**os.environ, **(env or {})}
    return subprocess.run(
        words, env=environment, cwd=REPOSITORY, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
