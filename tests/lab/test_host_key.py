"""The host key that an inventory names is the only one that is taken: inventories/example, pointed at the lab."""

from __future__ import annotations

import json
from pathlib import Path
from subprocess import CompletedProcess

from tests.lab.real_node import REPOSITORY, RealNode, run


def come_in(lab: RealNode, **variables: object) -> CompletedProcess[str]:
    """Let Ansible come in as the example inventory says, on the lab's port with the lab's key."""
    here = {
        "ansible_host": "127.0.0.1",
        "ansible_port": lab.host()["ssh_port"],
        "ansible_ssh_private_key_file": str(lab.dir / "ssh/id_ed25519"),
        "ansible_control_path": "none",
        **variables,
    }
    return run(
        "ansible", "-i", REPOSITORY / "inventories/example", "pve1", "-m", "ansible.builtin.ping", "-e", json.dumps(here)
    )


def public(path: Path) -> str:
    """Return type and key of a public key's file."""
    return " ".join(path.read_text().split()[:2])


def test_the_named_key_is_enough(lab: RealNode) -> None:
    done = come_in(lab, cloudpod_node_host_key=public(lab.dir / "ssh/host_ed25519.pub"))
    assert '"ping": "pong"' in done.stdout or "ping: pong" in done.stdout, done.stdout + done.stderr


def test_another_key_is_refused(lab: RealNode) -> None:
    done = come_in(lab, cloudpod_node_host_key=public(lab.dir / "ssh/id_ed25519.pub"))
    assert done.returncode != 0
    assert "Host key verification failed" in done.stdout + done.stderr


def test_an_unknown_key_is_not_taken(lab: RealNode) -> None:
    done = come_in(lab)
    assert done.returncode != 0
    assert "Host key verification failed" in done.stdout + done.stderr
