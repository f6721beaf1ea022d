"""Pods as Ansible hosts: asked of the node, reached through it as jump host, every host key verified."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.lab.real_node import NODE, RealNode, run
from tests.lab.test_pod import TENANT, create, guest

RUNNING = {99851: "web", 99852: "db"}
STOPPED = 99853


@pytest.fixture
def inventory(lab: RealNode, tmp_path: Path) -> Path:
    """Return an inventory of the node's pods."""
    known, host = str(lab.dir / "ssh/known_hosts"), lab.host()
    way = {"host": "127.0.0.1", "port": host["ssh_port"], "known_hosts": known}
    source = {
        "plugin": "migra.cloudpods.cloudpods",
        "nodes": [
            {
                "name": NODE,
                "user": host["user"],
                "private_key_file": str(lab.dir / "ssh/id_ed25519"),
                "script_dir": str(lab.dir / "sbin"),
                "sudo": True,
                **way,
            }
        ],
        "jump": {"user": host["jump_user"], "private_key_file": str(lab.dir / "ssh/jump_ed25519"), **way},
        "compose": {"ansible_ssh_private_key_file": repr(str(lab.dir / "ssh/id_ed25519"))},
    }
    path = tmp_path / "lab.cloudpods.yml"
    path.write_text(yaml.safe_dump(source))
    return path


@pytest.fixture
def pods(lab: RealNode) -> object:
    """Make two pods that run and one that does not; take them away afterwards."""
    for vmid, name in RUNNING.items():
        guest(lab, create(lab, vmid, hostname=name, pod_id=f"pod-{vmid}")["ip"], "true")  # its sshd answers
    create(lab, STOPPED, hostname="asleep", pod_id=f"pod-{STOPPED}")
    lab.playbook("cloudpod_power", vmid=STOPPED, state="stopped")
    yield
    for vmid in (*RUNNING, STOPPED):
        run(lab.dir / "sbin/cloudpod-destroy.sh", vmid)


@pytest.mark.usefixtures("pods")
def test_every_running_pod_is_listed_and_answers(lab: RealNode, inventory: Path) -> None:
    graph = run("ansible-inventory", "-i", inventory, "--graph")
    assert graph.returncode == 0, graph.stderr
    for name in ("web", "db", "asleep", f"@node_{NODE}", "@power_running", f"@tenant_{TENANT.replace('-', '_')}"):
        assert f"--{name}" in graph.stdout
    ping = run("ansible", "-i", inventory, "cloudpods:!power_stopped", "-m", "ansible.builtin.ping")
    assert ping.returncode == 0, ping.stdout + ping.stderr
    assert ping.stdout.count("SUCCESS") == len(RUNNING)

    # Another host key on the same address is not the pod: what answers there is not talked to.
    lab.ok("pct", "exec", 99851, "--", "sh", "-c", "rm /etc/ssh/ssh_host_* && ssh-keygen -q -A && systemctl restart ssh")
    alone = {"ANSIBLE_SSH_ARGS": "-o ControlMaster=no"}
    ping = run("ansible", "-i", inventory, "web", "-m", "ansible.builtin.ping", env=alone)
    assert ping.returncode != 0
    assert "Host key verification failed" in ping.stdout
