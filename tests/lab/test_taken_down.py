"""Laying the lab and taking it down leaves the machine as it was. The last file: afterwards there is no lab."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tests.lab.real_node import CGROUP, RealNode, run

TENANT = "TENANT-LAB"


def machine() -> dict[str, object]:
    """Return what a lab might have changed of this machine."""
    etc = [path for path in Path("/etc").rglob("*") if path.is_file() and not path.name.endswith(("-", ".lock"))]
    return {
        "interfaces": run("ip", "-br", "address").stdout,
        "routes": run("ip", "route").stdout,
        "nft": run("nft", "list", "ruleset").stdout,
        "forwarding": Path("/proc/sys/net/ipv4/ip_forward").read_text(),
        "mounts": Path("/proc/mounts").read_text(),
        "users": run("getent", "passwd").stdout + run("getent", "group").stdout,
        "/etc": {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in etc},
        "folders": sorted(str(path) for top in ("/run", "/var/lib", "/var/lib/lxc") for path in Path(top).glob("*")),
        "cgroups": sorted(str(path) for path in [*CGROUP.glob("lxc*"), *CGROUP.glob("*/lxc*")]),
        "sshd": [pid for pid, line in _commands() if "cloudpods-lab" in line],
        "lxc": [pid for pid, line in _commands() if line.startswith("[lxc monitor]")],
    }


def _commands() -> list[tuple[str, str]]:
    """Return pid and command line of every process."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append((path.parent.name, path.read_text(errors="replace").replace("\0", " ")))
        except OSError:  # it has ended
            continue
    return found


def test_the_machine_is_as_it_was(lab: RealNode) -> None:
    lab.playbook("lab_down")
    before = machine()
    assert before["sshd"] == []
    assert "mpanel-automation" not in str(before["users"])
    assert not any("cloudpods-lab" in path for path in [*before["/etc"], *before["folders"]])  # type: ignore[misc]
    lab.playbook("lab")
    lab.playbook("cloudpod_create", vmid=99901, hostname="left", tenant_id=TENANT, cores=1, memory_mb=256, auto_ip=True)
    lab.playbook("lab_down")
    after = machine()
    for name, value in before.items():
        assert after[name] == value, name
