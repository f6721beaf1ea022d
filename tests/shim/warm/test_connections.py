"""The SSH connections that are left open for later runs, and what ends their use."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import yaml

from shim.worker import connections
from tests.shim.warm.conftest import Project, Ways
from tests.sshd import Sshd, make_key, skip_without_sshd

PING = """- hosts: node
  gather_facts: false
  tasks: [{ansible.builtin.raw: echo here}]
"""


@pytest.fixture(autouse=True)
def home(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(short_path))
    return short_path


def test_it_is_the_same_folder_until_the_inventory_or_the_known_hosts_change(home: Path) -> None:
    inventory = home / "inventory"
    (inventory / "group_vars").mkdir(parents=True)
    (inventory / "hosts").write_text("node1\n")
    seen = [connections.directory(home, inventory)]
    assert connections.directory(home, inventory) == seen[0]
    assert seen[0].stat().st_mode & 0o777 == 0o700
    for path in (inventory / "hosts", inventory / "group_vars/all.yml", home / ".ssh/known_hosts"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("changed")
        seen.append(connections.directory(home, inventory))
    assert len(set(seen)) == 4
    assert [each.name for each in (home / "cp").iterdir()] == [seen[-1].name], "folders without connections are removed"


def test_the_variables_beside_an_inventory_of_one_file_are_a_part_of_it(home: Path) -> None:
    (home / "hosts").write_text("node1\n")
    before = connections.directory(home, home / "hosts")
    (home / "host_vars").mkdir()
    (home / "host_vars/node1.yml").write_text("cloudpod_node_host_key: another\n")
    assert connections.directory(home, home / "hosts") != before


def test_a_folder_with_a_connection_stays(home: Path) -> None:
    (home / "hosts").write_text("node1\n")
    before = connections.directory(home, home / "hosts")
    (before / "socket").touch()
    (home / "hosts").write_text("node1\nnode2\n")
    assert connections.directory(home, home / "hosts") != before
    assert before.is_dir()


def test_sockets_have_room_below_a_long_state_folder(home: Path) -> None:
    found = connections.directory(home / ("long" * 20), home / "hosts")
    assert found.is_relative_to(home / ".ansible/cp")


@pytest.mark.parametrize("way", ["plain", "warm"])
def test_no_open_connection_leads_to_a_node_whose_key_is_another_now(way: str, home: Path, tmp_path: Path) -> None:
    skip_without_sshd()
    project = Project(tmp_path)
    project.write("ping.yml", PING)
    sshd = Sshd(home / "ssh")
    sshd.start()
    ways = Ways(
        project, {"ANSIBLE_SSH_ARGS": "-o ControlMaster=auto -o ControlPersist=60s", "ANSIBLE_SSH_CONTROL_PATH_DIR": "/none"}
    )
    try:
        inventory = project.folder / "nodes.yml"
        inventory.write_text(yaml.safe_dump({"all": {"hosts": {"node": sshd.variables()}}}))

        def run() -> tuple[int, str]:
            directory = connections.directory(home, inventory)
            ended = ways.run(way, "-i", str(inventory), "ping.yml", ANSIBLE_SSH_CONTROL_PATH_DIR=str(directory))
            return ended.rc, ended.out + ended.err

        assert run()[0] == 0
        (socket,) = connections.directory(home, inventory).iterdir()
        assert run()[0] == 0
        assert list(connections.directory(home, inventory).iterdir()) == [socket]
        make_key(home / "other")
        known = home / "other_known_hosts"
        known.write_text(f"[127.0.0.1]:{sshd.port} {(home / 'other.pub').read_text()}")
        changed = sshd.variables()
        changed["ansible_ssh_common_args"] = shlex.join(
            word.replace(str(sshd.known_hosts), str(known)) for word in shlex.split(str(changed["ansible_ssh_common_args"]))
        )
        inventory.write_text(yaml.safe_dump({"all": {"hosts": {"node": changed}}}))
        rc, said = run()
        assert (rc, "Host key verification failed" in said) == (4, True), said
        assert list(ways.keeper._plain_runs()) == []
    finally:
        ways.stop()
        sshd.stop()
