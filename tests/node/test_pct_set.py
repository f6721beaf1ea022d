"""pct set: at once on a stopped container; hot or pending on a running one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.lab_node import LabNode

NET = "name=eth0,bridge=vmbr0,hwaddr=bc:24:11:00:00:01,ip=10.1.10.99/24"
STORED = [
    (["--tags", "b;A;a,c"], "tags: a;b;c"),
    (["--nameserver", "1.1.1.1,8.8.8.8"], "nameserver: 1.1.1.1 8.8.8.8"),
    (["--net0", NET], "net0: name=eth0,bridge=vmbr0,hwaddr=BC:24:11:00:00:01,ip=10.1.10.99/24,type=veth"),
    (["--features", "nesting=1,keyctl=1"], "features: nesting=1,keyctl=1"),
    (["--onboot", "no"], "onboot: 0"),
    (["--mem", "1024"], "memory: 1024"),
    (["-cores=4"], "cores: 4"),
    (["--mp0", "clients-backup:1.5,mp=/data"], "mp0: clients-backup:subvol-9101-disk-0,mp=/data,size=1536M"),
]


@pytest.mark.parametrize(("options", "line"), STORED)
def test_values_are_stored_as_proxmox_stores_them(lab: LabNode, options: list[str], line: str) -> None:
    lab.create(9101)
    assert lab.ok("pct", "set", 9101, *options) == ""
    assert f"{line}\n" in (lab.conf(9101) or "")


HOT = [
    (["--hostname", "other"], "hostname: other"),
    (["--cores", "8"], "cores: 8"),
    (["--description", "text"], "#text"),
    (["--onboot", "1"], "onboot: 1"),
    (["--net1", "name=eth1,bridge=vmbr0,hwaddr=BC:24:11:00:00:02"],
     "net1: name=eth1,bridge=vmbr0,hwaddr=BC:24:11:00:00:02,type=veth"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "line"), HOT)
def test_hot_values_are_current_at_once(lab: LabNode, options: list[str], line: str) -> None:
    lab.create(9101, "--start", 1)
    lab.ok("pct", "set", 9101, *options)
    assert f"{line}\n" in (lab.conf(9101) or "")
    assert "[pve:pending]" not in (lab.conf(9101) or "")


def test_memory_reaches_the_cgroup_and_leaves_swap(lab: LabNode) -> None:
    lab.create(9101, "--memory", 512, "--swap", 64, "--start", 1)
    lab.ok("pct", "set", 9101, "--memory", 32768)
    assert lab.cgroup(9101, "memory.max") == str(32768 << 20)
    assert lab.cgroup(9101, "memory.high") == str((32768 - 128) << 20)
    assert lab.cgroup(9101, "memory.swap.max") == str(64 << 20)


def test_other_values_wait_for_the_next_start(lab: LabNode) -> None:
    lab.create(9101, "--searchdomain", "old.example", "--start", 1)
    lab.ok("pct", "set", 9101, "--nameserver", "1.1.1.1", "--delete", "searchdomain")
    conf = lab.conf(9101) or ""
    assert conf.endswith("\n\n[pve:pending]\ndelete: searchdomain\nnameserver: 1.1.1.1\n")
    assert "nameserver: 1.1.1.1\n" in lab.ok("pct", "config", 9101)
    assert "nameserver" not in lab.ok("pct", "config", 9101, "--current", 1)
    pending = lab.ok("pct", "pending", 9101).splitlines()
    assert [line for line in pending if not line.startswith("cur")] == ["new nameserver: 1.1.1.1",
                                                                       "del searchdomain: old.example"]  # fmt: skip
    lab.ok("pct", "reboot", 9101)
    assert "nameserver: 1.1.1.1\n" in (lab.conf(9101) or "")
    assert "searchdomain" not in (lab.conf(9101) or "")
    assert "[pve:pending]" not in (lab.conf(9101) or "")


def test_revert_forgets_what_is_pending(lab: LabNode) -> None:
    lab.create(9101, "--start", 1)
    lab.ok("pct", "set", 9101, "--nameserver", "1.1.1.1")
    lab.ok("pct", "set", 9101, "--revert", "nameserver")
    assert "nameserver" not in (lab.conf(9101) or "")


def test_deleting_what_is_not_set_only_warns(lab: LabNode) -> None:
    lab.create(9101)
    done = lab.pct("set", 9101, "--delete", "tags")
    assert (done.returncode, done.stderr) == (0, "cannot delete 'tags' - not set in current configuration!\n")


def test_a_missing_bridge_is_told_after_the_file_is_written(lab: LabNode) -> None:
    lab.create(9101)
    done = lab.pct("set", 9101, "--net1", "name=eth1,bridge=vmbr9")
    assert (done.returncode, done.stderr) == (2, "bridge 'vmbr9' does not exist\n")
    assert "net1: name=eth1,bridge=vmbr9," in (lab.conf(9101) or "")


def test_foreign_lines_are_warned_of(lab: LabNode) -> None:
    lab.create(9101)
    with lab.conf_path(9101).open("a") as handle:
        handle.write("lxc.apparmor.profile: unconfined\nwhat is this\n")
    done = lab.pct("config", 9101)
    assert done.stderr == "vm 9101 - unable to parse config: what is this\n"
    assert done.stdout.endswith("unprivileged: 1\nlxc.apparmor.profile: unconfined\n")
