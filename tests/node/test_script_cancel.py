"""cloudpod-cancel.sh: which run it ends, which it leaves alone, and what is on the node afterwards."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest
import yaml
from jinja2 import Template

from tests.node_scripts import ROLE, Done, Scripts, create_arguments, failure, finished, has_begun, node, summary, wait_until

__all__ = ["node"]

SLOW_S = 90  # longer than any deadline: only a signal ends it
TERMINATED = 128 + signal.SIGTERM
VM = 900

Process = subprocess.Popen[str]
Start = Callable[..., Process]


@pytest.fixture
def start(node: Scripts) -> Iterator[Start]:
    """Return a function that starts a script or a command; what of it is left after the test is killed."""
    started: list[Process] = []

    def begin(*words: str | int) -> Process:
        process = node.start(str(words[0]), *words[1:])
        started.append(process)
        return process

    yield begin
    for process in started:
        end_group(process)


def end_group(process: Process) -> None:
    """Kill whatever there still is of a script and its commands, which are in its process group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=20)


@pytest.fixture
def creating(node: Scripts, start: Start) -> Process:
    """Return a create of 9101, run job1.1, that is in the middle of `pct create`."""
    node.lab.switch("delay", "pct create", SLOW_S)
    process = start("create", *create_arguments(9101))
    wait_until(lambda: node.lab.conf(9101) and has_begun(process, "create"), "pct create")
    return process


def cancel(node: Scripts, *words: str | int, vmid: int = 9101) -> Done:
    """Run the script, which must answer."""
    done = node.run("cancel", vmid, *words)
    assert done.returncode == 0, done.stderr
    return done


def sign(node: Scripts, pid: int, run: str = "job1.1") -> None:
    """Write the lock's text as a run does that holds it."""
    node.lock_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    (node.lock_dir / "9101").write_text(f"{pid} {run} cloudpod-create 2026-11-21T00:00:00Z\n")


def holding(node: Scripts, *command: str | int) -> Process:
    """Start a command that holds the lock of 9101 as what is left of a killed run does, and wait until it does."""
    process = node.lab.start("flock", "--no-fork", node.lock_dir / "9101", *command)
    wait_until(lambda: node.info(9101)[0]["busy"], "the lock is held")
    return process


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """Yield a process that has nothing to do with any run."""
    with subprocess.Popen(["sleep", str(SLOW_S)]) as process:
        yield process
        process.kill()


# -- the run that is asked ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("run", ["job1", "job1.1"])
def test_a_create_is_ended_and_leaves_nothing(node: Scripts, creating: Process, run: str) -> None:
    done = cancel(node, "--run", run, "--tenant", "TENANT-123", "--pod", "abc")
    said = {"VMID": "9101", "Pid": str(creating.pid), "Run": "job1.1", "Script": "cloudpod-create"}
    assert summary(done) == {**said, "Signalled": str(creating.pid), "Result": "ended"}
    assert finished(creating).returncode == TERMINATED
    node.assert_no_trace(9101)
    assert node.outcomes() == ["interrupted", "cancelled"]
    assert (
        node.log()[-1].items()
        >= {"run": run, "tenant": "TENANT-123", "vmid": 9101, "rc": 0, "script": "cloudpod-cancel"}.items()
    )
    assert summary(cancel(node, "--run", run)) == {"VMID": "9101", "Result": "idle"}


def test_a_backup_is_ended_and_the_pod_is_as_before(node: Scripts, start: Start) -> None:
    node.created()
    before = node.lab.conf(9101)
    node.lab.switch("delay", "vzdump", SLOW_S)
    process = start("backup", 9101, "--mode", "snapshot", "--run", "job2.1")
    wait_until(lambda: "lock: backup" in (node.lab.conf(9101) or ""), "the backup has begun")
    assert summary(cancel(node, "--run", "job2"))["Result"] == "ended"
    assert finished(process).returncode == TERMINATED
    assert node.lab.conf(9101) == before and node.lab.running(9101)
    assert not list((node.lab.dir / "clients").rglob("vzdump-lxc-9101-*"))


@pytest.mark.parametrize("run", ["job1.2", "job1.11", "job", "job11", "JOB1", "1"])
def test_another_run_is_left_alone(node: Scripts, creating: Process, run: str) -> None:
    said = {"VMID": "9101", "Pid": str(creating.pid), "Run": "job1.1", "Script": "cloudpod-create", "Result": "other"}
    assert summary(cancel(node, "--run", run)) == said
    assert creating.poll() is None and "Create" not in node.outcomes()
    assert node.outcomes() == ["other"]


def test_a_run_without_an_id_is_nobodys(node: Scripts, start: Start) -> None:
    node.lab.switch("delay", "pct create", SLOW_S)
    process = start("create", *create_arguments(9101, run=None))
    wait_until(lambda: has_begun(process, "create"), "pct create")
    assert summary(cancel(node, "--run", "job1"))["Result"] == "other"
    assert process.poll() is None


