"""What a restore in place leaves when it is ended: the note outside the conf, and what each script and report makes of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.node_scripts import Scripts, create_arguments, failure, has_begun, kill_all_of, node, summary, wait_until

__all__ = ["node"]

OWNER = ("--tenant", "TENANT-123", "--pod", "abc")
KEPT = {"cores": "4", "cpulimit": "1", "memory": "4096", "onboot": "0", "tags": "vip"}
RULES = "[OPTIONS]\nenable: 1\n[RULES]\nIN DROP -p tcp -dport 25\n"


@pytest.fixture
def archive(node: Scripts) -> str:
    """Return the archive of pod 9101, which is on the second storage and has become another since."""
    node.created(ip="10.1.10.91", storage="clients-backup")
    node.lab.ok("pct", "set", 9101, "--protection", 1, "--startup", "order=3")
    node.lab.ok("pct", "set", 9101, "--net1", "name=eth1,bridge=vmbr0,ip=10.1.10.77/24")
    made = summary(node.run("backup", 9101, "--mode", "snapshot"))["Archive"]
    node.lab.ok("pct", "set", 9101, "--protection", 0, "--delete", "net1,startup")
    node.lab.ok("pct", "resize", 9101, "rootfs", "20G")
    node.lab.ok("pct", "set", 9101, *[word for key, value in KEPT.items() for word in (f"--{key}", value)])
    node.lab.ok("pct", "set", 9101, "--description", "cloudpod tenant=TENANT-123 pod=abc\nask Bob: 100%")
    firewall(node).write_text(RULES)
    return made


def firewall(node: Scripts) -> Path:
    """Return the pod's firewall file."""
    return node.lab.dir / "etc/pve/firewall/9101.fw"


def restore(archive: str, job: str, *words: str) -> list[str | int]:
    """Return arguments of a restore in place."""
    return [9101, "--archive", archive, *OWNER, "--force", "--run", job, *words]


def killed_after_begin(node: Scripts, archive: str) -> None:
    """Leave what a restore killed half-way leaves: a bare conf."""
    node.lab.switch("delay", "pct restore", 30)
    process = node.start("restore", *restore(archive, "jobr.1"))
    wait_until(lambda: node.lab.conf(9101) == "lock: create\n", "the old disks are gone")
    kill_all_of(process)
    node.lab.switch("reset")


def assert_kept(node: Scripts) -> None:
    """Fail unless the pod is what it was before the restore, and nothing is left over."""
    (row,) = node.info(9101)
    assert {key: row["config"].get(key) for key in KEPT} == KEPT
    assert (row["storage"], row["disk_gb"], row["ip"], row["protection"]) == ("clients-backup", 20, "10.1.10.91", False)
    assert "net1" not in row["config"] and "startup" not in row["config"] and "ask Bob: 100%" in row["config"]["description"]
    assert (row["unfinished"], row["lock"], row["status"], row["in_pool"]) == (False, None, "running", True)
    assert firewall(node).read_text() == RULES and node.traces(9101)["notes"] == []
    folder = node.lab.dir / "clients"
    assert [path.parent.name for path in folder.glob("*/subvol-9101-*")] == ["backup"]


def test_in_place_keeps_all_that_the_pod_is(node: Scripts, archive: str) -> None:
    done = node.run("restore", *restore(archive, "jobr.1"))
    assert done.returncode == 0 and "net1" in done.stderr, done.stderr
    assert_kept(node)


@pytest.mark.parametrize("job", ["jobr.2", "jobs.1"])
def test_a_killed_restore_is_taken_up_with_all_that_the_pod_was(node: Scripts, archive: str, job: str) -> None:
    killed_after_begin(node, archive)
    (row,) = node.info(9101)
    assert (row["unfinished"], row["owner"]) == (True, {"tenant": "TENANT-123", "pod": "abc"})
    (health,) = json.loads(node.run("health", "--all").stdout)["pods"]
    assert health["verdict"] == "critical" and archive in health["reasons"][0]
    assert node.run("power", 9101, "--state", "running").returncode == 75
    assert node.create(9101).returncode == 73
    assert summary(node.run("restore", *restore(archive, job)))["Result"] == "restored"
    assert_kept(node)


