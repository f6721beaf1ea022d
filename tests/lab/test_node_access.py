"""The way in: sshd with a verified host key, one user, sudo for the scripts and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab.real_node import RealNode, run

pytestmark = pytest.mark.lab_smoke


def test_the_automation_user_comes_in_and_reads(lab: RealNode) -> None:
    done = lab.ssh(f"id -un; sudo -n {lab.dir}/sbin/cloudpod-info.sh --all")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("mpanel-automation\n")
    assert '"node": "lxc1"' in done.stdout


@pytest.mark.parametrize(
    "command",
    [
        "sudo -n {dir}/bin/pct list",
        "sudo -n bash -c id",
        "sudo -n -i",
        "sudo -n {dir}/sbin/../sbin/cloudpod-info.sh --all",
        "sudo -n {dir}/sbin//cloudpod-info.sh --all",
        "sudo -n {dir}/sbin/cloudpod-infoXsh --all",
        "sudo -n {dir}/sbin/cloudpod-info.sh --all --more",
        "sudo -n {dir}/sbin/cloudpod-destroy.sh 9101 --storage x",
        "sudo -n {dir}/sbin/cloudpod-destroy.sh 9101 --tenant 'x --storage y'",
        "sudo -n {dir}/sbin/cloudpod-destroy.sh 9101 --tenant --pod",
        "sudo -n {dir}/sbin/cloudpod-create.sh --vmid 9101 --hookscript local:snippets/x",
        "sudo -n BASH_ENV=/tmp/x {dir}/sbin/cloudpod-info.sh --all",
    ],
)
def test_sudo_refuses_everything_else(lab: RealNode, command: str) -> None:
    done = lab.ssh(command.format(dir=lab.dir))
    assert done.returncode != 0
    assert "sudo:" in done.stderr


def test_a_core_container_is_refused(lab: RealNode) -> None:
    done = lab.ssh(f"sudo -n {lab.dir}/sbin/cloudpod-destroy.sh 100")
    assert done.returncode == 77
    assert "100" in lab.ok("pct", "list")


def test_another_key_is_refused(lab: RealNode, tmp_path: Path) -> None:
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "other")
    done = lab.ssh("true", key=tmp_path / "other")
    assert done.returncode == 255
    assert "Permission denied (publickey)" in done.stderr


def test_a_changed_host_key_is_refused(lab: RealNode, tmp_path: Path) -> None:
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "other")
    known = lab.dir / "ssh/known_hosts"
    before = known.read_text()
    kind, key = (tmp_path / "other.pub").read_text().split()[:2]
    known.write_text(f"{before.split()[0]} {kind} {key}\n")
    try:
        done = lab.ssh("true")
    finally:
        known.write_text(before)
    assert done.returncode == 255
    assert "Host key verification failed" in done.stderr
