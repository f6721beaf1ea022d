"""cloudpod-snapshot.sh: what makes a snapshot, goes back to it and deletes it, and what a failure half-way leaves."""

from __future__ import annotations

import signal
import time

import pytest

from tests.node_scripts import Scripts, failure, finished, has_begun, kill_all_of, node, summary, wait_until

__all__ = ["node"]

SLOW_S = 90  # longer than any deadline: only a signal ends it


@pytest.fixture
def pod(node: Scripts) -> Scripts:
    """Return a node with one running pod, 9101, that has a file."""
    node.created(ip="10.1.10.91", tenant="a:b")
    write(node, "before")
    return node


@pytest.fixture
def kept(pod: Scripts) -> Scripts:
    """Return the same node, the pod's state kept as the snapshot ``before`` and its file changed since."""
    assert act(pod, "create", "--run", "job7.1")["Result"] == "created"
    write(pod, "after")
    return pod


def act(node: Scripts, action: str, *words: str, name: str = "before") -> dict[str, str]:
    """Run an action that must succeed; return its summary."""
    done = node.run("snapshot", 9101, "--action", action, "--name", name, *words)
    assert done.returncode == 0, done.stderr
    return summary(done)


def refused(node: Scripts, action: str, *words: str, name: str = "before") -> tuple[int, dict[str, str]]:
    """Run an action that must fail; return its exit code and its last lines."""
    done = node.run("snapshot", 9101, "--action", action, "--name", name, *words)
    return done.returncode, failure(done)


def write(node: Scripts, text: str) -> None:
    """Write the file in the pod's disk."""
    (node.lab.dir / "clients/main/subvol-9101-disk-0/marker").write_text(text)


def marker(node: Scripts) -> str:
    """Return what the file in the pod's disk says."""
    return (node.lab.dir / "clients/main/subvol-9101-disk-0/marker").read_text()


def names(node: Scripts) -> list[str]:
    """Return the names of the pod's snapshots."""
    return [each["name"] for each in node.info(9101)[0]["snapshots"]]


# -- create --------------------------------------------------------------------------------------------------------


def test_create_keeps_the_pods_state_with_its_owner_and_job(pod: Scripts) -> None:
    done = pod.run(
        "snapshot", 9101, "--action", "create", "--name", "before", "--tenant", "a:b", "--pod", "abc", "--run", "job7.2"
    )
    assert (done.returncode, done.stdout) == (
        0,
        "VMID     : 9101\nName     : before\nStatus   : running\nResult   : created\n",
    )
    assert "\n[before]\n#cloudpod tenant=a%3Ab pod=abc job=job7\n" in (pod.lab.conf(9101) or "")
    assert pod.lab.running(9101) and pod.outcomes() == ["created", "snapshotted"]
    assert pod.log()[-1]["message"] == "snapshot 'before' of container 9101: created"


def test_a_job_makes_its_snapshot_once(kept: Scripts) -> None:
    kept.lab.switch("fail", "pct snapshot", "--message", "pct snapshot was called")
    assert act(kept, "create", "--run", "job7.2")["Result"] == "exists"
    assert names(kept) == ["before"] and kept.outcomes()[-1] == "exists"


@pytest.mark.parametrize("words", [(), ("--run", "job8.1"), ("--run", "job70.1"), ("--run", "job")])
def test_a_name_that_another_job_took_is_taken(kept: Scripts, words: tuple[str, ...]) -> None:
    code, said = refused(kept, "create", *words)
    assert (code, said["Retryable"], said["Left"]) == (73, "no", "nothing")
    assert said["Error"] == "container 9101 already has a snapshot 'before'"


def test_without_a_run_nobody_can_say_whose_a_snapshot_is(pod: Scripts) -> None:
    act(pod, "create")
    assert refused(pod, "create")[0] == 73


def test_a_snapshot_made_by_hand_or_not_whole_is_not_the_jobs(kept: Scripts) -> None:
    kept.lab.ok("pct", "snapshot", 9101, "by-hand", "--description", "job=job7")
    assert refused(kept, "create", "--run", "job7.1", name="by-hand")[0] == 73
    conf = kept.lab.conf_path(9101)
    conf.write_text(conf.read_text().replace("snaptime: ", "snapstate: prepare\nsnaptime: "))
    assert refused(kept, "create", "--run", "job7.1")[0] == 73
    assert refused(kept, "rollback") == (
        1,
        {"Error": "snapshot 'before' of container 9101 is not whole (prepare)", "Retryable": "no", "Left": "nothing"},
    )


