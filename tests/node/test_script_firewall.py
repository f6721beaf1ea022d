"""The pod's firewall file: there before the pod starts, gone with it, a site's own left alone, kept through an archive."""

from __future__ import annotations

from pathlib import Path

from tests.node_scripts import Scripts, node

__all__ = ["node"]

OURS = ["[OPTIONS]", "enable: 1", "ipfilter: 1", "macfilter: 1", "policy_in: ACCEPT", "policy_out: ACCEPT"]
SITES = "[OPTIONS]\nenable: 1\n\n[RULES]\nIN DROP -p tcp\n"


def firewall(node: Scripts, vmid: int = 9101) -> Path:
    return node.lab.dir / f"etc/pve/firewall/{vmid}.fw"


def rules(node: Scripts, vmid: int = 9101) -> list[str]:
    return [line for line in firewall(node, vmid).read_text().splitlines() if line]


def test_a_pod_may_send_only_as_itself(node: Scripts) -> None:
    node.created()
    assert rules(node) == OURS
    assert [path.name for path in firewall(node).parent.iterdir()] == ["9101.fw"]


def test_the_file_is_there_when_the_pod_starts(node: Scripts) -> None:
    node.lab.ok("lab-switch", "fail", "pct start", "--message", "no", "--half")
    node.lab.ok("lab-switch", "fail", "pct destroy", "--message", "no")
    assert node.create().returncode == 1
    assert rules(node) == OURS


def test_a_failed_create_leaves_no_file(node: Scripts) -> None:
    node.lab.ok("lab-switch", "fail", "pct start", "--message", "no")
    assert node.create().returncode == 1
    assert list(firewall(node).parent.iterdir()) == []


def test_a_destroy_removes_it(node: Scripts) -> None:
    node.created()
    assert node.run("destroy", 9101).returncode == 0
    assert list(firewall(node).parent.iterdir()) == []


def test_a_sites_own_rules_are_left_alone(node: Scripts) -> None:
    firewall(node).parent.mkdir()
    firewall(node).write_text(SITES)
    node.created()
    assert firewall(node).read_text() == SITES


def test_an_empty_file_is_no_rules(node: Scripts) -> None:
    firewall(node).parent.mkdir()
    firewall(node).write_text("")
    node.created()
    assert rules(node) == OURS


def test_a_file_that_cannot_be_written_fails_the_create_whole(node: Scripts) -> None:
    firewall(node).parent.write_text("in the way")
    done = node.create()
    assert done.returncode == 1
    assert f"Error    : cannot write {firewall(node)}" in done.stderr
    assert "Left     : nothing" in done.stderr
    assert node.lab.conf(9101) is None and node.ipam() == []


def test_an_archive_keeps_the_rules(node: Scripts) -> None:
    node.created()
    firewall(node).write_text(SITES)
    node.lab.ok("vzdump", 9101, "--storage", "vzdump-backups", "--compress", "zstd")
    (archive,) = (node.lab.dir / "mnt/vzdump-backups/dump").glob("*.tar.zst")
    node.run("destroy", 9101)
    node.lab.ok("pct", "restore", 9101, archive, "--storage", "clients-main")
    assert firewall(node).read_text() == SITES


def test_the_archive_of_one_without_rules_restores_an_empty_file(node: Scripts) -> None:
    node.created()
    firewall(node).unlink()
    node.lab.ok("vzdump", 9101, "--storage", "vzdump-backups", "--compress", "gzip")
    (archive,) = (node.lab.dir / "mnt/vzdump-backups/dump").glob("*.tar.gz")
    node.lab.ok("pct", "restore", 9102, archive, "--storage", "clients-main")
    assert firewall(node, 9102).read_text() == ""
