"""cloudpod-power.sh: what starts, stops and restarts a pod, and in which state a failure or a signal leaves it."""

from __future__ import annotations

import signal
import time

import pytest

from tests.node_scripts import Scripts, failure, finished, has_begun, kill_all_of, node, summary, wait_until

__all__ = ["node"]

SLOW_S = 90  # longer than any deadline: only a signal ends it
SIGNALS = {signal.SIGHUP: 129, signal.SIGINT: 130, signal.SIGTERM: 143}
DISOBEYS = ("fail", "pct shutdown", "--message", "container did not stop")
RUNS_ON = "container 9101 runs, and may still obey the shutdown"


@pytest.fixture
def pod(node: Scripts) -> Scripts:
    """Return a node with one running pod, 9101."""
    node.created(ip="10.1.10.91")
    return node


@pytest.fixture
def stopped(pod: Scripts) -> Scripts:
    """Return a node with one stopped pod, 9101."""
    pod.lab.ok("pct", "stop", 9101)
    return pod


def test_a_pod_is_stopped_once_and_started_once(pod: Scripts) -> None:
    guard = ("--tenant", "TENANT-123", "--pod", "abc", "--run", "job2.1")
    rows = [("stopped", "stopped"), ("stopped", "unchanged"), ("running", "started"), ("running", "unchanged")]
    for state, result in rows:
        done = pod.run("power", 9101, "--state", state, *guard)
        assert (done.returncode, done.stdout) == (0, f"VMID     : 9101\nStatus   : {state}\nResult   : {result}\n"), done.stderr
        assert pod.lab.running(9101) is (state == "running")
    assert pod.outcomes() == ["created", *[result for _, result in rows]]
    assert pod.log()[-1]["message"] == "container 9101 is running"


def test_what_is_so_already_is_not_done_again(pod: Scripts) -> None:
    for command in ("pct start", "pct shutdown", "pct stop", "pct reboot"):
        pod.lab.switch("fail", command, "--message", f"{command} was called")
    assert summary(pod.run("power", 9101, "--state", "running", "--force"))["Result"] == "unchanged"


def test_a_restart_stops_and_starts_and_applies_what_is_pending(pod: Scripts) -> None:
    pod.lab.ok("pct", "set", 9101, "--nameserver", "9.9.9.9")
    assert "[pve:pending]" in (pod.lab.conf(9101) or "")
    for _ in range(2):
        done = pod.run("power", 9101, "--state", "restarted", "--shutdown-timeout", 5)
        assert summary(done) == {"VMID": "9101", "Status": "running", "Result": "restarted"}
    assert pod.lab.running(9101) and "[pve:pending]" not in (pod.lab.conf(9101) or "")


def test_a_restart_starts_a_stopped_pod(stopped: Scripts) -> None:
    assert summary(stopped.run("power", 9101, "--state", "restarted"))["Result"] == "started"
    assert stopped.lab.running(9101)


@pytest.mark.parametrize("state", ["stopped", "restarted"])
def test_a_guest_that_ignores_the_shutdown_keeps_running(pod: Scripts, state: str) -> None:
    pod.lab.switch(*DISOBEYS)
    pod.lab.switch("fail", "pct stop", "--message", "pct stop was called")
    done = pod.run("power", 9101, "--state", state)
    assert done.returncode == 1
    assert failure(done) == {"Error": "container did not stop", "Retryable": "no", "Left": RUNS_ON}
    assert pod.lab.running(9101) and pod.outcomes() == ["created", "failed"]


@pytest.mark.parametrize(("state", "running"), [("stopped", False), ("restarted", True)])
def test_with_force_it_is_stopped_hard(pod: Scripts, state: str, running: bool) -> None:
    pod.lab.switch(*DISOBEYS)
    done = pod.run("power", 9101, "--state", state, "--force")
    assert summary(done)["Result"] == state and pod.lab.running(9101) is running


def test_a_pod_that_cannot_even_be_stopped_hard_is_said(pod: Scripts) -> None:
    pod.lab.switch(*DISOBEYS)
    pod.lab.switch("fail", "pct stop", "--message", "lxc-stop: no such device")
    said = failure(pod.run("power", 9101, "--state", "stopped", "--force"))
    assert said == {"Error": "lxc-stop: no such device", "Retryable": "no", "Left": RUNS_ON}


