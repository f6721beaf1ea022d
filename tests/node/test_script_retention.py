"""cloudpod-backup.sh --retention: what it takes away, and whose archives it never touches."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

import pytest

from tests.node_scripts import Scripts, failure, node, summary

__all__ = ["node"]


@pytest.fixture
def pod(node: Scripts) -> Scripts:
    """Return a node with one pod, 9101."""
    node.created()
    return node


def dump(node: Scripts) -> Path:
    """Return the folder of the default backup storage's archives."""
    return node.lab.dir / "mnt/vzdump-backups/dump"


def older(node: Scripts, day: int, notes: str) -> str:
    """Make an older archive of 9101; return its volume id."""
    name = f"vzdump-lxc-9101-2026_01_{day:02d}-00_00_00.tar.zst"
    (dump(node) / name).write_bytes(b"old")
    if notes:
        (dump(node) / f"{name}.notes").write_text(notes)
    return f"vzdump-backups:backup/{name}"


def backup(node: Scripts, *words: str) -> dict[str, str]:
    """Make a backup, which must succeed; return its summary."""
    done = node.run("backup", 9101, "--mode", "snapshot", *words)
    assert done.returncode == 0, done.stderr
    return summary(done) | {"stderr": done.stderr}


def archives(node: Scripts) -> list[str]:
    """Return the volume ids of all archives."""
    return sorted(f"vzdump-backups:backup/{path.name}" for path in dump(node).glob("*.tar.zst"))


def test_what_is_removed_is_named(pod: Scripts) -> None:
    old = [older(pod, day, "cloudpod tenant=TENANT-123 pod=abc job=j") for day in (1, 2)]
    said = backup(pod, "--retention", "keep-last=1", "--run", "jobb.1")
    assert sorted(said["Removed"].split(",")) == old and archives(pod) == [said["Archive"]]
    assert "Removed" not in backup(pod, "--retention", "keep-last=9,keep-daily=7")


@pytest.mark.parametrize("notes", ["cloudpod tenant=TENANT-9 pod=abc job=j", "cloudpod tenant=TENANT-123 pod=xyz job=j", ""])
@pytest.mark.parametrize("words", [("--retention", "keep-last=1"), ()], ids=["asked", "storage"])
def test_nothing_is_pruned_beside_an_archive_of_another_owner(pod: Scripts, notes: str, words: tuple[str, ...]) -> None:
    cfg = pod.lab.dir / "etc/pve/storage.cfg"
    cfg.write_text(cfg.read_text().replace("prune-backups keep-all=1", "prune-backups keep-last=1"))
    theirs, ours = older(pod, 1, notes), older(pod, 2, "cloudpod tenant=TENANT-123 pod=abc job=j")
    said = backup(pod, *words)
    assert "Removed" not in said and archives(pod) == sorted([theirs, ours, said["Archive"]])
    assert f"warning: nothing is pruned: archive {theirs} is not known to be of this pod" in said["stderr"]


def test_another_owners_archive_of_the_same_job_is_not_this_jobs(pod: Scripts) -> None:
    older(pod, 1, "cloudpod tenant=TENANT-9 pod=abc job=jobb")
    assert backup(pod, "--run", "jobb.1")["Result"] == "created"


@pytest.mark.parametrize("keep", ["", "keep-last", "keep-last=0", "keep-all=1", "keep-last=1000", "keep-last=1,", "last=1",
                                  "keep-last=1 --remove 1", "keep-last=1,keep-last=2", "keep-daily=00"])  # fmt: skip
def test_bad_retentions(node: Scripts, keep: str) -> None:
    done = node.run("backup", 9101, "--mode", "snapshot", "--retention", keep)
    assert done.returncode == 64 and failure(done)["Error"].startswith("retention: ") and node.log() == []


def test_a_second_backup_on_the_node_is_told_at_once_to_come_again(pod: Scripts) -> None:

    fd = os.open(pod.lab.dir / "run/vzdump.lock", os.O_RDWR | os.O_CREAT, 0o644)
    fcntl.flock(fd, fcntl.LOCK_EX)
    done = pod.run("backup", 9101, "--mode", "snapshot")
    os.close(fd)
    assert (done.returncode, failure(done)["Retryable"]) == (75, "yes")


def test_info_lists_archives_and_says_when_it_cannot(pod: Scripts) -> None:

    theirs = older(pod, 1, "")
    made = backup(pod, "--run", "jobb.1")["Archive"]
    (dump(pod) / f"{theirs.rpartition('/')[2]}.protected").write_text("")
    done = pod.run("info", "--all", "--backups")
    (row,) = json.loads(done.stdout)["pods"]
    assert [(each["volid"], each["tenant"], each["job"], each["protected"]) for each in row["backups"]] == [
        (made, "TENANT-123", "jobb", False),
        (theirs, None, None, True),
    ]
    pod.lab.switch("fail", "pvesm list", "--message", "storage is asleep")
    done = pod.run("info", 9101, "--backups")
    assert (done.returncode, failure(done)["Error"]) == (69, "storage is asleep")
    assert pod.info(9101)[0]["vmid"] == 9101


def test_two_without_an_owner_are_not_the_same_owner(node: Scripts) -> None:
    node.lab.create(9101, ip="10.1.10.77")
    old = older(node, 1, "cloudpod tenant=- pod=- job=-")
    assert "Removed" not in backup(node, "--retention", "keep-last=1") and old in archives(node)
