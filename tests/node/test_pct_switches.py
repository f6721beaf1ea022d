"""Delays, failures on demand, signals and many callers at once: what stays behind is what a real node would keep."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.lab_node import PVE_LAB

sys.path.insert(0, str(PVE_LAB.parent))
from pve_lab.errors import PveError
from pve_lab.files import held_as_proxmox
from pve_lab.lab import Lab
from pve_lab.switches import Switches

if TYPE_CHECKING:
    from tests.lab_node import LabNode

TEMPLATE = "local:vztmpl/debian-12-standard_12.7-1_amd64.tar.zst"

CREATE = ("pct", "create", 9101, TEMPLATE, "--rootfs", "clients-main:8", "--pool", "ClientPods")


def wait_for_lock(lab: LabNode, lock: str) -> None:
    """Wait until container 9101 is under a lock."""
    deadline = time.monotonic() + 60
    while f"lock: {lock}\n" not in (lab.conf(9101) or "") or not lab.disks(9101):
        assert time.monotonic() < deadline, f"never saw lock: {lock}"
        time.sleep(0.01)


def state(lab: LabNode) -> tuple[str | None, list[str], set[int]]:
    """Return what is there of container 9101."""
    return lab.conf(9101), lab.disks(9101), lab.pool()


NOTHING = (None, [], set())


def test_fail_before_does_nothing_and_counts_down(lab: LabNode) -> None:
    lab.switch("fail", "pct create", "--vmid", 9101, "--message", "storage is on fire", "--times", 1, "--rc", 7)
    done = lab.run(*CREATE)
    assert (done.returncode, done.stdout, done.stderr) == (7, "", "storage is on fire\n")
    assert state(lab) == NOTHING
    lab.ok(*CREATE)


def test_fail_half_way_removes_what_was_begun(lab: LabNode) -> None:
    lab.switch("fail", "pct create", "--message", "no space left", "--half")
    done = lab.run(*CREATE)
    assert (done.returncode, done.stderr) == (255, "unable to create CT 9101 - no space left\n")
    assert "extracting archive" in done.stdout
    assert state(lab) == NOTHING


def test_fail_half_way_and_keep(lab: LabNode) -> None:
    lab.switch("fail", "pct create", "--half", "--keep", "--times", 1)
    assert lab.run(*CREATE).returncode == 255
    assert state(lab) == ("lock: create\n", ["subvol-9101-disk-0"], set())
    assert lab.run(*CREATE).stderr == "CT 9101 already exists on node 'lab1'\n"
    lab.ok("pct", "unlock", 9101)
    lab.ok("pct", "destroy", 9101)
    assert state(lab) == (None, ["subvol-9101-disk-0"], set()), "as on a real node: the file named no volume"


def test_destroy_can_find_the_volume_of_a_killed_create(lab: LabNode) -> None:
    lab.switch("fail", "pct create", "--half", "--keep")
    assert lab.run(*CREATE).returncode == 255
    lab.ok("pct", "unlock", 9101)
    lab.ok("pct", "destroy", 9101, "--destroy-unreferenced-disks", 1)
    assert state(lab) == NOTHING


def test_only_the_container_that_is_meant_fails(lab: LabNode) -> None:
    lab.switch("fail", "pct start", "--vmid", 9102)
    lab.create(9101)
    lab.create(9102)
    lab.ok("pct", "start", 9101)
    done = lab.pct("start", 9102)
    assert (done.returncode, done.stderr) == (255, "simulated failure\n")
    assert not lab.running(9102)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_the_middle_of_create_cleans_up(lab: LabNode, number: signal.Signals) -> None:
    lab.switch("delay", "pct create", 30)
    process = lab.start(*CREATE)
    wait_for_lock(lab, "create")
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (255, "unable to create CT 9101 - received interrupt\n")
    assert state(lab) == NOTHING


def test_sigkill_in_the_middle_of_create_leaves_the_lock(lab: LabNode) -> None:
    lab.switch("delay", "pct create", 30)
    process = lab.start(*CREATE)
    wait_for_lock(lab, "create")
    process.kill()
    process.communicate(timeout=60)
    assert state(lab) == ("lock: create\n", ["subvol-9101-disk-0"], set())
    assert lab.pct("start", 9101).stderr == "CT is locked (create)\n"
    assert "9101       stopped    create       CT9101              \n" in lab.ok("pct", "list")


def test_two_creates_of_one_vmid_make_one_container(lab: LabNode) -> None:
    lab.switch("delay", "pct create", 0.2)
    processes = [lab.start(*CREATE) for _ in range(4)]
    ended = [(process.communicate(timeout=20)[1], process.returncode) for process in processes]
    assert sorted(rc for _, rc in ended) == [0, 255, 255, 255]
    # Those that met at Proxmox's own lock say so first.
    last_lines = {text.splitlines()[-1] for text, rc in ended if rc}
    assert last_lines == {"CT 9101 already exists on node 'lab1'"}
    assert lab.disks(9101) == ["subvol-9101-disk-0"]


def test_set_waits_for_proxmox_own_lock(lab: LabNode) -> None:
    lab.create(9101)
    with (lab.dir / "run/lock/lxc/pve-config-9101.lock").open() as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        process = lab.start("pct", "set", 9101, "--cores", 3)
        assert process.stderr is not None
        assert process.stderr.read(25) == "trying to acquire lock..."
        assert "cores" not in (lab.conf(9101) or "")
    _, rest = process.communicate(timeout=60)
    assert (process.returncode, rest) == (0, " OK\n")
    assert "cores: 3\n" in (lab.conf(9101) or "")


def test_a_lock_that_never_frees_is_given_up(lab: LabNode, capsys: pytest.CaptureFixture[str]) -> None:
    path, shown = str(lab.dir / "run/lock/lxc/pve-config-9101.lock"), "/run/lock/lxc/pve-config-9101.lock"
    impatient = held_as_proxmox(path, shown, 0.05, rc=4)
    with held_as_proxmox(path, shown, 10), pytest.raises(PveError) as refused, impatient:
        pass
    assert refused.value.message == "can't lock file '/run/lock/lxc/pve-config-9101.lock' - got timeout"
    assert refused.value.rc == 4
    assert capsys.readouterr().err == "trying to acquire lock...\n"


def test_many_callers_at_once_lose_nothing(lab: LabNode) -> None:
    vmids = range(9101, 9117)
    lab.switch("fail", "pct start", "--times", 3)
    creates = [lab.start("pct", "create", vmid, TEMPLATE, "--rootfs", "clients-main:1", "--pool", "ClientPods")
               for vmid in vmids]  # fmt: skip
    assert [process.communicate(timeout=60) and process.returncode for process in creates] == [0] * len(vmids)
    starts = {vmid: lab.start("pct", "start", vmid) for vmid in vmids}
    failed = {vmid for vmid, process in starts.items() if process.communicate(timeout=60) and process.returncode}
    assert len(failed) == 3
    assert lab.pool() == set(vmids)
    assert {vmid for vmid in vmids if lab.running(vmid)} == set(vmids) - failed
    assert lab.switches()["fail"][0]["times"] == 0
    assert lab.running(100)


def test_root_check(lab: LabNode, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.switch("root-check", "on")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(PveError, match="please run as root"):
        Switches(Lab(str(lab.dir)), "pct list").check_root()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    Switches(Lab(str(lab.dir)), "pct list").check_root()
    lab.switch("reset")
    assert lab.pct("list").returncode == 0


def test_init_is_idempotent_and_makes_pods(lab: LabNode) -> None:
    assert lab.init() == "unchanged"
    lab.ok("pct", "stop", 102)
    lab.ok("pct", "destroy", 102)
    assert lab.init("--check", "--pods", "3") == "changed"
    assert lab.pool() == set()
    assert lab.init("--pods", "3") == "changed"
    assert lab.init("--pods", "3") == "unchanged"
    assert lab.pool() == {10000, 10001, 10002}
    assert lab.conf(102) is None
    assert (lab.conf(10002) or "").startswith("#cloudpod tenant=TENANT-2 pod=pod2\n")
    assert lab.ok("pct", "status", 10002) == "status: running\n"


# Runs a program of the lab to whom a signal comes as soon as its lock is in the container's file.
SIGNALLED = """\
import os, signal, sys
sys.path.insert(0, sys.argv.pop(1))
from pve_lab import __main__, lab
save = lab.Lab.save
def save_and_signal(self, vmid, conf):
    save(self, vmid, conf)
    if conf.main.get("lock") == "{lock}":
        os.kill(os.getpid(), signal.SIGTERM)
lab.Lab.save = save_and_signal
sys.exit(__main__.main(sys.argv[1], sys.argv[2], sys.argv[3:]))
"""


@pytest.mark.parametrize(
    ("lock", "argv"),
    [
        ("backup", ("vzdump", 9101, "--storage", "vzdump-backups")),
        ("disk", ("pct", "clone", 9101, 9102, "--hostname", "two")),
    ],
)
def test_a_signal_that_comes_with_the_lock_takes_it_off(lab: LabNode, lock: str, argv: tuple[str | int, ...]) -> None:
    lab.ok(*CREATE)
    before = state(lab)
    done = lab.run(sys.executable, "-IS", "-c", SIGNALLED.format(lock=lock), PVE_LAB.parent, lab.dir, *argv)
    assert done.returncode == 255 and "interrupt" in done.stderr
    assert state(lab) == before
    assert lab.conf(9102) is None
