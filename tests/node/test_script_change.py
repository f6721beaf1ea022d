"""Destroy, scale and backup: what they do, what they say, and what they refuse as power and snapshot do."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.node_scripts import Scripts, create_arguments, failure, finished, node, summary, wait_until

__all__ = ["node"]

SCALE = ("--cores", 4, "--mem", 4096)
BACKUP = ("--mode", "snapshot")
CHANGES = {
    "destroy": (),
    "scale": SCALE,
    "backup": BACKUP,
    "power": ("--state", "stopped"),
    "snapshot": ("--action", "create", "--name", "before"),
}


@pytest.fixture
def pod(node: Scripts) -> Scripts:
    """Return a node with one pod, 9101."""
    node.created(ip="10.1.10.91")
    return node


# -- what all of them refuse ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CHANGES)
def test_a_container_outside_the_pool_is_refused(node: Scripts, name: str) -> None:
    before = node.lab.conf(100)
    done = node.run(name, 100, *CHANGES[name])
    assert (done.returncode, failure(done)["Error"]) == (77, "container 100 is not in pool ClientPods")
    assert node.lab.conf(100) == before and node.lab.running(100) and node.outcomes() == ["failed"]


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("guard", [("--tenant", "TENANT-9"), ("--pod", "xyz"), ("--tenant", "TENANT-123", "--pod", "xyz")])
def test_another_owners_container_is_refused(pod: Scripts, name: str, guard: tuple[str, ...]) -> None:
    before = pod.traces(9101)
    done = pod.run(name, 9101, *CHANGES[name], *guard)
    assert (done.returncode, failure(done)["Left"]) == (77, "nothing")
    assert "TENANT-123" not in failure(done)["Error"] or "--tenant" not in guard[:1] or guard[1] == "TENANT-123"
    assert pod.traces(9101) == before


@pytest.mark.parametrize("name", CHANGES)
def test_a_container_without_our_marker_is_nobodys(pod: Scripts, name: str) -> None:
    pod.lab.ok("pct", "set", 9101, "--description", "by hand")
    assert pod.run(name, 9101, *CHANGES[name], "--tenant", "TENANT-123").returncode == 77


@pytest.mark.parametrize("name", [name for name in CHANGES if name != "destroy"])
def test_a_container_that_does_not_exist_is_said(node: Scripts, name: str) -> None:
    done = node.run(name, 9101, *CHANGES[name])
    assert (done.returncode, failure(done)["Error"]) == (66, "there is no container 9101")


@pytest.mark.parametrize("name", CHANGES)
def test_a_container_of_another_node_is_not_absent(node: Scripts, name: str) -> None:
    folder = node.lab.dir / "etc/pve/nodes/lab2/lxc"
    folder.mkdir(parents=True)
    (folder / "9101.conf").write_text("hostname: there\n")
    done = node.run(name, 9101, *CHANGES[name])
    assert (done.returncode, failure(done)["Error"]) == (66, "container 9101 is on node lab2, not on lab1")


@pytest.mark.parametrize("name", CHANGES)
def test_a_virtual_machine_is_refused(node: Scripts, name: str) -> None:
    (node.lab.dir / "etc/pve/nodes/lab1/qemu-server/9101.conf").write_text("name: vm\n")
    assert node.run(name, 9101, *CHANGES[name]).returncode == 77


@pytest.mark.parametrize("name", CHANGES)
def test_proxmoxs_own_lock_means_try_again(pod: Scripts, name: str) -> None:
    pod.lab.ok("pct", "set", 9101, "--lock", "migrate")
    done = pod.run(name, 9101, *CHANGES[name])
    assert (done.returncode, failure(done)["Error"]) == (75, "CT is locked (migrate)") or name == "backup"
    assert done.returncode == 75 and failure(done)["Retryable"] == "yes" and pod.lab.running(9101)


def test_all_wait_ten_seconds_for_a_busy_vmid_and_then_say_so(pod: Scripts) -> None:
    pod.hold("9101")
    rows = [(name, [9101, *words]) for name, words in CHANGES.items()] + [("create", create_arguments(9101))]
    for done in [finished(each) for each in [pod.start(name, *words) for name, words in rows]]:
        said = failure(done)
        assert (done.returncode, said["Retryable"], said["Left"]) == (75, "yes", "nothing")
        assert said["Error"] == "vmid 9101 is busy: another run holds its lock"
    assert pod.outcomes() == ["created", *["failed"] * len(rows)]


# -- destroy -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("running", [True, False])
def test_destroy_removes_everything(pod: Scripts, running: bool) -> None:
    if not running:
        pod.lab.ok("pct", "stop", 9101)
    done = pod.run("destroy", 9101, "--tenant", "TENANT-123", "--pod", "abc", "--run", "job2.1")
    assert (done.returncode, done.stdout) == (0, "VMID     : 9101\nIP       : 10.1.10.91\nResult   : destroyed\n")
    pod.assert_no_trace(9101)
    assert pod.log()[-1] | {"ts": 0, "pid": 0, "duration_ms": 0} == {
        "ts": 0, "script": "cloudpod-destroy", "vmid": 9101, "run": "job2.1", "tenant": "TENANT-123", "outcome": "destroyed",
        "rc": 0, "message": "container 9101 is destroyed", "ip": "10.1.10.91", "duration_ms": 0, "pid": 0,
    }  # fmt: skip


def test_destroying_what_is_absent_succeeds(node: Scripts) -> None:
    done = node.run("destroy", 9101)
    assert (done.returncode, done.stdout) == (0, "VMID     : 9101\nResult   : absent\n")
    assert node.outcomes() == ["absent"]


def test_the_line_of_a_container_destroyed_by_hand_is_dropped_for_its_tenant_only(pod: Scripts) -> None:
    pod.lab.ok("pct", "stop", 9101)
    pod.lab.ok("pct", "destroy", 9101)
    assert summary(pod.run("destroy", 9101, "--tenant", "TENANT-9")) == {"VMID": "9101", "Result": "absent"}
    assert len(pod.ipam()) == 1
    assert summary(pod.run("destroy", 9101, "--tenant", "TENANT-123"))["IP"] == "10.1.10.91"
    assert pod.ipam() == []


def test_a_protected_container_keeps_running(pod: Scripts) -> None:
    pod.lab.ok("pct", "set", 9101, "--protection", 1)
    done = pod.run("destroy", 9101)
    assert (done.returncode, failure(done)["Left"]) == (1, "nothing")
    assert failure(done)["Error"] == "can't remove CT 9101 - protection mode enabled"
    assert pod.lab.running(9101)


def test_a_destroy_that_fails_says_what_is_left_and_can_be_repeated(pod: Scripts) -> None:
    pod.lab.switch("fail", "pct destroy", "--message", "dataset is busy", "--times", 1)
    done = pod.run("destroy", 9101)
    assert (done.returncode, failure(done)["Left"]) == (1, "container 9101")
    assert "dataset is busy" in failure(done)["Error"] and len(pod.ipam()) == 1
    assert summary(pod.run("destroy", 9101))["Result"] == "destroyed"
    pod.assert_no_trace(9101)


def test_a_destroy_that_comes_no_further_than_the_container_does_not_say_that_it_only_waited(pod: Scripts) -> None:
    """Whoever hears 75 takes the pod for what it was."""
    in_the_way = pod.state_dir / "last" / "9101"
    in_the_way.mkdir(parents=True)
    done = pod.run("destroy", 9101)
    said = failure(done)
    assert (done.returncode, said["Retryable"], pod.lab.conf(9101)) == (1, "yes", None)
    assert said["Left"] == f"the notes of 9101 in {pod.state_dir}"
    in_the_way.rmdir()
    assert summary(pod.run("destroy", 9101))["Result"] == "absent"
    pod.assert_no_trace(9101)


def test_a_failing_stop_is_the_error_that_is_told(pod: Scripts) -> None:
    pod.lab.switch("fail", "pct stop", "--message", "it will not stop", "--times", 1)
    assert "it will not stop" in failure(pod.run("destroy", 9101))["Error"]
    assert pod.lab.conf(9101)


@pytest.mark.parametrize("guard", [(), ("--tenant", "TENANT-123", "--pod", "abc")], ids=["by anybody", "by its owner"])
def test_a_destroy_ended_by_a_signal_can_be_repeated(pod: Scripts, guard: tuple[str, ...]) -> None:
    pod.lab.switch("delay", "pct destroy", 30)
    process = pod.start("destroy", 9101)
    wait_until(lambda: "lock: destroyed" in (pod.lab.conf(9101) or ""), "lock: destroyed")
    process.send_signal(signal.SIGTERM)
    done = finished(process)
    assert done.returncode == 143
    pod.lab.switch("reset")
    other = pod.run("destroy", 9101, "--tenant", "TENANT-456", "--pod", "abc")
    assert (other.returncode, "does not belong to" in failure(other)["Error"]) == (77, True)
    # The marker went with the conf: the line says whose it was.
    assert pod.run("destroy", 9101, *guard).returncode == 0
    pod.assert_no_trace(9101)


# -- scale ---------------------------------------------------------------------------------------------------------


def test_scale_sets_the_size_once(pod: Scripts) -> None:
    done = pod.run("scale", 9101, *SCALE, "--swap", 0, "--tenant", "TENANT-123", "--pod", "abc")
    assert (done.returncode, summary(done)) == (
        0,
        {"VMID": "9101", "Cores": "4", "Memory": "4096", "Swap": "0", "Result": "scaled"},
    )
    assert {"cores: 4", "memory: 4096", "swap: 0"} <= set((pod.lab.conf(9101) or "").splitlines())
    assert pod.lab.cgroup(9101, "memory.max") == str(4096 * 1024 * 1024)
    pod.lab.switch("fail", "pct set", "--message", "pct set was called")
    assert summary(pod.run("scale", 9101, *SCALE))["Result"] == "unchanged"
    assert pod.outcomes() == ["created", "scaled", "unchanged"]


def test_swap_stays_unless_it_is_asked_for(pod: Scripts) -> None:
    assert summary(pod.run("scale", 9101, *SCALE))["Swap"] == "512"


def uses(pod: Scripts, memory_mb: int, cached_mb: int = 0) -> None:
    pod.lab.set_cgroup(9101, "memory.current", f"{(memory_mb + cached_mb) << 20}\n")
    pod.lab.set_cgroup(9101, "memory.stat", f"anon {memory_mb << 20}\nfile {cached_mb << 20}\n")


LESS = ("--cores", 2, "--mem", 128)


def test_memory_in_use_is_not_taken_away(pod: Scripts) -> None:
    uses(pod, 200)
    before = pod.lab.conf(9101)
    done = pod.run("scale", 9101, *LESS)
    assert (done.returncode, failure(done)["Retryable"], failure(done)["Left"]) == (73, "no", "nothing")
    assert "uses 200 MiB" in failure(done)["Error"]
    assert "--force" in failure(done)["Error"]
    assert pod.lab.conf(9101) == before


def test_memory_in_use_is_taken_away_with_force(pod: Scripts) -> None:
    uses(pod, 200)
    assert summary(pod.run("scale", 9101, *LESS, "--force"))["Result"] == "scaled"
    assert pod.lab.cgroup(9101, "memory.max") == str(128 << 20)


def test_memory_that_only_holds_files_is_taken_away(pod: Scripts) -> None:
    uses(pod, 100, cached_mb=400)
    assert summary(pod.run("scale", 9101, *LESS))["Result"] == "scaled"


def test_a_stopped_pod_uses_no_memory(pod: Scripts) -> None:
    uses(pod, 200)
    pod.lab.ok("pct", "stop", 9101)
    assert summary(pod.run("scale", 9101, *LESS))["Result"] == "scaled"


def test_a_scale_that_fails_is_told_in_the_nodes_words(pod: Scripts) -> None:
    pod.lab.switch("fail", "pct set", "--message", "memory: unable to hotplug memory: no", "--times", 1)
    done = pod.run("scale", 9101, *SCALE)
    assert (done.returncode, failure(done)["Left"]) == (1, "nothing")
    assert "unable to hotplug" in failure(done)["Error"]


def test_keys_that_wait_for_the_next_start_are_named(pod: Scripts) -> None:
    pod.lab.ok("pct", "set", 9101, "--nameserver", "9.9.9.9", "--timezone", "UTC")
    assert summary(pod.run("scale", 9101, *SCALE))["Pending"] == "nameserver,timezone"


# -- backup --------------------------------------------------------------------------------------------------------


def archives(node: Scripts) -> list[Path]:
    """Return the archives on the default backup storage."""
    return sorted((node.lab.dir / "mnt/vzdump-backups/dump").glob("*.tar.zst"))


@pytest.mark.parametrize("mode", ["snapshot", "suspend", "stop"])
def test_backup_makes_an_archive_with_its_owner_in_the_notes(pod: Scripts, mode: str) -> None:
    done = pod.run("backup", 9101, "--mode", mode, "--run", "job7.2")
    assert done.returncode == 0, done.stderr
    (archive,) = archives(pod)
    said = summary(done)
    assert said.pop("Duration").isdecimal()
    assert said == {"VMID": "9101", "Mode": mode, "Storage": "vzdump-backups", "Size": str(archive.stat().st_size),
                    "Archive": f"vzdump-backups:backup/{archive.name}", "Result": "created"}  # fmt: skip
    assert Path(f"{archive}.notes").read_text().strip() == "cloudpod tenant=TENANT-123 pod=abc job=job7"
    assert pod.lab.running(9101) and pod.outcomes()[-1] == "backed_up"
    assert "INFO: Backup job finished successfully" in done.stderr


def test_a_job_makes_its_archive_once(pod: Scripts) -> None:
    first = summary(pod.run("backup", 9101, *BACKUP, "--run", "job7.1"))
    again = summary(pod.run("backup", 9101, *BACKUP, "--run", "job7.2"))
    assert again["Result"] == "exists" and pod.outcomes()[-1] == "exists"
    assert (again["Archive"], again["Size"]) == (first["Archive"], first["Size"])
    assert len(archives(pod)) == 1


def test_without_a_run_or_for_another_job_there_is_another_archive(pod: Scripts) -> None:
    for count, words in enumerate(((), (), ("--run", "job7.1"), ("--run", "job70.1")), 1):
        assert pod.run("backup", 9101, *BACKUP, *words).returncode == 0
        assert len(archives(pod)) == count


@pytest.mark.parametrize(("storage", "words"), [
    ("clients-backup", "storage 'clients-backup' is a zfspool, which cannot hold archives: "
     "name one of type dir, nfs or cifs with the content 'backup'"),
    ("nosuch", "storage 'nosuch' does not exist"),
])  # fmt: skip
def test_a_storage_that_cannot_hold_archives_is_refused(pod: Scripts, storage: str, words: str) -> None:
    done = pod.run("backup", 9101, *BACKUP, "--storage", storage)
    assert (done.returncode, failure(done)["Error"]) == (69, words)


def test_vzdumps_own_lock_means_try_again(pod: Scripts) -> None:
    words = "can't acquire lock '/var/run/vzdump.lock' (wait = 60)"
    pod.lab.switch("fail", "vzdump", "--message", words, "--times", 1)
    done = pod.run("backup", 9101, *BACKUP)
    assert (done.returncode, failure(done)["Retryable"]) == (75, "yes")
    assert words in failure(done)["Error"]


def test_a_backup_that_fails_is_told_in_vzdumps_words(pod: Scripts) -> None:
    pod.lab.switch("fail", "vzdump", "--message", "no space on vzdump-backups", "--half", "--times", 1)
    done = pod.run("backup", 9101, *BACKUP)
    assert done.returncode == 1 and "no space on vzdump-backups" in failure(done)["Error"], done.stderr
    assert archives(pod) == [] and failure(done)["Left"] == "nothing"


def test_a_backup_ended_by_a_signal_leaves_no_lock(pod: Scripts) -> None:
    pod.lab.switch("delay", "vzdump", 30)
    process = pod.start("backup", 9101, *BACKUP)
    wait_until(lambda: "lock: " in (pod.lab.conf(9101) or ""), "vzdump's lock")
    process.send_signal(signal.SIGTERM)
    done = finished(process)
    assert (done.returncode, failure(done)["Left"]) == (143, "nothing")
    assert "lock: " not in (pod.lab.conf(9101) or "") and pod.outcomes()[-1] == "interrupted"
