"""What a job did to a pod it does not do again, when it comes again because its answer was lost."""

from __future__ import annotations

import signal

import pytest

from tests.node_scripts import Scripts, failure, finished, kill_all_of, node, summary, wait_until

__all__ = ["node"]

ROLLBACK = ("snapshot", 9101, "--action", "rollback", "--name", "before")
DELETE = ("snapshot", 9101, "--action", "delete", "--name", "before")
RESTART = ("power", 9101, "--state", "restarted")
Call = tuple[str | int, ...]


@pytest.fixture
def pod(node: Scripts) -> Scripts:
    """Return a node with one running pod, 9101, that has a snapshot ``before`` and has written ``after`` since."""
    node.created(ip="10.1.10.91")
    write(node, "before")
    assert node.run("snapshot", 9101, "--action", "create", "--name", "before", "--run", "job1.1").returncode == 0
    write(node, "after")
    return node


def write(node: Scripts, text: str) -> None:
    """Write the file in the pod's disk."""
    (node.lab.dir / "clients/main/subvol-9101-disk-0/marker").write_text(text)


def written(node: Scripts) -> str:
    """Return what the file in the pod's disk says."""
    return (node.lab.dir / "clients/main/subvol-9101-disk-0/marker").read_text()


def act(node: Scripts, call: Call, job: str = "job2", attempt: int = 2) -> dict[str, str]:
    """Run a call for a job, which must succeed; return its summary."""
    done = node.run(*call, "--run", f"{job}.{attempt}")  # type: ignore[arg-type]
    assert done.returncode == 0, done.stderr
    return summary(done)


def cut_off(node: Scripts, call: Call) -> None:
    """Run a call for job2 that is killed when its work is done, and that nobody heard of."""
    log, note = node.log_file.read_text(), node.state_dir / "last/9101"
    node.log_file.unlink()
    # A log that nobody reads holds the script up before its answer.
    node.lab.ok("mkfifo", str(node.log_file))
    process = node.start(*call, "--run", "job2.1")  # type: ignore[arg-type]
    wait_until(lambda: note.exists() and ": over" in note.read_text(), "the note")
    assert process.poll() is None
    kill_all_of(process)
    node.log_file.unlink()
    node.log_file.write_text(log)


def after_pct(node: Scripts, command: str, then: str) -> None:
    """Have the next ``pct <command>`` do ``then`` once it is through."""
    pct = node.lab.dir / "bin/pct"
    real = pct.rename(pct.with_name("pct.real"))
    pct.write_text(f'#!/bin/bash\n[[ $1 == {command} ]] || exec {real} "$@"\n{real} "$@" || exit\nmv {real} {pct}\n{then}\n')
    pct.chmod(0o755)


def test_a_restart_that_nobody_heard_of_is_not_made_again(pod: Scripts) -> None:
    cut_off(pod, RESTART)
    pod.lab.run("pct", "start", 9101)  # the kill may have come before
    pod.lab.switch("fail", "pct shutdown", "--message", "pct shutdown was called", "--times", 1)
    assert act(pod, RESTART) == {"VMID": "9101", "Status": "running", "Result": "unchanged"}
    pod.lab.switch("reset")
    assert pod.outcomes()[-1] == "unchanged"
    assert act(pod, RESTART, "job3")["Result"] == "restarted"
    assert act(pod, RESTART, "job2")["Result"] == "restarted", "the last one's note is kept, no other"


@pytest.mark.parametrize(("command", "result"), [("shutdown", "started"), ("start", "unchanged")])
def test_of_a_restart_that_was_killed_only_the_start_is_made_up_for(pod: Scripts, command: str, result: str) -> None:
    after_pct(pod, command, "kill -KILL $PPID")
    assert pod.run(*RESTART, "--run", "job2.1").returncode == -signal.SIGKILL
    assert pod.lab.running(9101) is (command == "start")
    assert [act(pod, RESTART)["Result"], act(pod, RESTART)["Result"]] == [result, "unchanged"]
    assert pod.lab.running(9101)


def test_a_restart_that_its_clean_up_brought_to_an_end_is_one(pod: Scripts) -> None:
    after_pct(pod, "shutdown", "trap '' TERM; kill -TERM $PPID; sleep 0.3")
    assert pod.run(*RESTART, "--run", "job2.1").returncode == 143
    assert pod.lab.running(9101) and act(pod, RESTART)["Result"] == "unchanged"


@pytest.mark.parametrize(("state", "undone"), [("running", "stop"), ("stopped", "start")])
def test_what_was_undone_since_is_not_done_again_by_the_same_job(pod: Scripts, state: str, undone: str) -> None:
    call = ("power", 9101, "--state", state)
    if state == "running":
        pod.lab.ok("pct", "stop", 9101)
    cut_off(pod, call)
    pod.lab.ok("pct", undone, 9101)
    now = "running" if pod.lab.running(9101) else "stopped"
    assert act(pod, call) == {"VMID": "9101", "Status": now, "Result": "unchanged"} and now != state
    assert act(pod, call, "job3")["Status"] == state


