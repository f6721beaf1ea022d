"""cloudpod-restore.sh: in place and as a new pod, whose archive it may be, and what a failure or a kill leaves."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from tests.node_scripts import (
    Done,
    Scripts,
    create_arguments,
    failure,
    finished,
    has_begun,
    kill_all_of,
    node,
    summary,
    wait_until,
)

__all__ = ["node"]

SLOW_S = 90
OWNER = ("--tenant", "TENANT-123", "--pod", "abc")
AS_NEW = ("--tenant", "TENANT-123", "--pod", "def", "--from-pod", "abc", "--host", "drill")
LINE = "10.1.10.91 9101 client-portal TENANT-123 active"


class Backed:
    """A node with one pod, 9101, whose disk has changed since its archive was made."""

    def __init__(self, scripts: Scripts) -> None:
        self.node, self.lab = scripts, scripts.lab
        scripts.created(ip="10.1.10.91")
        self.mark("then")
        self.archive = summary(scripts.run("backup", 9101, "--mode", "snapshot", "--run", "jobb.1"))["Archive"]
        self.file = self.lab.dir / "mnt/vzdump-backups/dump" / self.archive.rpartition("/")[2]
        self.mark("now")

    def mark(self, text: str) -> None:
        """Write into the pod's disk."""
        (self.root() / "mark").write_text(text)

    def data(self, vmid: int = 9101) -> str:
        """Return what a pod's disk holds."""
        return (self.root(vmid) / "mark").read_text()

    def root(self, vmid: int = 9101) -> Path:
        """Return a pod's one disk."""
        (name,) = self.lab.disks(vmid)
        return self.lab.dir / "clients/main" / name

    def argv(self, *words: str | int, vmid: int = 9101, owner: tuple[str, ...] = OWNER) -> list[str | int]:
        """Return arguments of a restore."""
        return [vmid, "--archive", self.archive, *owner, *words]

    def restore(self, *words: str | int, vmid: int = 9101, owner: tuple[str, ...] = OWNER) -> Done:
        """Run a restore."""
        return self.node.run("restore", *self.argv(*words, vmid=vmid, owner=owner))

    def assert_whole(self, data: str) -> None:
        """Fail unless the pod runs with that data, its address its own, and nothing left over."""
        (row,) = self.node.info(9101)
        assert (row["status"], row["lock"], row["unfinished"], row["ip"]) == ("running", None, False, "10.1.10.91")
        assert self.data() == data and self.node.ipam() == [LINE] and 9101 in self.lab.pool()


@pytest.fixture
def backed(node: Scripts) -> Backed:
    """Return a node with a pod and its archive."""
    return Backed(node)


def test_in_place_the_data_goes_back_and_the_pod_stays(backed: Backed) -> None:
    backed.lab.ok("pct", "set", 9101, "--memory", 1024, "--hostname", "renamed")
    before = backed.node.info(9101)[0]
    done = backed.restore("--force", "--run", "jobr.1")
    assert done.returncode == 0, done.stderr
    assert summary(done) == {"VMID": "9101", "Host": "renamed", "Tenant": "TENANT-123", "Pod": "abc", "IP": "10.1.10.91",
                             "Archive": backed.archive, "Status": "running", "HostKey": before["host_key"],
                             "Result": "restored"}  # fmt: skip
    backed.assert_whole("then")
    after = backed.node.info(9101)[0]
    assert {key: after[key] for key in ("mac", "hostname", "memory_mb", "owner")} == {
        key: before[key] for key in ("mac", "hostname", "memory_mb", "owner")
    }
    assert after["restored"] == {"job": "jobr", "archive": backed.archive} and backed.node.outcomes()[-1] == "restored"


def test_a_job_restores_once(backed: Backed) -> None:
    backed.restore("--force", "--run", "jobr.1")
    backed.mark("later")
    assert summary(backed.restore("--force", "--run", "jobr.2"))["Result"] == "exists"
    backed.assert_whole("later")
    assert summary(backed.restore("--force", "--run", "jobs.1"))["Result"] == "restored"
    backed.assert_whole("then")


