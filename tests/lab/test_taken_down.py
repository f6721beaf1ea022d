"""Laying the lab and taking it down leaves the machine as it was. The last file: afterwards there is no lab."""

from __future__ import annotations

import hashlib
import os
import socket
from pathlib import Path

import pytest

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


@pytest.fixture
def before(lab: RealNode) -> dict[str, object]:
    """Return the machine without the lab."""
    lab.playbook("lab_down")
    return machine()


def assert_same(before: dict[str, object]) -> None:
    after = machine()
    for name, value in before.items():
        assert after[name] == value, name


def test_a_half_laid_lab_is_taken_down(lab: RealNode, before: dict[str, object]) -> None:
    port = int(os.environ.get("CLOUDPODS_LAB_SSH_PORT") or 22022)
    with socket.create_server(("127.0.0.1", port)):
        failed = lab.playbook("lab", ok=False)
    assert f"Bind to port {port} on 127.0.0.1 failed" in failed["output"]
    lab.playbook("lab_down")
    assert_same(before)


def test_somebody_elses_user_is_neither_taken_nor_removed(lab: RealNode, before: dict[str, object]) -> None:
    run("useradd", "--system", "--no-create-home", "cloudpods-jump")
    try:
        failed = lab.playbook("lab", ok=False)
        assert "users of the lab's names, which are not the lab's: cloudpods-jump" in failed["output"]
        lab.playbook("lab_down")
        assert run("getent", "passwd", "cloudpods-jump").returncode == 0
    finally:
        run("userdel", "cloudpods-jump")
    assert_same(before)


@pytest.mark.lab_smoke
def test_the_machine_is_as_it_was(lab: RealNode, before: dict[str, object]) -> None:
    assert before["sshd"] == []
    assert "mpanel-automation" not in str(before["users"])
    assert not any("cloudpods-lab" in path for path in [*before["/etc"], *before["folders"]])  # type: ignore[misc]
    lab.playbook("lab")
    lab.playbook("cloudpod_create", vmid=99901, hostname="left", tenant_id=TENANT, cores=1, memory_mb=256, auto_ip=True)
    lab.playbook("lab_down")
    assert_same(before)