@pytest.mark.parametrize("status", ["running", "stopped"])
def test_a_job_goes_back_once_and_another_goes_back_again(pod: Scripts, status: str) -> None:
    if status == "stopped":
        pod.lab.ok("pct", "stop", 9101)
    cut_off(pod, ROLLBACK)
    assert written(pod) == "before"
    write(pod, "later")
    assert act(pod, ROLLBACK) == {"VMID": "9101", "Name": "before", "Status": status, "Result": "unchanged"}
    assert (written(pod), pod.outcomes()[-1]) == ("later", "unchanged")
    assert act(pod, ROLLBACK, "job3") == {"VMID": "9101", "Name": "before", "Status": status, "Result": "rolled_back"}
    assert written(pod) == "before"


def test_a_rollback_that_was_killed_starts_what_ran_when_it_is_repeated(pod: Scripts) -> None:
    after_pct(pod, "rollback", "kill -KILL $PPID")
    assert pod.run(*ROLLBACK, "--run", "job2.1").returncode == -signal.SIGKILL
    assert not pod.lab.running(9101)
    assert act(pod, ROLLBACK) == {"VMID": "9101", "Name": "before", "Status": "running", "Result": "rolled_back"}
    assert pod.outcomes().count("rolled_back") == 1


def test_a_signal_when_proxmox_is_through_takes_nothing_back(pod: Scripts) -> None:
    after_pct(pod, "rollback", "trap '' TERM; kill -TERM $PPID; sleep 0.3")
    done = pod.run(*ROLLBACK, "--run", "job2.1")
    assert (done.returncode, failure(done)["Left"]) == (143, "nothing")
    assert (written(pod), pod.lab.running(9101)) == ("before", True)
    write(pod, "later")
    assert act(pod, ROLLBACK)["Result"] == "unchanged" and written(pod) == "later"


def test_a_signal_before_proxmox_is_through_leaves_the_rollback_to_the_next_run(pod: Scripts) -> None:
    pod.lab.switch("delay", "pct rollback", 30)
    process = pod.start(*ROLLBACK, "--run", "job2.1")
    wait_until(lambda: not pod.lab.running(9101), "the stop")
    process.send_signal(signal.SIGTERM)
    assert finished(process).returncode == 143
    pod.lab.switch("reset")
    assert (written(pod), act(pod, ROLLBACK)["Result"], written(pod)) == ("after", "rolled_back", "before")


def test_a_snapshot_of_the_same_name_made_since_is_not_deleted_by_the_same_job(pod: Scripts) -> None:
    cut_off(pod, DELETE)
    assert act(pod, DELETE)["Result"] == "absent"
    pod.lab.ok("pct", "snapshot", 9101, "before")
    assert act(pod, DELETE)["Result"] == "unchanged"
    assert [each["name"] for each in pod.info(9101)[0]["snapshots"]] == ["before"]
    assert act(pod, DELETE, "job3")["Result"] == "deleted"


def test_a_run_without_a_job_notes_nothing_and_acts_every_time(pod: Scripts) -> None:
    for call, result in ((RESTART, "restarted"), (ROLLBACK, "rolled_back"), (DELETE, "deleted")):
        if call != DELETE:
            assert summary(pod.run(*call))["Result"] == result
        assert summary(pod.run(*call))["Result"] == result
    assert not (pod.state_dir / "last").exists()


def test_a_job_that_asks_for_something_else_gets_it(pod: Scripts) -> None:
    assert pod.run("snapshot", 9101, "--action", "create", "--name", "other").returncode == 0
    assert act(pod, (*ROLLBACK[:-1], "other"))["Result"] == "rolled_back"
    assert act(pod, (*DELETE[:-1], "other"))["Result"] == "deleted"
    assert act(pod, ROLLBACK)["Result"] == "rolled_back" and written(pod) == "before"
    assert [act(pod, ("power", 9101, "--state", state))["Result"] for state in ("stopped", "running")] == ["stopped", "started"]


def test_the_note_is_roots_and_goes_with_the_container(pod: Scripts) -> None:
    act(pod, RESTART, attempt=1)
    note = pod.state_dir / "last/9101"
    assert note.read_text() == "job2 cloudpod-power restarted: over\n"
    assert (note.stat().st_mode & 0o777, note.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert failure(pod.run(*RESTART, "--tenant", "TENANT-9", "--run", "job2.2"))["Error"].startswith("container 9101 does not")
    assert pod.run("destroy", 9101).returncode == 0
    pod.assert_no_trace(9101)


def test_a_note_that_cannot_be_written_is_only_said(pod: Scripts) -> None:
    pod.state_dir.mkdir(parents=True, exist_ok=True)
    (pod.state_dir / "last").write_text("")
    done = pod.run(*RESTART, "--run", "job2.1")
    assert summary(done)["Result"] == "restarted" and pod.lab.running(9101)
    assert f"warning: cannot write {pod.state_dir}/last/9101" in done.stderr