def test_lines_of_the_site_stay_and_a_stopped_pod_stays_stopped(backed: Backed) -> None:
    backed.lab.ok("pct", "set", 9101, "--description", "cloudpod tenant=TENANT-123 pod=abc\nask Bob: 100%")
    backed.lab.ok("pct", "stop", 9101)
    assert summary(backed.restore("--force"))["Status"] == "stopped"
    assert "#ask Bob%3A 100%25\n" in (backed.lab.conf(9101) or "") and backed.data() == "then"


def test_a_new_pod_has_an_address_and_hardware_address_of_its_own(backed: Backed) -> None:
    done = backed.restore("--auto-ip", "--isolated", "--mem", 512, "--run", "jobn.1", vmid=9102, owner=AS_NEW)
    assert done.returncode == 0, done.stderr
    (old, new) = backed.node.info(9101, 9102)
    assert (new["ip"], new["hostname"], new["memory_mb"], new["onboot"]) == ("10.1.10.50", "drill", 512, False)
    assert new["mac"] != old["mac"] and "link_down=1" in new["config"]["net0"] and new["status"] == "running"
    assert new["owner"] == {"tenant": "TENANT-123", "pod": "def"} and backed.data(9102) == "then"
    assert summary(backed.restore("--auto-ip", "--run", "jobn.2", vmid=9102, owner=AS_NEW))["Result"] == "exists"
    assert backed.restore("--auto-ip", "--run", "jobm.1", vmid=9102, owner=AS_NEW).returncode == 73
    backed.node.run("destroy", 9102)
    backed.node.assert_no_trace(9102)


@pytest.mark.parametrize("how", ["in place", "new", "line kept"])
def test_a_pod_that_is_gone_comes_back(backed: Backed, how: str) -> None:
    if how == "line kept":
        backed.lab.ok("pct", "stop", 9101)
        backed.lab.ok("pct", "destroy", 9101)
    else:
        assert backed.node.run("destroy", 9101).returncode == 0
    (row,) = _backups(backed.node, 9101)
    assert (row["volid"], row["tenant"], row["pod"], row["job"]) == (backed.archive, "TENANT-123", "abc", "jobb")
    if how == "new":
        assert backed.restore("--auto-ip", vmid=9102, owner=AS_NEW).returncode == 0
        assert backed.data(9102) == "then"
    else:
        done = backed.restore("--run", "jobr.1")
        assert done.returncode == 0, done.stderr
        backed.assert_whole("then")


def _backups(scripts: Scripts, vmid: int) -> list[dict]:

    (row,) = json.loads(scripts.run("info", vmid, "--backups").stdout)["pods"]
    return row["backups"]


def test_what_is_refused_touches_nothing(backed: Backed) -> None:
    notes = Path(f"{backed.file}.notes")
    rows = [
        (73, [], OWNER, notes.read_text()),
        (77, ["--force"], ("--tenant", "TENANT-9", "--pod", "abc"), notes.read_text()),
        (77, ["--force"], ("--tenant", "TENANT-123", "--pod", "xyz"), notes.read_text()),
        (77, ["--force"], OWNER, "cloudpod tenant=TENANT-9 pod=abc job=j"),
        (77, ["--force"], OWNER, "cloudpod tenant=TENANT-123 pod=xyz job=j"),
        (77, ["--force"], OWNER, "nightly"),
    ]
    before = backed.node.traces(9101)
    for code, words, owner, text in rows:
        notes.write_text(text)
        done = backed.restore(*words, owner=owner)
        assert (done.returncode, failure(done)["Left"]) == (code, "nothing"), done.stderr
        assert backed.node.traces(9101) == before and "TENANT-9" not in failure(done)["Error"].replace("tenant TENANT-9", "")
    backed.assert_whole("now")