def test_a_clean_up_is_not_cut_by_a_second_call(node: Scripts, start: Start) -> None:
    """The commands of a clean-up hold the lock too."""
    node.lab.switch("delay", "pct start", SLOW_S)
    node.lab.switch("delay", "pct destroy", 8)
    creating = start("create", *create_arguments(9101))
    wait_until(lambda: has_begun(creating, "start"), "pct start")
    calls = [node.start("cancel", 9101, "--run", "job1") for _ in range(2)]
    wait_until(lambda: has_begun(creating, "destroy"), "the clean-up")
    assert summary(cancel(node, "--run", "job1"))["Result"] == "ended"
    assert [summary(finished(call))["Result"] for call in calls] == ["ended", "ended"]
    assert finished(creating).returncode == TERMINATED
    node.assert_no_trace(9101)
    assert node.outcomes() == ["interrupted", "cancelled", "cancelled", "cancelled"]


def test_a_run_that_only_waits_for_the_lock_is_not_its_holder(node: Scripts, creating: Process, start: Start) -> None:
    waiting = start("destroy", 9101, "--run", "job2.1")
    wait_until(lambda: has_begun(waiting, "flock"), "the destroy waits")
    said = summary(cancel(node, "--run", "job2"))
    assert (said["Result"], said["Run"]) == ("other", "job1.1")
    # And it gets the lock when the holder is ended: only the holder was told.
    assert summary(cancel(node, "--run", "job1"))["Result"] == "ended"
    assert finished(creating).returncode == TERMINATED
    assert summary(finished(waiting))["Result"] == "absent"


# -- a run that comes late ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ended", "late"), [("job1", "job1.1"), ("job1", "job1"), ("job1", "job1.7"), ("job1.1", "job1.1")])
def test_a_run_that_was_ended_for_good_does_not_begin(node: Scripts, ended: str, late: str) -> None:
    assert summary(cancel(node, "--run", ended, "--for-good"))["Result"] == "idle"
    done = node.create(run=late)
    said = {"Error": f"run {late} was ended for good", "Retryable": "no", "Left": "nothing"}
    assert (done.returncode, failure(done)) == (77, said)
    node.assert_no_trace(9101)


@pytest.mark.parametrize(("ended", "other"), [("job1.1", "job1.2"), ("job1", "job11.1"), ("job1.1", "job1"), ("job1", None)])
def test_other_runs_begin_all_the_same(node: Scripts, ended: str, other: str | None) -> None:
    cancel(node, "--run", ended, "--for-good")
    assert node.created(run=other)["Result"] == "created"


def test_without_that_the_next_attempt_begins(node: Scripts) -> None:
    cancel(node, "--run", "job1")
    assert node.created(run="job1.2")["Result"] == "created"


def test_the_note_of_it_goes_after_a_day(node: Scripts) -> None:
    cancel(node, "--run", "job1", "--for-good")
    notes = node.lock_dir / "ended"
    day = time.time() - 25 * 3600
    os.utime(notes / "job1", (day, day))
    cancel(node, "--run", "job2", "--for-good", vmid=9102)
    assert [note.name for note in notes.iterdir()] == ["job2"]


# -- whom the text names -----------------------------------------------------------------------------------------------


def test_a_text_that_a_killed_run_left_means_nothing(node: Scripts, stranger: subprocess.Popen[bytes]) -> None:
    sign(node, stranger.pid)
    assert summary(cancel(node, "--run", "job1")) == {"VMID": "9101", "Result": "idle"}
    assert stranger.poll() is None and node.outcomes() == ["idle"]


def test_a_vmid_that_never_had_a_run_is_idle(node: Scripts) -> None:
    assert summary(cancel(node, "--run", "job1")) == {"VMID": "9101", "Result": "idle"}
    assert not (node.lock_dir / "9101").exists()


def test_what_a_killed_script_has_started_is_ended(node: Scripts, creating: Process) -> None:
    """Its pid may be another's by now: that one is not touched."""
    creating.kill()
    creating.wait()
    assert node.info(9101)[0]["busy"]["run"] == "job1.1"
    said = summary(cancel(node, "--run", "job1"))
    assert (said["Pid"], said["Result"]) == (str(creating.pid), "ended")
    assert str(creating.pid) not in said["Signalled"].split(",")
    assert node.info(9101)[0]["busy"] is None
    # What `pct create` left is what the next attempt removes.
    node.lab.switch("reset")
    node.created(9101, run="job1.2")


def test_a_pid_that_is_another_process_by_now_is_not_signalled(node: Scripts, stranger: subprocess.Popen[bytes]) -> None:
    sign(node, stranger.pid)
    left = holding(node, "sleep", SLOW_S)
    said = summary(cancel(node, "--run", "job1"))
    assert (said["Signalled"], said["Result"]) == (str(left.pid), "ended")
    assert left.wait(timeout=20) == -signal.SIGTERM and stranger.poll() is None


