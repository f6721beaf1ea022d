"""A container from create to destroy: what is printed, and what stands on the node's disk."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.lab_node import LabNode

TEMPLATE = "local:vztmpl/debian-12-standard_12.7-1_amd64.tar.zst"

MARKER = "cloudpod tenant=TENANT-1 pod=abc"


def test_create_writes_the_configuration_proxmox_writes(lab: LabNode) -> None:
    lab.create(9101, "--hostname", "client-portal", "--cores", 2, "--memory", 2048, "--features", "nesting=1",
               "--onboot", "yes", "--description", f"{MARKER}\nline: 2", ip="10.1.10.91")  # fmt: skip
    conf = lab.conf(9101)
    assert conf is not None
    mac = re.search(r"hwaddr=(BC:24:11(?::[0-9A-F]{2}){3}),", conf)
    assert mac
    assert conf == (
        f"#{MARKER}\n#line%3A 2\narch: amd64\ncores: 2\nfeatures: nesting=1\nhostname: client-portal\nmemory: 2048\n"
        f"net0: name=eth0,bridge=vmbr0,firewall=1,gw=10.1.10.1,hwaddr={mac[1]},ip=10.1.10.91/24,type=veth\n"
        "onboot: 1\nostype: debian\nrootfs: clients-main:subvol-9101-disk-0,size=8G\nswap: 512\nunprivileged: 1\n"
    )
    assert lab.pool() == {9101}
    assert lab.disks(9101) == ["subvol-9101-disk-0"]
    shown = lab.ok("pct", "config", 9101)
    assert f"description: {MARKER}%0Aline%3A 2%0A\n" in shown
    assert [line.partition(":")[0] for line in shown.splitlines()] == sorted(
        line.partition(":")[0] for line in shown.splitlines()
    )


def test_create_says_what_it_does_and_puts_keys_inside(lab: LabNode) -> None:
    keys = lab.dir / "platform.pub"
    keys.write_text("ssh-ed25519 AAAA platform\n")
    printed = lab.create(9101, "--ssh-public-keys", keys)
    assert re.match(r"extracting archive '.*debian-12-standard_12\.7-1_amd64\.tar\.zst'\nTotal bytes read: \d+ ", printed)
    assert re.search(r"\nDetected container architecture: amd64\n", printed)
    assert re.search(r"\ndone: SHA256:[A-Za-z0-9+/]{43} root@CT9101\n\Z", printed)
    root = lab.dir / "clients/main/subvol-9101-disk-0"
    assert (root / "root/.ssh/authorized_keys").read_text() == keys.read_text()
    assert (root / "etc/hostname").read_text() == "CT9101\n"


def test_create_with_a_missing_key_file_does_nothing(lab: LabNode) -> None:
    done = lab.pct("create", 9101, TEMPLATE, "--storage", "clients-main", "--ssh-public-keys", "/nonexistent")
    assert (done.returncode, done.stderr) == (2, "can't open '/nonexistent' - No such file or directory\n")
    assert lab.conf(9101) is None


def test_start_stop_and_the_signs_of_running(lab: LabNode) -> None:
    lab.create(9101, "--memory", 256, "--swap", 128, "--cpulimit", "1.5")
    assert lab.ok("pct", "status", 9101) == "status: stopped\n"
    assert lab.ok("pct", "start", 9101) == ""
    assert lab.ok("pct", "status", 9101) == "status: running\n"
    assert lab.running(9101)
    assert lab.cgroup(9101, "memory.max") == str(256 << 20)
    assert lab.cgroup(9101, "memory.high") == str(256 * 1024 * 1016)
    assert lab.cgroup(9101, "memory.swap.max") == str(128 << 20)
    assert lab.cgroup(9101, "cpu.max") == "150000 100000"
    assert "oom_kill 0" in lab.cgroup(9101, "memory.events")
    assert int(lab.cgroup(9101, "cgroup.procs")) > 1 << 22
    assert lab.ok("pct", "stop", 9101) == ""
    assert not lab.running(9101)
    assert not (lab.dir / "sys/fs/cgroup/lxc/9101").exists()


def test_list(lab: LabNode) -> None:
    lab.create(9101, "--hostname", "web01")
    lab.ok("pct", "set", 9101, "--lock", "backup")
    lines = lab.ok("pct", "list").splitlines()
    assert lines[0] == "VMID       Status     Lock         Name                "
    assert lines[1] == "100        running                 mail                "
    assert lines[-1] == "9101       stopped    backup       web01               "
    for path in lab.conf_path(100).parent.glob("*.conf"):
        path.unlink()
    assert lab.ok("pct", "list") == ""


def test_status_verbose(lab: LabNode) -> None:
    lines = lab.ok("pct", "status", 100, "--verbose").splitlines()
    figures = dict(line.split(": ") for line in lines)
    assert lines == sorted(lines)
    assert figures["status"] == "running"
    assert int(figures["mem"]) < int(figures["maxmem"]) == 1 << 30
    assert {"uptime", "pid", "cpus", "disk", "swap"} < figures.keys()
    assert "cpu" not in figures


def test_a_bridge_that_is_missing_stops_the_start(lab: LabNode) -> None:
    lab.ok("pct", "create", 9101, TEMPLATE, "--storage", "clients-main", "--net0", "name=eth0,bridge=vmbr9")
    done = lab.pct("start", 9101)
    assert done.returncode == 255
    assert done.stderr == "bridge 'vmbr9' does not exist\nstartup for container '9101' failed\n"
    assert not lab.running(9101)


@pytest.mark.parametrize(("options", "stdout", "stderr"), [
    ([], "", ""),
    (["--purge"], "purging CT 9101 from related configurations..\n", ""),
])  # fmt: skip
def test_destroy_leaves_nothing(lab: LabNode, options: list[str], stdout: str, stderr: str) -> None:
    lab.create(9101)
    done = lab.pct("destroy", 9101, *options)
    assert (done.returncode, done.stdout, done.stderr) == (0, stdout, stderr)
    assert (lab.conf(9101), lab.disks(9101), lab.pool()) == (None, [], set())


def test_destroy_with_force_stops_first(lab: LabNode) -> None:
    lab.create(9101, "--start", 1)
    done = lab.pct("destroy", 9101, "--force", 1)
    assert (done.returncode, done.stderr) == (0, "forced to stop CT 9101 before destroying!\n")
    assert not lab.running(9101)


def test_snapshots(lab: LabNode) -> None:
    lab.create(9101, "--hostname", "one")
    lab.ok("pct", "snapshot", 9101, "before", "--description", "x")
    again = lab.pct("snapshot", 9101, "before")
    assert (again.returncode, again.stderr) == (255, "snapshot name 'before' already used\n")
    first, second = lab.ok("pct", "listsnapshot", 9101).splitlines()
    assert re.fullmatch(r"`-> before {22}\d{4}-\d\d-\d\d \d\d:\d\d:\d\d     x", first)
    assert second == " `-> current" + " " * 44 + "You are here!"
    lab.ok("pct", "set", 9101, "--hostname", "two")
    lab.ok("pct", "snapshot", 9101, "after")
    older = lab.pct("rollback", 9101, "before")
    assert older.stderr == "can't rollback, 'before' is not most recent snapshot on 'clients-main:subvol-9101-disk-0'\n"
    lab.ok("pct", "delsnapshot", 9101, "after")
    lab.ok("pct", "rollback", 9101, "before")
    assert "hostname: one\n" in (lab.conf(9101) or "")
    assert "parent: before\n" in (lab.conf(9101) or "").partition("\n[")[0]


def test_clone_is_a_second_container_with_its_own_address(lab: LabNode) -> None:
    lab.create(9101, "--hostname", "one")
    printed = lab.ok("pct", "clone", 9101, 9102, "--hostname", "two", "--pool", "ClientPods")
    assert printed == (
        "creating a clone of container 9101 with ID 9102\n"
        "create full clone of mountpoint rootfs (clients-main:subvol-9101-disk-0)\n"
    )
    source, copy = lab.conf(9101) or "", lab.conf(9102) or ""
    assert re.findall("hwaddr=[^,]+", source) != re.findall("hwaddr=[^,]+", copy)
    assert "hostname: two\n" in copy
    assert "lock:" not in source + copy
    assert lab.pool() == {9101, 9102}


def test_resize(lab: LabNode) -> None:
    lab.create(9101)
    lab.ok("pct", "resize", 9101, "rootfs", "+1536M")
    assert "rootfs: clients-main:subvol-9101-disk-0,size=9728M\n" in (lab.conf(9101) or "")
    lab.ok("pct", "resize", 9101, "rootfs", "20G")
    assert "size=20G\n" in (lab.conf(9101) or "")