def test_a_storage_without_snapshots_is_told_in_the_nodes_words(pod: Scripts) -> None:
    pod.lab.switch("fail", "pct snapshot", "--message", "snapshot feature is not available", "--times", 1)
    assert refused(pod, "create") == (
        1,
        {"Error": "snapshot feature is not available", "Retryable": "no", "Left": "nothing"},
    )
    assert names(pod) == []


def half_made(node: Scripts, *keys: str) -> None:
    """Make ``pct snapshot`` do what a real one leaves when it is ended half-way: its lock and a part of the snapshot."""
    pct = node.lab.dir / "bin/pct"
    real = pct.rename(pct.with_name("pct.real"))
    added = "\\n".join(["", "[before]", *keys, "snapstate: prepare", "snaptime: 1795229601", ""])
    pct.write_text(
        f'#!/bin/bash\n[[ $1 == snapshot ]] || exec {real} "$@"\n'
        f"printf '{added}' >>{node.lab.conf_path(9101)}\n"
        f"sed -i '0,/^memory/s//lock: snapshot\\nmemory/' {node.lab.conf_path(9101)}\n"
        "echo 'snapshot create failed' >&2\nexit 255\n"
    )
    pct.chmod(0o755)


def test_a_half_made_snapshot_is_dropped_and_its_lock_lifted(pod: Scripts) -> None:
    half_made(pod)
    assert refused(pod, "create", "--run", "job7.1") == (
        1,
        {"Error": "snapshot create failed", "Retryable": "no", "Left": "nothing"},
    )
    assert names(pod) == [] and "lock: " not in (pod.lab.conf(9101) or "")


def test_a_half_made_snapshot_that_stays_is_said(pod: Scripts) -> None:
    half_made(pod)
    pod.lab.switch("fail", "pct delsnapshot", "--message", "dataset is busy", "--times", 1)
    assert refused(pod, "create")[1]["Left"] == "snapshot 'before' of container 9101"
    assert names(pod) == ["before"]
    assert act(pod, "delete")["Result"] == "deleted"


def test_a_lock_that_stays_is_said(pod: Scripts) -> None:
    half_made(pod)
    pod.lab.switch("fail", "pct unlock", "--message", "no", "--times", 1)
    assert refused(pod, "create")[1]["Left"] == "lock 'snapshot' on container 9101"


# -- rollback ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["running", "stopped"])
def test_rollback_brings_back_disk_and_size_and_the_state_it_found(kept: Scripts, status: str) -> None:
    assert kept.run("scale", 9101, "--cores", 4, "--mem", 4096).returncode == 0
    if status == "stopped":
        kept.lab.ok("pct", "stop", 9101)
    assert act(kept, "rollback") == {"VMID": "9101", "Name": "before", "Status": status, "Result": "rolled_back"}
    (row,) = kept.info(9101)
    assert (marker(kept), row["status"], row["cores"], row["memory_mb"]) == ("before", status, 2, 2048)
    assert row["owner"] == {"tenant": "a:b", "pod": "abc"} and names(kept) == ["before"]
    assert kept.outcomes()[-1] == "rolled_back"


def test_rollback_to_what_is_not_there_is_said(kept: Scripts) -> None:
    code, said = refused(kept, "rollback", name="never")
    assert (code, said["Error"]) == (66, "container 9101 has no snapshot 'never'")
    assert (said["Retryable"], said["Left"]) == ("no", "nothing")
    assert kept.lab.running(9101) and marker(kept) == "after"


def test_rollback_to_an_older_one_is_refused_in_the_nodes_words(kept: Scripts) -> None:
    act(kept, "create", name="later")
    code, said = refused(kept, "rollback")
    assert (code, said["Left"]) == (1, "nothing")
    assert "is not most recent snapshot" in said["Error"]
    assert kept.lab.running(9101) and marker(kept) == "after"


def test_a_rollback_that_fails_half_way_starts_the_pod_again(kept: Scripts) -> None:
    kept.lab.switch("fail", "pct rollback", "--message", "zfs error: busy", "--half", "--times", 1)
    code, said = refused(kept, "rollback")
    assert (code, said["Error"], said["Left"]) == (1, "zfs error: busy", "nothing")
    assert kept.lab.running(9101) and marker(kept) == "after"
    assert act(kept, "rollback")["Status"] == "running"


def test_a_pod_that_does_not_start_after_its_rollback_is_said(kept: Scripts) -> None:
    kept.lab.switch("fail", "pct start", "--message", "startup for container '9101' failed")
    code, said = refused(kept, "rollback")
    assert (code, said["Left"]) == (1, "container 9101 is stopped, rolled back to 'before'")
    assert "startup for container '9101' failed" in said["Error"] and marker(kept) == "before"


