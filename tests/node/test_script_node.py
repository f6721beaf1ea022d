"""What cloudpod-info.sh says of the node itself and of its cluster."""

from __future__ import annotations

import importlib.metadata
import json
import re

import pytest
import yaml
from jinja2 import Template

from tests.node_scripts import ROLE, Scripts, failure, node

__all__ = ["node"]

COROSYNC = "nodelist {\n  node {\n    name: lab1\n  }\n}\ntotem {\n  cluster_name: prod\n  version: 2\n}\n"


def answer(node: Scripts, *arguments: str) -> dict:
    done = node.run("info", *arguments)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def join(node: Scripts) -> None:
    """Put the node into a cluster with lab2."""
    pve = node.lab.dir / "etc/pve"
    (pve / "corosync.conf").write_text(COROSYNC)
    (pve / "nodes/lab2/lxc").mkdir(parents=True)


def test_a_node_tells_what_it_has(node: Scripts) -> None:
    found = answer(node, "--node")
    head = {"node": "lab1", "pool": "ClientPods", "cluster": None, "version": "0.1.0", "pods": []}
    assert found.items() >= head.items()
    facts = found["facts"]
    assert (facts["cores"], facts["memory_mb"], facts["storage"]) == (64, 262144, "clients-main")
    main = {"name": "clients-main", "type": "zfspool", "active": True, "total_gb": 1124, "available_gb": 1022}
    assert [row["name"] for row in facts["storages"]] == ["clients-backup", "clients-main"]
    assert facts["storages"][1] == main


def test_the_version_is_the_collections_and_the_control_planes() -> None:
    galaxy = yaml.safe_load((ROLE.parents[1] / "galaxy.yml").read_text())["version"]
    assert f"SCRIPTS_VERSION={galaxy}\n" in (ROLE / "files/lib/library.bash").read_text()
    assert importlib.metadata.version("migra-cloudpods") == galaxy


def test_a_storage_that_is_away_is_not_active_and_one_switched_off_is_not_there(node: Scripts) -> None:
    (node.lab.dir / "clients/backup").rmdir()
    conf = node.lab.dir / "etc/pve/storage.cfg"
    found = answer(node, "--node")["facts"]["storages"]
    assert [(row["name"], row["active"]) for row in found] == [("clients-backup", False), ("clients-main", True)]
    conf.write_text(conf.read_text().replace("zfspool: clients-backup\n", "zfspool: clients-backup\n\tdisable\n"))
    assert [row["name"] for row in answer(node, "--node")["facts"]["storages"]] == ["clients-main"]


def test_what_proc_does_not_tell_is_null(node: Scripts) -> None:
    (node.lab.dir / "proc/meminfo").unlink()
    (node.lab.dir / "proc/cpuinfo").write_text("odd\n")
    facts = answer(node, "--node")["facts"]
    assert (facts["cores"], facts["memory_mb"]) == (None, None)


def test_a_storage_command_that_fails_is_told(node: Scripts) -> None:
    node.lab.switch("fail", "pvesm status", "--times", 1)
    done = node.run("info", "--node")
    assert done.returncode == 69
    assert failure(done)["Left"] == "nothing"


@pytest.mark.parametrize("beside", [["--all"], ["9101"], ["--backups"]])
def test_nothing_may_be_given_beside_it(node: Scripts, beside: list[str]) -> None:
    done = node.run("info", "--node", *beside)
    assert (done.returncode, failure(done)["Error"]) == (64, "node: nothing may be given beside it")


@pytest.mark.parametrize(
    ("line", "allowed"),
    [
        ("--node", True),
        ("--all", True),
        ("9101 9102 --backups", True),
        ("--node --all", False),
        ("--node --backups", False),
        ("", False),
    ],
)
def test_sudo_lets_through_what_the_modules_send(line: str, allowed: bool) -> None:
    variables = yaml.safe_load((ROLE / "vars/main.yml").read_text())
    pattern = Template(variables["cloudpod_node_sudo_arguments"]["cloudpod-info.sh"]).render(variables)
    assert bool(re.search(pattern, line)) is allowed


def test_a_node_of_a_cluster_tells_where_its_pools_other_containers_are(node: Scripts) -> None:
    node.created(9101)
    node.created(9102)
    assert answer(node, "--all")["elsewhere"] == []
    join(node)
    moved = node.lab.conf_path(9102)
    moved.rename(node.lab.dir / "etc/pve/nodes/lab2/lxc/9102.conf")
    # Outside the pool: none of ours to tell of.
    (node.lab.dir / "etc/pve/nodes/lab2/lxc/300.conf").write_text("hostname: other\n")
    found = answer(node, "--all")
    assert found["cluster"] == {"name": "prod", "nodes": ["lab1", "lab2"]}
    assert found["elsewhere"] == [{"vmid": 9102, "node": "lab2"}]
    assert [row["vmid"] for row in found["pods"]] == [9101]
    assert "elsewhere" not in answer(node, "9101")
