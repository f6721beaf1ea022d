"""The jump host: a way to the pods' sshd, and to nothing else."""

from __future__ import annotations

import subprocess
import time

import pytest

from tests.lab.real_node import RealNode, run

TENANT = "TENANT-LAB"


@pytest.mark.lab_smoke
def test_a_pod_is_reached_through_it(lab: RealNode, vmid: int) -> None:
    wanted = {"hostname": "lab-pod", "tenant_id": TENANT, "cores": 1, "memory_mb": 256, "auto_ip": True}
    address = lab.playbook("cloudpod_create", vmid=vmid, **wanted)["result"]["ip"]
    for _ in range(400):  # until the pod's own sshd listens
        done = lab.jump("-W", f"{address}:22")
        if done.stdout:
            break
        time.sleep(0.25)
    assert done.stdout.startswith("SSH-2.0-"), done.stderr


@pytest.mark.lab_smoke
@pytest.mark.parametrize("target", ["127.0.0.1:{ssh_port}", "10.1.10.10:22", "{gateway}:22", "{first}:23"])
def test_nothing_else_is(lab: RealNode, target: str) -> None:
    host = lab.host()
    first = str(lab.hostvars["cloudpod_node_ip_first"]).replace("{{ lab_node_network }}", host["gateway"].rpartition(".")[0])
    done = lab.jump("-W", target.format(**host, first=first))
    assert done.returncode != 0
    assert "administratively prohibited" in done.stderr


@pytest.mark.parametrize("words", [("id",), ("-tt",), ("-tt", "bash"), ("-s", "sftp")])
def test_there_is_no_shell(lab: RealNode, words: tuple[str, ...]) -> None:
    done = lab.jump(*words)
    assert done.returncode != 0
    assert "uid=" not in done.stdout


def test_nothing_is_listened_to_for_it(lab: RealNode) -> None:
    done = lab.jump("-N", "-R", "0:127.0.0.1:22")
    assert done.returncode == 255
    assert "remote port forwarding failed" in done.stderr


def test_it_may_not_use_sudo_and_cannot_give_itself_keys(lab: RealNode) -> None:
    assert "not allowed to run sudo" in run("sudo", "-l", "-U", "cloudpods-jump").stdout
    keys = lab.dir / "ssh/logins/cloudpods-jump"
    assert (keys.stat().st_uid, keys.stat().st_mode & 0o777, keys.parent.stat().st_uid) == (0, 0o644, 0)
    assert run("getent", "shadow", "cloudpods-jump").stdout.split(":")[1] == "*"


@pytest.mark.lab_smoke
def test_the_automation_user_forwards_nothing(lab: RealNode) -> None:
    user = f"{lab.host()['user']}@127.0.0.1"
    done = run("ssh", *lab.ssh_options(), user, "-W", f"127.0.0.1:{lab.host()['ssh_port']}")
    assert done.returncode != 0
    assert "administratively prohibited" in done.stderr
    assert "restrict ssh-ed25519 " in (lab.dir / f"ssh/logins/{lab.host()['user']}").read_text()


def test_an_open_session_outlives_a_reload(lab: RealNode) -> None:
    argv = ["ssh", *lab.ssh_options(), f"{lab.host()['user']}@127.0.0.1", "echo before; read word; echo $word"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as session:
        assert session.stdin and session.stdout
        assert session.stdout.readline() == "before\n"
        lab.ok("lab-host", "reload")
        assert session.communicate("after\n")[0] == "after\n"
    assert lab.ssh("echo again").stdout == "again\n"