@pytest.mark.parametrize("gone", [False, True])
def test_what_a_killed_restore_left_can_be_destroyed_by_its_owner(node: Scripts, archive: str, gone: bool) -> None:
    if gone:
        node.lab.switch("fail", "pct restore", "--message", "tar broke", "--half", "--times", 1)
        assert "is gone" in failure(node.run("restore", *restore(archive, "jobr.1")))["Left"]
    else:
        killed_after_begin(node, archive)
    assert node.run("destroy", 9101, "--tenant", "TENANT-9").returncode == 77
    assert node.run("destroy", 9101, "--tenant", "TENANT-123", "--pod", "xyz").returncode == 77
    done = node.run("destroy", 9101, *OWNER)
    assert (done.returncode, summary(done)["IP"]) == (0, "10.1.10.91"), done.stderr
    left = node.traces(9101)
    assert (left["conf"], left["ipam"], left["notes"]) == (None, [], [])
    assert not list((node.lab.dir / "clients").glob("*/subvol-9101-*"))


def test_left_is_true_at_every_failure(node: Scripts, archive: str) -> None:
    node.lab.switch("fail", "pct restore", "--message", "tar broke", "--half", "--times", 2)
    for job in ("jobr.1", "jobr.2"):
        left = failure(node.run("restore", *restore(archive, job)))["Left"]
        assert "9101 is gone" in left and "10.1.10.91" in left and archive in left
    other = "vzdump-backups:backup/vzdump-lxc-9101-2020_01_01-00_00_00.tar.zst"
    assert "9101 is gone" in failure(node.run("restore", *restore(other, "jobs.1")))["Left"]
    (row,) = node.info()
    assert (row["exists"], row["unfinished"], row["owner"]) == (False, True, {"tenant": "TENANT-123", "pod": "abc"})
    (health,) = json.loads(node.run("health", 9101).stdout)["pods"]
    assert health["verdict"] == "critical" and "restore it again" in health["reasons"][0]
    assert node.run("restore", *restore(archive, "jobr.3")).returncode == 0
    assert_kept(node)


def test_a_note_of_a_restore_that_never_began_restarts_nothing(node: Scripts, archive: str) -> None:
    node.lab.switch("delay", "pct stop", 30)
    process = node.start("restore", *restore(archive, "jobr.1"))
    wait_until(lambda: has_begun(process, "stop"), "pct stop")
    kill_all_of(process)
    node.lab.switch("reset")
    assert node.traces(9101)["notes"] and not node.info(9101)[0]["unfinished"]
    assert node.run("power", 9101, "--state", "stopped").returncode == 0
    assert node.traces(9101)["notes"] == []
    assert summary(node.run("restore", *restore(archive, "jobs.1")))["Status"] == "stopped"


def test_a_failed_restore_forgets_no_earlier_one(node: Scripts, archive: str) -> None:
    assert node.run("restore", *restore(archive, "jobr.1")).returncode == 0
    before = node.lab.conf(9101)
    node.lab.switch("fail", "pct stop", "--message", "no stop", "--times", 1)
    assert failure(node.run("restore", *restore(archive, "jobs.1")))["Left"] == "nothing"
    assert node.lab.conf(9101) == before and node.traces(9101)["notes"] == []
    assert summary(node.run("restore", *restore(archive, "jobr.2")))["Result"] == "exists"


@pytest.mark.parametrize("next_run", ["restore", "destroy"])
def test_a_pod_made_anew_and_killed_before_it_joined_the_pool(node: Scripts, archive: str, next_run: str) -> None:
    node.lab.ok("pct", "stop", 9101)
    node.lab.ok("pct", "destroy", 9101, "--purge", 1)
    node.lab.switch("fail", "pct start", "--message", "no start", "--times", 2)
    assert node.run("restore", *restore(archive, "jobr.1")).returncode == 1
    users = node.lab.dir / "etc/pve/user.cfg"
    users.write_text(users.read_text().replace("9101", ""))
    path = node.lab.conf_path(9101)
    path.write_text(path.read_text().replace("hostname:", "lock: create\nhostname:"))
    assert node.info(9101)[0]["unfinished"]
    if next_run == "destroy":
        assert node.run("destroy", 9101, *OWNER).returncode == 0
        node.assert_no_trace(9101)
    else:
        assert summary(node.run("restore", *restore(archive, "jobr.2")))["Result"] == "restored"
        (row,) = node.info(9101)
        assert (row["in_pool"], row["lock"], row["status"]) == (True, None, "running") and "net1" not in row["config"]


@pytest.mark.parametrize("name", ["etc/pve/user.cfg", "run/net-unix"])
def test_a_file_of_the_nodes_that_is_missing_is_named(node: Scripts, name: str) -> None:
    (node.lab.dir / name).unlink()
    done = node.run("create", *create_arguments())
    assert done.returncode == 1 and name in failure(done)["Error"]