def test_an_archive_that_is_missing_or_damaged_is_found_while_the_pod_stands(backed: Backed) -> None:
    before = backed.node.traces(9101)
    whole = backed.file.read_bytes()
    backed.file.write_bytes(whole[: len(whole) // 2])
    done = backed.restore("--force")
    said = failure(done)
    assert (done.returncode, said["Left"]) == (1, "nothing")
    assert backed.archive in said["Error"] and "node lab1" in said["Error"]
    assert backed.restore("--auto-ip", vmid=9102, owner=AS_NEW).returncode == 1
    backed.node.assert_no_trace(9102)
    backed.file.unlink()
    assert backed.restore("--force").returncode == 66
    assert backed.node.traces(9101) == before
    backed.assert_whole("now")


def test_a_full_storage_is_found_before(backed: Backed) -> None:
    backed.lab.switch("capacity", "clients-main", 10)
    done = backed.restore("--force")
    assert (done.returncode, failure(done)["Left"]) == (69, "nothing")
    backed.lab.switch("capacity", "clients-main", 1178599424)
    backed.assert_whole("now")


def test_a_failure_before_proxmox_began_leaves_the_pod_as_it_was(backed: Backed) -> None:
    before = backed.lab.conf(9101)
    backed.lab.switch("fail", "pct restore", "--message", "no such luck", "--times", 1)
    done = backed.restore("--force", "--run", "jobr.1")
    assert (done.returncode, failure(done)["Left"]) == (1, "nothing") and "no such luck" in failure(done)["Error"]
    assert backed.lab.conf(9101) == before
    backed.assert_whole("now")


def test_a_failure_after_proxmox_began_says_so_and_can_be_repeated(backed: Backed) -> None:
    backed.lab.switch("fail", "pct restore", "--message", "tar broke", "--half", "--times", 1)
    done = backed.restore("--force", "--run", "jobr.1")
    left = failure(done)["Left"]
    assert done.returncode == 1 and "9101 is gone" in left and backed.archive in left and "10.1.10.91" in left
    assert backed.node.ipam() == [LINE] and backed.lab.disks(9101) == []
    assert backed.node.create(9103, ip="10.1.10.91").returncode == 73
    assert summary(backed.restore("--force", "--run", "jobr.2"))["Result"] == "restored"
    backed.assert_whole("then")


def test_a_start_that_fails_is_made_up_for_by_the_same_job(backed: Backed) -> None:
    backed.lab.switch("fail", "pct start", "--message", "no start", "--times", 2)
    done = backed.restore("--force", "--run", "jobr.1")
    assert failure(done)["Left"] == f"container 9101 is stopped, restored from {backed.archive}"
    assert backed.node.info(9101)[0]["restored"] is None
    backed.mark("kept")
    assert summary(backed.restore("--force", "--run", "jobr.2"))["Result"] == "restored"
    backed.assert_whole("kept")


@pytest.mark.parametrize("command", ["pct stop", "pct restore", "pct start"])
@pytest.mark.parametrize("kill", [True, False], ids=["kill", "signal"])
def test_a_restore_that_is_ended_can_be_repeated(backed: Backed, command: str, kill: bool) -> None:
    backed.lab.switch("delay", command, SLOW_S)
    process = backed.node.start("restore", *backed.argv("--force", "--run", "jobr.1"))
    wait_until(lambda: has_begun(process, command.split()[1]), command)
    if command == "pct restore":
        wait_until(lambda: (backed.lab.conf(9101) or "") == "lock: create\n", "the old disks are gone")
    if kill:
        kill_all_of(process)
    else:
        # Its clean-up starts the pod, too; and pct may not have looked yet how long it is to take.
        backed.lab.switch("delay", command, 5)
        process.send_signal(signal.SIGTERM)
        assert finished(process).returncode == 143
    backed.lab.switch("reset")
    if command == "pct stop" and not kill:
        backed.assert_whole("now")
    # A signal that comes while the pod is being started ends the run, and its clean-up still starts the pod.
    wanted = "exists" if command == "pct start" and not kill else "restored"
    assert summary(backed.restore("--force", "--run", "jobr.2"))["Result"] == wanted
    backed.assert_whole("then")


@pytest.mark.parametrize("next_run", ["restore", "destroy"])
def test_a_new_pod_killed_half_way_is_cleaned_up_by_the_next_run(backed: Backed, next_run: str) -> None:
    backed.lab.switch("delay", "pct start", SLOW_S)
    process = backed.node.start("restore", *backed.argv("--auto-ip", "--run", "jobn.1", vmid=9102, owner=AS_NEW))
    wait_until(lambda: has_begun(process, "start"), "pct start")
    kill_all_of(process)
    backed.lab.switch("reset")
    assert backed.node.info(9102)[0]["unfinished"]
    if next_run == "destroy":
        assert backed.node.run("destroy", 9102, "--tenant", "TENANT-123", "--pod", "def").returncode == 0
        backed.node.assert_no_trace(9102)
    else:
        assert summary(backed.restore("--auto-ip", "--run", "jobn.2", vmid=9102, owner=AS_NEW))["Result"] == "restored"
        assert backed.data(9102) == "then" and len(backed.node.ipam()) == 2


def test_what_a_killed_restore_in_place_left_can_be_destroyed(backed: Backed) -> None:
    backed.lab.switch("delay", "pct restore", SLOW_S)
    process = backed.node.start("restore", *backed.argv("--force"))
    wait_until(lambda: (backed.lab.conf(9101) or "") == "lock: create\n", "the old disks are gone")
    kill_all_of(process)
    backed.lab.switch("reset")
    assert backed.node.info(9101)[0]["unfinished"]
    assert backed.node.run("destroy", 9101, "--tenant", "TENANT-9").returncode == 77
    assert backed.node.run("destroy", 9101, *OWNER).returncode == 0
    backed.node.assert_no_trace(9101)


def test_a_kill_at_any_moment_can_be_repeated(backed: Backed) -> None:
    # The delays only spread the kills over the run, wherever they fall: no single one has to hit anything.
    for step in range(10):
        process = backed.node.start("restore", *backed.argv("--force", "--run", f"job{step}.1"))
        time.sleep(0.08 * step)
        kill_all_of(process)
        assert backed.node.ipam() == [LINE]
        done = backed.restore("--force", "--run", f"job{step}.2")
        assert done.returncode == 0, done.stderr
        (row,) = backed.node.info(9101)
        assert (row["status"], row["lock"], row["ip"]) == ("running", None, "10.1.10.91")


def test_a_hung_guest_has_no_key_and_does_not_hold_up(node: Scripts) -> None:
    node.lab.switch("delay", "pct exec", SLOW_S)
    began = time.monotonic()
    assert "HostKey" not in summary(node.run("create", *create_arguments()))
    assert time.monotonic() - began < 60 and node.info(9101)[0]["host_key"] is None


@pytest.mark.parametrize(("words", "field"), [
    (["9101"], "archive"),
    (["9101", "--archive", "x", *OWNER], "archive"),
    (["9101", "--archive", "s:backup/vzdump-lxc-9101-2026_11_21-00_00_00.tar.zst", "--pod", "abc"], "tenant"),
    (["9102", "--archive", "s:backup/vzdump-lxc-9101-2026_11_21-00_00_00.tar.zst", *OWNER], "archive"),
    (["9101", "--archive", "s:backup/vzdump-lxc-9101-2026_11_21-00_00_00.tar.zst", *OWNER, "--isolated"], "isolated"),
    (["9102", "--archive", "s:backup/vzdump-lxc-9101-2026_11_21-00_00_00.tar.zst", *AS_NEW], "ip"),
    (["9102", "--archive", "s:backup/vzdump-lxc-9101-2026_11_21-00_00_00.tar.zst", *AS_NEW, "--auto-ip", "--force"], "force"),
])  # fmt: skip
def test_bad_arguments(node: Scripts, words: list[str], field: str) -> None:
    done = node.run("restore", *words)
    assert done.returncode == 64 and failure(done)["Error"].startswith(f"{field}: "), done.stderr
    assert node.log() == []
