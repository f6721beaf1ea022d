"""What pct refuses: the words, the layout and the exit code, and that nothing is left behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.lab_node import LabNode

TEMPLATE = "local:vztmpl/debian-12-standard_12.7-1_amd64.tar.zst"

NET = "name=eth0,bridge=vmbr0"
CREATE_USAGE = "pct create <vmid> <ostemplate> [OPTIONS]"
MISSING = "Configuration file 'nodes/lab1/lxc/555.conf' does not exist\n"


def parameter_error(reason: str, usage: str) -> str:
    """Return what Proxmox prints for one bad parameter."""
    return f"400 Parameter verification failed.\n{reason}\n{usage}\n"


BAD_OPTIONS = [
    (["--cores", "abc"], "cores: type check ('integer') failed - got 'abc'"),
    (["--memory", "8"], "memory: value must have a minimum value of 16"),
    (["--cores", "8193"], "cores: value must have a maximum value of 8192"),
    (["--hostname", "a_b"], "hostname: invalid format - value does not look like a valid DNS name\n"),
    (["--hostname", "-a"], "hostname: invalid format - value does not look like a valid DNS name\n"),
    (["--hostname", ".".join(["a" * 63] * 5)], "hostname: value may only be 255 characters long"),
    (["--password", "1234"], "password: value must be at least 5 characters long"),
    (
        ["--ostype", "foo"],
        "ostype: value 'foo' does not have a value in the enumeration 'debian, devuan, ubuntu, centos, fedora, "
        "opensuse, archlinux, alpine, gentoo, nixos, unmanaged'",
    ),
    (
        ["--net0", f"{NET},ip=10.1.10.300/24"],
        "net0: invalid format - format error\n"
        "net0.ip: invalid format - value does not look like a valid ipv4 network configuration\n",
    ),
    (
        ["--net0", "bridge=vmbr0"],
        "net0: invalid format - format error\nnet0.name: property is missing and it is not optional\n",
    ),
]


@pytest.mark.parametrize(("options", "reason"), BAD_OPTIONS)
def test_create_refuses_a_bad_option(lab: LabNode, options: list[str], reason: str) -> None:
    done = lab.pct("create", 9101, TEMPLATE, *options)
    assert (done.returncode, done.stdout) == (255, "")
    assert done.stderr == parameter_error(reason, CREATE_USAGE)
    assert lab.conf(9101) is None


@pytest.mark.parametrize("vmid", ["99", "0123", "1234567890", "abc"])
def test_create_refuses_a_bad_vmid(lab: LabNode, vmid: str) -> None:
    done = lab.pct("create", vmid, TEMPLATE)
    reason = "vmid: invalid format - value does not look like a valid VM ID\n"
    assert (done.returncode, done.stderr) == (255, parameter_error(reason, CREATE_USAGE))


COMMAND_LINES = [
    (["create", "9101"], f"400 not enough arguments\n{CREATE_USAGE}\n"),
    (["status", "100", "101"], "400 too many arguments\npct status <vmid> [OPTIONS]\n"),
    (["unlock", "100", "--bogus"], "Unknown option: bogus\n400 unable to parse option\npct unlock <vmid>\n"),
    (
        ["destroy", "--force", "100"],
        "400 not enough arguments\npct destroy <vmid> [OPTIONS]\n",
    ),
    (["destroy", "100", "--force", "maybe"], "400 unable to parse boolean option\npct destroy <vmid> [OPTIONS]\n"),
    (
        ["set", "100", "--delete", "foo"],
        parameter_error("delete: unknown option 'foo'", "pct set <vmid> [OPTIONS]"),
    ),
]


@pytest.mark.parametrize(("argv", "stderr"), COMMAND_LINES)
def test_a_wrong_command_line(lab: LabNode, argv: list[str], stderr: str) -> None:
    done = lab.pct(*argv)
    assert (done.returncode, done.stdout, done.stderr) == (255, "", stderr)


def test_unknown_and_missing_subcommand(lab: LabNode) -> None:
    unknown, missing = lab.pct("frob"), lab.pct()
    assert unknown.returncode == missing.returncode == 255
    usage = "\nUSAGE: pct <COMMAND> [ARGS] [OPTIONS]\n\n"
    assert unknown.stderr.startswith(f"ERROR: unknown command 'pct frob'{usage}")
    assert missing.stderr.startswith(f"ERROR: no command specified{usage}")


FAILURES = [
    (["status", 555], 2, MISSING),
    (["config", 555], 2, MISSING),
    (["set", 555, "--cores", 2], 2, MISSING),
    (["destroy", 555], 2, MISSING),
    (["exec", 555, "--", "true"], 2, MISSING),
    (["start", 555], 255, MISSING),
    (["snapshot", 555, "one"], 255, MISSING),
    (["stop", 555], 255, "CT 555 not running\n"),
    (["start", 100], 255, "CT 100 already running\n"),
    (["destroy", 100], 255, "unable to destroy CT 100 - container is running\n"),
    (["unlock", 100], 255, "no lock found trying to remove any lock\n"),
    (["set", 100], 255, "no options specified\n"),
    (["set", 100, "--delete", "memory"], 255, "unable to delete required option 'memory'\n"),
    (["set", 100, "--unprivileged", 0], 255, "unable to modify read-only option: 'unprivileged'\n"),
    (["set", 100, "--mp0", "volume=8,mp=/mnt"], 255, "unable to parse volume ID '8'\n"),
    (["set", 100, "--net1", "name=eth1,bridge=vmbr9"], 2, "bridge 'vmbr9' does not exist\n"),
    (["set", 100, "--cores", 2, "--digest", "0" * 40], 255,
     "detected modified configuration - file changed by other user? Try again.\n"),
    (["resize", 100, "rootfs", "1G"], 255, "unable to shrink disk size\n"),
    (["resize", 100, "rootfs", "16G"], 255, "disk is already at specified size\n"),
    (["rollback", 100, "nope"], 255, "snapshot 'nope' does not exist\n"),
    (["snapshot", 100, "current"], 255, "unable to use snapshot name 'current' (reserved name)\n"),
    (["exec", 100, "--", "true"], 1, "the lab node emulates no processes inside containers\n"),
]  # fmt: skip


@pytest.mark.parametrize(("argv", "rc", "stderr"), FAILURES)
def test_a_failure_says_what_proxmox_says(lab: LabNode, argv: list[str | int], rc: int, stderr: str) -> None:
    done = lab.pct(*argv)
    assert (done.returncode, done.stdout, done.stderr) == (rc, "", stderr)


STOPPED = [
    (["stop", 9101], "CT 9101 not running\n"),
    (["shutdown", 9101], "CT 9101 not running\n"),
    (["reboot", 9101], "VM 9101 not running\n"),
    (["exec", 9101, "--", "true"], "container '9101' not running!\n"),
    (["push", 9101, "/etc/hostname", "/root/x"], "can only push files to a running CT\n"),
]


@pytest.mark.parametrize(("argv", "stderr"), STOPPED)
def test_a_stopped_container_refuses(lab: LabNode, argv: list[str | int], stderr: str) -> None:
    lab.create(9101)
    done = lab.pct(*argv)
    assert (done.returncode, done.stderr) == (255, stderr)


CREATE_FAILURES = [
    (
        ["--storage", "nosuch"],
        "storage 'nosuch' does not exist\n",
    ),
    (
        ["--storage", "vzdump-backups"],
        parameter_error("storage: storage 'vzdump-backups' does not support container directories", CREATE_USAGE),
    ),
    (
        [],
        parameter_error("storage: storage 'local' does not support container directories", CREATE_USAGE),
    ),
    (
        ["--storage", "clients-main", "--pool", "NoPool"],
        "403 Permission check failed (pool 'NoPool' does not exist)\n",
    ),
]


@pytest.mark.parametrize(("options", "stderr"), CREATE_FAILURES)
def test_create_refuses_before_it_begins(lab: LabNode, options: list[str], stderr: str) -> None:
    done = lab.pct("create", 9101, TEMPLATE, *options)
    assert (done.returncode, done.stdout, done.stderr) == (255, "", stderr)
    assert (lab.conf(9101), lab.disks(9101)) == (None, [])


def test_create_refuses_a_vmid_that_is_taken(lab: LabNode) -> None:
    before = lab.conf(101)
    (lab.dir / "etc/pve/nodes/lab9/qemu-server").mkdir(parents=True)
    (lab.dir / "etc/pve/nodes/lab9/qemu-server/777.conf").write_text("memory: 512\n")
    container = lab.pct("create", 101, TEMPLATE, "--storage", "clients-main")
    machine = lab.pct("create", 777, TEMPLATE, "--storage", "clients-main")
    assert (container.returncode, container.stderr) == (255, "CT 101 already exists on node 'lab1'\n")
    assert (machine.returncode, machine.stderr) == (255, "VM 777 already exists on node 'lab9'\n")
    assert lab.conf(101) == before


def test_create_without_template_or_space_leaves_nothing(lab: LabNode) -> None:
    volume = "local:vztmpl/nope.tar.zst"
    done = lab.pct("create", 9101, volume, "--storage", "clients-main", "--pool", "ClientPods")
    assert done.returncode == 255
    assert done.stderr == f"unable to create CT 9101 - volume '{volume}' does not exist\n"
    lab.switch("capacity", "clients-main", 1000)
    full = lab.pct("create", 9101, TEMPLATE, "--storage", "clients-main", "--pool", "ClientPods")
    assert full.returncode == 255
    assert full.stderr == "unable to create CT 9101 - zfs error: cannot create: out of space\n"
    assert (lab.conf(9101), lab.disks(9101), lab.pool()) == (None, [], set())


@pytest.mark.parametrize(
    "argv",
    [["set", 9101, "--cores", 1], ["start", 9101], ["destroy", 9101], ["snapshot", 9101, "one"],
     ["resize", 9101, "rootfs", "+1G"]],
)  # fmt: skip
def test_a_lock_stops_changes_but_not_reading(lab: LabNode, argv: list[str | int]) -> None:
    lab.create(9101)
    lab.ok("pct", "set", 9101, "--lock", "backup")
    done = lab.pct(*argv)
    assert (done.returncode, done.stderr) == (255, "CT is locked (backup)\n")
    assert "lock: backup\n" in lab.ok("pct", "config", 9101)
    lab.ok("pct", "unlock", 9101)
    assert lab.pct(*argv).returncode == 0


def test_protection_stops_destroy(lab: LabNode) -> None:
    lab.create(9101, "--protection", 1)
    done = lab.pct("destroy", 9101)
    assert (done.returncode, done.stderr) == (255, "can't remove CT 9101 - protection mode enabled\n")
    assert lab.disks(9101) == ["subvol-9101-disk-0"]