def test_a_rollback_that_proxmox_had_begun_leaves_the_pod_stopped_and_can_be_repeated(kept: Scripts) -> None:
    pct = kept.lab.dir / "bin/pct"
    real = pct.rename(pct.with_name("pct.real"))
    pct.write_text(
        f'#!/bin/bash\n[[ $1 == rollback ]] || exec {real} "$@"\n{real} stop 9101\n{real} set 9101 --lock rollback\n'
        f"mv {real} {pct}\necho 'zfs error: no such pool' >&2\nexit 255\n"
    )
    pct.chmod(0o755)
    code, said = refused(kept, "rollback")
    assert (code, said["Error"]) == (1, "zfs error: no such pool")
    assert said["Left"] == "container 9101 is stopped, and the rollback to 'before' is not through: repeat it"
    assert not kept.lab.running(9101)
    assert act(kept, "rollback")["Result"] == "rolled_back" and marker(kept) == "before"


# -- delete --------------------------------------------------------------------------------------------------------


def test_delete_drops_the_snapshot_once(kept: Scripts) -> None:
    results = [act(kept, "delete", "--run", "job8.1")["Result"] for _ in range(2)]
    assert results == ["deleted", "absent"] and names(kept) == []
    assert kept.outcomes()[-2:] == ["snapshot_deleted", "absent"]
    assert kept.lab.running(9101) and marker(kept) == "after"


@pytest.mark.parametrize("half", [(), ("--half",)], ids=["before", "half"])
def test_a_delete_that_fails_says_what_is_left_and_can_be_repeated(kept: Scripts, half: tuple[str, ...]) -> None:
    kept.lab.switch("fail", "pct delsnapshot", "--message", "dataset is busy", "--times", 1, *half)
    assert refused(kept, "delete") == (
        1,
        {"Error": "dataset is busy", "Retryable": "no", "Left": "snapshot 'before' of container 9101"},
    )
    assert act(kept, "delete")["Result"] == "deleted"


# -- refusals and ends ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["create", "rollback", "delete"])
@pytest.mark.parametrize("words", [("--tenant", "TENANT-9"), ("--pod", "xyz")])
def test_another_owners_snapshots_are_not_touched(kept: Scripts, action: str, words: tuple[str, str]) -> None:
    before = kept.traces(9101)
    assert refused(kept, action, *words)[0] == 77
    assert kept.traces(9101) == before


@pytest.mark.parametrize("action", ["create", "rollback", "delete"])
def test_what_proxmox_works_on_or_a_killed_create_left_has_to_wait(kept: Scripts, action: str) -> None:
    kept.lab.ok("pct", "set", 9101, "--lock", "migrate")
    assert refused(kept, action)[1] == {"Error": "CT is locked (migrate)", "Retryable": "yes", "Left": "nothing"}
    kept.lab.ok("pct", "unlock", 9101)
    kept.ipam_file.write_text(kept.ipam_file.read_text().replace(" active", " reserved:job1.1"))
    code, said = refused(kept, action)
    assert (code, said["Retryable"]) == (75, "yes") and "unfinished create" in said["Error"]


@pytest.mark.parametrize(
    ("action", "command", "left"),
    [
        ("create", "pct snapshot", "nothing"),
        ("rollback", "pct rollback", "nothing"),
        ("delete", "pct delsnapshot", "snapshot 'before' of container 9101"),
    ],
)
def test_a_signal_in_the_middle_leaves_the_pod_as_it_was(kept: Scripts, action: str, command: str, left: str) -> None:
    name = "second" if action == "create" else "before"
    kept.lab.switch("delay", command, SLOW_S)
    process = kept.start("snapshot", 9101, "--action", action, "--name", name)
    wait_until(lambda: has_begun(process, command.split()[1]), command)
    if action == "rollback":
        wait_until(lambda: not kept.lab.running(9101), "the stop")
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    done = finished(process)
    assert done.returncode == 143 and time.monotonic() - began < SLOW_S / 3
    assert (failure(done)["Left"], failure(done)["Retryable"]) == (left, "yes")
    assert kept.lab.running(9101) and marker(kept) == "after" and names(kept) == ["before"]
    kept.lab.switch("reset")
    act(kept, action, name=name)


def test_after_a_kill_a_rollback_can_be_repeated(kept: Scripts) -> None:
    kept.lab.switch("delay", "pct rollback", SLOW_S)
    process = kept.start("snapshot", 9101, "--action", "rollback", "--name", "before")
    wait_until(lambda: not kept.lab.running(9101), "the stop")
    kill_all_of(process)
    kept.lab.switch("reset")
    assert act(kept, "rollback")["Result"] == "rolled_back" and marker(kept) == "before"
