"""What a create leaves when the node fails, when it is told to stop, and when it is killed."""

from __future__ import annotations

import re
import signal
import time
from pathlib import Path

import pytest

from tests.node_scripts import ROLE, Scripts, create_arguments, failure, finished, kill_all_of, node, wait_until

__all__ = ["node"]

SLOW_S = 90  # longer than any deadline: only a signal ends it
SIGNALS = {signal.SIGHUP: 129, signal.SIGINT: 130, signal.SIGTERM: 143}


@pytest.mark.parametrize("half", [False, True], ids=["before", "half"])
@pytest.mark.parametrize("command", ["pct create", "pct start"])
def test_a_failing_step_leaves_nothing(node: Scripts, command: str, half: bool) -> None:
    words = f"{command} is out of order"
    node.lab.switch("fail", command, "--vmid", 9101, "--message", words, "--times", 1, *(["--half"] if half else []))
    done = node.create()
    said = failure(done)
    assert done.returncode == 1 and words in said["Error"]
    assert (said["Retryable"], said["Left"]) == ("no", "nothing")
    node.assert_no_trace(9101)
    (line,) = node.log()
    assert (line["outcome"], line["rc"]) == ("failed", 1) and words in line["message"]
    assert node.created()["Result"] == "created"


def test_a_conf_that_pct_did_not_remove_is_removed(node: Scripts) -> None:
    node.lab.switch("fail", "pct create", "--half", "--keep", "--times", 1)
    assert failure(node.create())["Left"] == "nothing"
    node.assert_no_trace(9101)


def test_a_message_of_several_lines_with_quotes_is_one_line_of_good_json(node: Scripts) -> None:
    node.lab.switch("fail", "pct create", "--message", 'he said "no"\n\tback\\slash \u00fc \x01', "--times", 1)
    error = failure(node.create())["Error"]
    assert 'he said "no"; ' in error and "back\\slash" in error
    assert 'he said "no"; ' in node.log()[0]["message"]


@pytest.mark.parametrize("words", ["CT is locked (backup)", "can't lock file '/x' - got timeout"])
def test_proxmoxs_own_lock_means_try_again(node: Scripts, words: str) -> None:
    node.lab.switch("fail", "pct start", "--message", words, "--times", 1)
    done = node.create()
    assert (done.returncode, failure(done)["Retryable"]) == (75, "yes")
    node.assert_no_trace(9101)


def test_a_clean_up_that_fails_says_what_is_left(node: Scripts) -> None:
    node.lab.switch("fail", "pct start", "--message", "no start", "--times", 1)
    node.lab.switch("fail", "pct destroy", "--message", "dataset is busy", "--times", 1)
    said = failure(node.create())
    assert "no start" in said["Error"]
    assert said["Left"] == "container 9101, address 10.1.10.50 reserved"
    (row,) = node.info(9101)
    assert row["unfinished"] and row["in_pool"]
    # The same pod again finds both and starts afresh.
    assert node.created()["IP"] == "10.1.10.50"
    assert node.ipam() == ["10.1.10.50 9101 client-portal TENANT-123 active"]


def test_a_vmid_made_by_hand_meanwhile_is_not_touched(node: Scripts) -> None:
    conf, pct = node.lab.conf_path(9101), node.lab.dir / "bin/pct"
    pct.unlink()
    says = "CT 9101 already exists on node 'lab1'"
    pct.write_text(f'#!/bin/sh\nwhile ! [ -e {conf} ]; do sleep 0.05; done\necho "{says}" >&2\nexit 255\n')
    pct.chmod(0o755)
    process = node.start("create", *create_arguments())
    # After the script looked, before it creates: only what the failing pct create says tells whose this is.
    wait_until(node.ipam, "the reserved line")
    conf.write_text("lock: create\n")
    done = finished(process)
    assert done.returncode == 73
    assert node.lab.conf(9101) == "lock: create\n" and node.ipam() == []


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("command", ["pct create", "pct start"])
def test_a_signal_in_the_middle_leaves_nothing(node: Scripts, command: str, number: signal.Signals) -> None:
    node.lab.switch("delay", command, SLOW_S)
    process = node.start("create", *create_arguments())
    wait_until(lambda: is_under_way(node, command), command)
    began = time.monotonic()
    process.send_signal(number)
    done = finished(process)
    assert done.returncode == SIGNALS[number] and time.monotonic() - began < SLOW_S / 3
    assert failure(done) == {"Error": f"ended by signal {number.name[3:]}", "Retryable": "yes", "Left": "nothing"}
    node.assert_no_trace(9101)
    (line,) = node.log()
    assert (line["outcome"], line["rc"]) == ("interrupted", SIGNALS[number])


def test_nothing_is_asked_in_a_way_that_loses_signals() -> None:
    """Bash 5.2 parses ``$(…)`` and ``<(…)`` when it comes to them; a signal of just then becomes a syntax error and code 2."""
    allowed = (
        'SCRIPT_FILE=$(readlink -f -- "${BASH_SOURCE[0]}")',  # before the traps are set
        "for child in $(jobs -pr); do",  # after they are taken away
    )
    files = [*ROLE.glob("files/sbin/*.sh"), *ROLE.glob("files/lib/*.bash")]
    assert files
    lines = [
        f"{file.name}: {line.strip()}"
        for file in files
        for line in file.read_text().splitlines()
        if re.search(r"[$<>]\((?!\()|`", line.partition(" # ")[0]) and not line.lstrip().startswith(("#", *allowed))
    ]
    assert lines == []