def test_the_guest_gets_the_time_that_is_asked(pod: Scripts) -> None:
    pct = pod.lab.dir / "bin/pct"
    real = pct.rename(pct.with_name("pct.real"))
    pct.write_text(f'#!/bin/sh\necho "$*" >>{pod.lab.dir}/calls\nexec {real} "$@"\n')
    pct.chmod(0o755)
    for words in ((), ("--shutdown-timeout", 3600)):
        pod.run("power", 9101, "--state", "stopped", *words)
        pod.run("power", 9101, "--state", "running")
    calls = (pod.lab.dir / "calls").read_text().splitlines()
    assert calls == ["shutdown 9101 --timeout 60", "start 9101", "shutdown 9101 --timeout 3600", "start 9101"]


@pytest.mark.parametrize("state", ["running", "restarted"])
def test_a_start_that_fails_is_told_in_the_nodes_words(stopped: Scripts, state: str) -> None:
    stopped.lab.switch("fail", "pct start", "--message", "startup for container '9101' failed", "--half", "--times", 1)
    done = stopped.run("power", 9101, "--state", state)
    assert (done.returncode, failure(done)["Left"]) == (1, "nothing")
    assert "startup for container '9101' failed" in failure(done)["Error"]
    assert not stopped.lab.running(9101)


@pytest.mark.parametrize(("times", "left"), [(1, "nothing"), (2, "container 9101 is stopped")])
def test_a_restart_whose_start_fails_is_tried_once_more_and_then_said(pod: Scripts, times: int, left: str) -> None:
    pod.lab.switch("fail", "pct start", "--message", "startup failed", "--times", times)
    done = pod.run("power", 9101, "--state", "restarted")
    assert (done.returncode, failure(done)["Left"]) == (1, left)
    assert pod.lab.running(9101) is (left == "nothing")


@pytest.mark.parametrize("state", ["running", "stopped"])
def test_the_state_of_a_container_that_proxmox_works_on_means_nothing(pod: Scripts, state: str) -> None:
    pod.lab.ok("pct", "set", 9101, "--lock", "migrate")
    done = pod.run("power", 9101, "--state", state)
    assert (done.returncode, failure(done)["Error"]) == (75, "CT is locked (migrate)")


def test_an_unfinished_create_is_not_started(pod: Scripts) -> None:
    pod.ipam_file.write_text(pod.ipam_file.read_text().replace(" active", " reserved:job1.1"))
    done = pod.run("power", 9101, "--state", "stopped")
    assert (done.returncode, failure(done)["Retryable"]) == (75, "yes")
    assert "unfinished create" in failure(done)["Error"] and pod.lab.running(9101)


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("state", ["stopped", "restarted"])
def test_a_signal_ends_the_waiting_for_a_guest(pod: Scripts, state: str, number: signal.Signals) -> None:
    pod.lab.switch("delay", "pct shutdown", SLOW_S)
    process = pod.start("power", 9101, "--state", state)
    wait_until(lambda: has_begun(process, "shutdown"), "pct shutdown")
    began = time.monotonic()
    process.send_signal(number)
    done = finished(process)
    assert done.returncode == SIGNALS[number] and time.monotonic() - began < SLOW_S / 3
    assert failure(done) == {"Error": f"ended by signal {number.name[3:]}", "Retryable": "yes", "Left": RUNS_ON}
    assert pod.lab.running(9101)
    assert pod.outcomes()[-1] == "interrupted" and (pod.lock_dir / "9101").read_text() == ""


def test_a_signal_in_the_middle_of_a_restart_leaves_the_pod_running(pod: Scripts) -> None:
    pod.lab.switch("delay", "pct start", 3)
    process = pod.start("power", 9101, "--state", "restarted")
    wait_until(lambda: has_begun(process, "start"), "pct start")
    process.send_signal(signal.SIGTERM)
    done = finished(process)
    assert (done.returncode, failure(done)["Left"]) == (143, "nothing")
    assert pod.lab.running(9101), "the restart had stopped it"


def test_after_a_kill_the_same_call_goes_on(pod: Scripts) -> None:
    pod.lab.switch("delay", "pct start", SLOW_S)
    process = pod.start("power", 9101, "--state", "restarted")
    wait_until(lambda: not pod.lab.running(9101), "the stop")
    kill_all_of(process)
    pod.lab.switch("reset")
    assert pod.info(9101)[0]["busy"] is None
    assert summary(pod.run("power", 9101, "--state", "restarted"))["Result"] == "started"
