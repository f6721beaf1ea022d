"""A guest that means harm: what runs inside it gets nothing of the node's, and holds nobody up."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node_scripts import Scripts, create_arguments, finished, node, summary, wait_until
from tests.processes import has_ended

__all__ = ["node"]

OWNER = ("--tenant", "TENANT-123", "--pod", "abc")
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAbcdefghijklmnop"
# The time limit for a guest is four seconds, and one for what does not die.
IN_TIME_S = 45
# It outlives whatever ends its group, and keeps what it was given.
LEAVES_A_PROCESS = 'setsid sleep 120 & echo $! >>"$0.pids"'
FLOODS = "head -c 10000000 /dev/zero | tr '\\0' x >&2"


class Hostile:
    """A node whose guest 9101 has a `cat` of its own."""

    def __init__(self, node: Scripts) -> None:
        self.node = node
        self.cat = node.lab.dir / "run/guest/9101.cat"

    def answers(self, *lines: str) -> None:
        """Make the guest's `cat` this shell script."""
        self.cat.parent.mkdir(exist_ok=True)
        self.cat.write_text("\n".join(["#!/bin/sh", *lines]) + "\n")
        self.cat.chmod(0o755)

    def left(self) -> list[int]:
        """Return the processes that it has left behind."""
        path = Path(f"{self.cat}.pids")
        return [int(word) for word in path.read_text().split()] if path.exists() else []

    def assert_free(self) -> None:
        """Fail unless the vmid can be worked on although the processes are still there."""
        assert all(Path(f"/proc/{pid}").exists() for pid in self.left()) and self.left()
        assert self.node.info(9101)[0]["busy"] is None
        scaled = self.node.run("scale", 9101, "--cores", 1, "--mem", 1024, *OWNER)
        assert scaled.returncode == 0, scaled.stderr


@pytest.fixture
def hostile(node: Scripts) -> Iterator[Hostile]:
    """Return the node; what the guest leaves is ended with the test."""
    guest = Hostile(node)
    yield guest
    for pid in guest.left():
        os.kill(pid, signal.SIGKILL)


def open_in(pid: int) -> dict[int, str]:
    """Return a process's descriptors and what they lead to."""
    folder = Path(f"/proc/{pid}/fd")
    return {int(path.name): str(path.readlink()) for path in folder.iterdir()}


def test_what_a_guest_leaves_behind_has_nothing_of_ours(hostile: Hostile) -> None:
    hostile.answers(FLOODS, LEAVES_A_PROCESS, f"echo '{KEY} root@pod'")
    began = time.monotonic()
    created = hostile.node.create()
    assert created.returncode == 0 and time.monotonic() - began < IN_TIME_S, created.stderr
    assert len(created.stdout + created.stderr) < 10_000
    (pid,) = hostile.left()
    pipe = open_in(pid)
    assert sorted(pipe) == [0, 1, 2] and pipe.pop(1).startswith("pipe:")
    assert set(pipe.values()) == {"/dev/null"}
    hostile.assert_free()


def test_a_restore_is_not_held_up_either(hostile: Hostile) -> None:
    hostile.node.created()
    archive = summary(hostile.node.run("backup", 9101, "--mode", "snapshot"))["Archive"]
    hostile.answers(FLOODS, LEAVES_A_PROCESS)
    began = time.monotonic()
    restored = hostile.node.run("restore", 9101, "--archive", archive, *OWNER, "--force")
    assert restored.returncode == 0 and time.monotonic() - began < IN_TIME_S, restored.stderr
    assert "HostKey" not in summary(restored)
    hostile.assert_free()


def test_a_process_that_stays_in_the_group_is_ended(hostile: Hostile) -> None:
    hostile.answers(f"sleep 120 >/dev/null & echo $! >>'{hostile.cat}.group'", f"echo '{KEY} root@pod'")
    assert summary(hostile.node.create())["HostKey"] == KEY
    (pid,) = Path(f"{hostile.cat}.group").read_text().split()
    wait_until(lambda: not _lives(pid), "its end")


def _lives(pid: str) -> bool:
    """Return whether a process is there and no corpse."""
    return not has_ended(int(pid))


@pytest.mark.parametrize("lines", [
    ["yes ssh-ed25519"],
    ["head -c 10000000 /dev/zero"],
    ["echo 'ssh-ed25519 $(id)'"],
    [f"echo '{KEY}'; exit 1"],
    ["echo 'ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQ root@pod'"],
    ["kill -9 $$"],
])  # fmt: skip
def test_what_is_no_key_is_not_taken(hostile: Hostile, lines: list[str]) -> None:
    hostile.answers(*lines)
    done = hostile.node.create()
    assert done.returncode == 0, done.stderr
    assert "HostKey" not in summary(done) and hostile.node.info(9101)[0]["host_key"] is None


def test_a_signal_meanwhile_ends_the_guests_command_too(hostile: Hostile) -> None:
    hostile.answers('echo $$ >>"$0.asked"', "exec sleep 120")
    asked = Path(f"{hostile.cat}.asked")
    process = hostile.node.start("create", *create_arguments())
    wait_until(lambda: asked.exists() and asked.read_text().endswith("\n"), "the guest to be asked")
    process.terminate()
    assert finished(process).returncode == 143
    wait_until(lambda: not _lives(asked.read_text().strip()), "its end")
    hostile.node.assert_no_trace(9101)


def test_a_command_that_never_stops_talking_is_cut_in_the_middle(node: Scripts) -> None:
    node.created()
    pct = node.lab.dir / "bin/pct"
    flood = 'if [ "$1" = set ]; then echo the beginning >&2; yes | head -c 50000000 >&2; echo the end >&2; exit 1; fi'
    pct.write_text(pct.read_text().replace("exec ", f"{flood}\nexec ", 1))
    done = node.run("scale", 9101, "--cores", 1, "--mem", 1024, *OWNER)
    assert done.returncode == 1 and "\nthe end\n" in done.stderr and done.stderr.startswith("the beginning\n")
    assert 500_000 < len(done.stderr) < 550_000
    assert re.search(r"Error    : the beginning; y; y; ", done.stderr)
    assert not list(node.log_file.parent.glob(".*")), "the scratch files have no name"


def test_a_file_in_the_guest_does_not_name_the_archive(node: Scripts) -> None:
    node.created()
    vzdump = node.lab.dir / "bin/vzdump"
    text = vzdump.read_text().replace("exec ", "", 1)
    lines = [f"INFO: tar: ./{what} '/x/vzdump-lxc-9102-2026_01_01-00_00_00.tar.zst': socket ignored"
             for what in ("creating vzdump archive", "removing backup")]  # fmt: skip
    spoof = "\n".join(lines)
    vzdump.write_text(f'{text}rc=$?\ncat <<"EOF"\n{spoof}\nEOF\nexit $rc\n')
    told = summary(node.run("backup", 9101, "--mode", "snapshot"))
    assert "vzdump-lxc-9101-" in told["Archive"] and "Removed" not in told


def test_a_sites_umlauts_survive(node: Scripts) -> None:
    node.created()
    described = f"cloudpod tenant=TENANT-123 pod=abc\nWartung: für Käthe, 100 % 日本\nhost-key {KEY}"
    node.lab.ok("pct", "set", 9101, "--description", described)
    archive = summary(node.run("backup", 9101, "--mode", "snapshot"))["Archive"]
    restored = node.run("restore", 9101, "--archive", archive, *OWNER, "--force")
    assert restored.returncode == 0, restored.stderr
    assert "Wartung: für Käthe, 100 % 日本" in node.info(9101)[0]["config"]["description"].split("\n")