def test_a_signal_at_any_moment_leaves_nothing_or_a_whole_pod(node: Scripts) -> None:
    # The delays only spread the signals over the run, wherever they fall: no single one has to hit anything.
    for step in range(20):
        process = node.start("create", *create_arguments())
        time.sleep(0.012 * step)
        process.send_signal(signal.SIGTERM)
        done = finished(process)
        if done.returncode == 0:
            assert node.lab.running(9101) and [line.split()[-1] for line in node.ipam()] == ["active"]
            assert node.run("destroy", 9101).returncode == 0
        else:
            # Before the traps are set nothing has been done, and the signal ends the script by itself.
            assert done.returncode in (143, -signal.SIGTERM), done
        node.assert_no_trace(9101)


@pytest.mark.parametrize("lock", ["9101", "reserve"])
def test_a_signal_while_waiting_for_a_lock_is_heard(node: Scripts, lock: str) -> None:
    node.hold(lock)
    process = node.start("create", *create_arguments())
    wait_until(lambda: waits_for_flock(process.pid), "flock")
    process.send_signal(signal.SIGTERM)
    done = finished(process)
    assert (done.returncode, failure(done)["Left"]) == (143, "nothing")
    assert node.lab.conf(9101) is None and node.ipam() == []


def is_under_way(node: Scripts, command: str) -> bool:
    """Return whether a create of 9101 is in the middle of a command."""
    conf = node.lab.conf(9101) or ""
    if command == "pct create":
        return "lock: create" in conf and bool(node.lab.disks(9101))
    # Complete and in the pool: pct create is through, and what comes next is slow.
    return "rootfs: " in conf and "lock: " not in conf and 9101 in node.lab.pool()


def waits_for_flock(pid: int) -> bool:
    """Return whether a child of a process is flock."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return any(Path(f"/proc/{child}/comm").read_text() == "flock\n" for child in children)
    except (FileNotFoundError, ProcessLookupError):
        return False  # one of them ended meanwhile


@pytest.mark.parametrize("when", ["pct create", "pct start"])
def test_a_caller_that_goes_away_gets_a_whole_pod_or_none(node: Scripts, when: str) -> None:
    node.lab.switch("delay", when, 5)
    process = node.start("create", *create_arguments())
    wait_until(lambda: is_under_way(node, when), when)
    assert process.stdout and process.stderr
    process.stdout.close()
    process.stderr.close()
    process.wait(timeout=60)
    # pct itself may give up when it can no longer write; then the clean-up must do without a reader too.
    if process.returncode == 0:
        assert node.outcomes() == ["created"] and node.lab.running(9101)
    else:
        assert node.outcomes() == ["failed"]
        node.assert_no_trace(9101)


@pytest.mark.parametrize("command", ["pct create", "pct start"])
def test_after_a_kill_the_same_pod_can_be_created_again(node: Scripts, command: str) -> None:
    node.lab.switch("delay", command, SLOW_S)
    process = node.start("create", *create_arguments())
    wait_until(lambda: is_under_way(node, command), command)
    kill_all_of(process)
    node.lab.switch("reset")
    (row,) = node.info(9101)
    assert row["unfinished"] and row["exists"] and row["busy"] is None
    assert node.create(tenant="TENANT-9").returncode == 73
    assert node.info() == [row]
    assert node.created()["Result"] == "created"
    assert len(node.lab.disks(9101)) == 1
    assert node.ipam() == ["10.1.10.50 9101 client-portal TENANT-123 active"]
    assert node.info(9101)[0]["unfinished"] is False


def test_after_a_kill_destroy_removes_what_is_left(node: Scripts) -> None:
    node.lab.switch("delay", "pct create", SLOW_S)
    process = node.start("create", *create_arguments())
    wait_until(lambda: node.lab.disks(9101), "a disk")
    kill_all_of(process)
    node.lab.switch("reset")
    assert node.run("destroy", 9101, "--tenant", "TENANT-9").returncode == 77
    done = node.run("destroy", 9101, "--tenant", "TENANT-123", "--pod", "abc")
    assert done.returncode == 0, done.stderr
    node.assert_no_trace(9101)


@pytest.mark.parametrize("text", ["lock: create\n", ""], ids=["locked", "unlocked"])
def test_a_conf_of_nothing_more_than_a_lock_is_unfinished_when_its_address_is_reserved(node: Scripts, text: str) -> None:
    node.lab.conf_path(9101).write_text(text)
    assert node.info(9101)[0]["unfinished"] is False
    assert node.create().returncode == 73
    with node.ipam_file.open("a") as file:
        file.write("10.1.10.77 9101 client-portal TENANT-123 reserved:job1.1\n")
    assert node.info(9101)[0]["unfinished"] is True
    assert node.created()["Result"] == "created"


def test_while_anything_of_a_killed_run_lives_the_vmid_is_busy(node: Scripts) -> None:
    node.lab.switch("delay", "pct create", SLOW_S)
    process = node.start("create", *create_arguments())
    wait_until(lambda: node.lab.disks(9101), "a disk")
    process.kill()
    process.wait(timeout=20)
    (row,) = node.info(9101)
    assert row["busy"] == {"pid": process.pid, "run": "job1.1", "script": "cloudpod-create", "since": row["busy"]["since"]}
    assert row["unfinished"] is False
    kill_all_of(process)
    assert node.info(9101)[0]["busy"] is None
