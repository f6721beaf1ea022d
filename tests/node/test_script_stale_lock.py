"""What a backup that was cut off in the middle leaves on a container, and who takes it away."""

from __future__ import annotations

import fcntl
import os

import pytest

from tests.node_scripts import Scripts, failure, kill_all_of, node, wait_until

__all__ = ["node"]

SLOW_S = 90  # longer than any deadline: only a kill ends it
CHANGES = {
    "backup": (9101, "--mode", "snapshot"),
    "scale": (9101, "--cores", 1, "--mem", 1024),
    "power": (9101, "--state", "restarted"),
    "snapshot": (9101, "--action", "create", "--name", "after"),
    "destroy": (9101,),
}


@pytest.fixture
def cut_off(node: Scripts) -> Scripts:
    """Return a node that went down in the middle of a backup of 9101."""
    node.created()
    node.lab.switch("delay", "vzdump", SLOW_S)
    backup = node.start("backup", 9101, "--mode", "snapshot", "--run", "job2.1")
    wait_until(lambda: "lock: backup" in (node.lab.conf(9101) or ""), "the backup has begun")
    kill_all_of(backup)
    node.lab.switch("reset")
    assert "lock: backup" in (node.lab.conf(9101) or "")
    return node


@pytest.mark.parametrize(("script", "arguments"), CHANGES.items(), ids=CHANGES)
def test_a_lock_that_nobody_holds_any_more_is_lifted(cut_off: Scripts, script: str, arguments: tuple[str | int, ...]) -> None:
    done = cut_off.run(script, *arguments)
    assert done.returncode == 0, done.stderr
    assert "warning: lifted the lock (backup)" in done.stderr
    assert "lock:" not in (cut_off.lab.conf(9101) or "")


def test_info_tells_a_stale_lock_from_one_that_is_held(cut_off: Scripts) -> None:
    (row,) = cut_off.info(9101)
    assert (row["lock"], row["lock_stale"]) == ("backup", True)
    fd = os.open(cut_off.lab.dir / "run/vzdump.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(fd, fcntl.LOCK_EX)
    (row,) = cut_off.info(9101)
    os.close(fd)
    assert (row["lock"], row["lock_stale"]) == ("backup", False)


def test_the_same_backup_again_makes_one_archive(cut_off: Scripts) -> None:
    assert cut_off.run("backup", 9101, "--mode", "snapshot", "--run", "job2.2").returncode == 0
    assert len(list((cut_off.lab.dir / "mnt/vzdump-backups/dump").glob("*.tar.zst"))) == 1


def test_a_backup_that_is_under_way_keeps_its_lock(cut_off: Scripts) -> None:
    fd = os.open(cut_off.lab.dir / "run/vzdump.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        done = cut_off.run("power", 9101, "--state", "restarted")
    finally:
        os.close(fd)
    assert (done.returncode, failure(done)["Error"]) == (75, "CT is locked (backup)")
    assert "lock: backup" in (cut_off.lab.conf(9101) or "")


def test_another_owner_lifts_nothing(cut_off: Scripts) -> None:
    assert cut_off.run("power", 9101, "--state", "restarted", "--tenant", "TENANT-9").returncode == 77
    assert "lock: backup" in (cut_off.lab.conf(9101) or "")


@pytest.mark.parametrize("kind", ["snapshot", "snapshot-delete"])
def test_vzdumps_own_snapshot_goes_with_its_lock(node: Scripts, kind: str) -> None:
    node.created()
    node.lab.ok("pct", "snapshot", 9101, "before")
    path = node.lab.conf_path(9101)
    path.write_text(
        f"{path.read_text()}\n[vzdump]\nsnaptime: 1700000000\nsnapstate: prepare\n".replace("arch:", f"lock: {kind}\narch:", 1)
    )
    assert node.run("power", 9101, "--state", "restarted").returncode == 0
    text = node.lab.conf(9101) or ""
    assert "[vzdump]" not in text
    assert "[before]" in text


def test_the_lock_of_somebodys_own_snapshot_stays(node: Scripts) -> None:
    node.created()
    path = node.lab.conf_path(9101)
    path.write_text(path.read_text().replace("arch:", "lock: snapshot\narch:", 1))
    assert node.run("power", 9101, "--state", "restarted").returncode == 75