def test_a_lock_that_nobody_has_signed_is_nobodys(node: Scripts) -> None:
    """This process holds it: had it been told to end, there would be no result."""
    sign(node, 1)
    (node.lock_dir / "9101").write_text("")
    node.hold("9101")
    assert summary(cancel(node, "--run", "job1")) == {"VMID": "9101", "Result": "other"}


def test_who_signs_a_moment_after_the_locking_is_found(node: Scripts) -> None:
    sign(node, 1)
    (node.lock_dir / "9101").write_text("")
    left = holding(node, "sleep", SLOW_S)
    process = node.start("cancel", 9101, "--run", "job1")
    wait_until(lambda: has_begun(process, "sleep"), "it waits")
    sign(node, left.pid)
    assert summary(finished(process))["Result"] == "ended"
    assert left.wait(timeout=20) == -signal.SIGTERM


# -- what does not end -------------------------------------------------------------------------------------------------


@pytest.fixture
def deaf(node: Scripts, start: Start) -> Process:
    """Return a create, run job1.1, whose `pct create` ignores TERM."""
    pct = node.lab.dir / "bin/pct"
    pct.unlink()
    deafened = node.lab.dir / "deaf"
    pct.write_text(f"#!/bin/bash\ntrap '' TERM\n: >{deafened}\nwhile :; do sleep 0.1; done\n")
    pct.chmod(0o755)
    process = start("create", *create_arguments(9101))
    wait_until(deafened.exists, "pct create")
    return process


def test_what_does_not_end_is_said_and_not_killed(node: Scripts, deaf: Process) -> None:
    done = cancel(node, "--run", "job1", "--wait", 1)
    said = summary(done)
    assert (said["Signalled"], said["Result"]) == (str(deaf.pid), "stuck")
    held = re.search(r"^warning: vmid 9101 is still held by (.*)$", done.stderr, re.MULTILINE)
    assert held and str(deaf.pid) in held[1].split() and len(held[1].split()) > 1
    assert deaf.poll() is None and node.outcomes() == ["stuck"]
    assert node.info(9101)[0]["busy"]["run"] == "job1.1"


def test_the_waiting_can_be_ended_itself(node: Scripts, deaf: Process) -> None:
    process = node.start("cancel", 9101, "--run", "job1", "--wait", 600)
    wait_until(lambda: has_begun(process, "sleep"), "it waits")
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    done = finished(process)
    assert (done.returncode, failure(done)["Left"]) == (TERMINATED, "nothing") and time.monotonic() - began < 60
    assert deaf.poll() is None


# -- whose pod ---------------------------------------------------------------------------------------------------------

OTHERS = [("--tenant", "TENANT-9"), ("--pod", "xyz"), ("--tenant", "TENANT-123", "--pod", "xyz")]


@pytest.mark.parametrize("guard", OTHERS)
def test_another_owners_pod_is_refused(node: Scripts, start: Start, guard: tuple[str, ...]) -> None:
    node.created()
    node.lab.switch("delay", "pct shutdown", SLOW_S)
    process = start("power", 9101, "--state", "stopped", "--run", "job2.1")
    wait_until(lambda: has_begun(process, "shutdown"), "pct shutdown")
    done = node.run("cancel", 9101, "--run", "job2", *guard)
    assert done.returncode == 77 and failure(done)["Retryable"] == "no"
    assert "TENANT-123" not in done.stderr.replace(" ".join(guard), "")
    assert process.poll() is None
    assert summary(cancel(node, "--run", "job2", "--tenant", "TENANT-123", "--pod", "abc"))["Result"] == "ended"


def test_the_address_file_tells_whose_an_early_create_is(node: Scripts, creating: Process) -> None:
    assert node.lab.conf(9101) == "lock: create\n"
    assert node.run("cancel", 9101, "--run", "job1", "--tenant", "TENANT-9").returncode == 77
    assert creating.poll() is None


def test_a_virtual_machine_is_refused(node: Scripts) -> None:
    machine = node.lab.dir / f"etc/pve/nodes/{node.lab.node}/qemu-server/{VM}.conf"
    machine.parent.mkdir(exist_ok=True)
    machine.write_text("name: mail\n")
    done = node.run("cancel", VM, "--run", "job1")
    assert done.returncode == 77 and "virtual machine" in failure(done)["Error"]


@pytest.mark.parametrize(
    ("line", "allowed"),
    [
        ("9101 --run job1.1", True),
        ("9101 --run job1 --wait 30 --tenant T-1 --pod p1", True),
        ("9101 --run job1 --wait 30 --for-good", True),
        ("9101", False),
        ("9101 --run", False),
        ("9101 --run job1 --wait -1", False),
        ("9101 --run job1 --force", False),
        ("9101 9102 --run job1", False),
        ("--all --run job1", False),
    ],
)
def test_what_sudo_lets_the_module_send(line: str, allowed: bool) -> None:
    variables = yaml.safe_load((ROLE / "vars/main.yml").read_text())
    pattern = Template(variables["cloudpod_node_sudo_arguments"]["cloudpod-cancel.sh"]).render(variables)
    assert bool(re.search(pattern, line)) is allowed
