"""The end of runs that were left behind, with real processes: stopped, orphaned, in sessions of their own, and not ours."""

import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import psutil
import pytest

from shim import old_run
from shim.jobs import reap, state
from shim.jobs.claim import claim
from shim.worker import run as worker_run
from tests.processes import has_ended, kill

# Starts a child in a session of its own, says both pids and waits; it hears no SIGTERM.
PARENT = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], start_new_session=True)
print(child.pid, flush=True)
time.sleep(300)
"""


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """Let nobody who hears no SIGTERM have time to."""
    monkeypatch.setattr(old_run, "_GRACE_S", 0.5)


@pytest.fixture
def job_id():
    return str(uuid.uuid4())


@pytest.fixture
def start(job_id):
    """Return a way to start a run's process, with what is below it; what lives of it afterwards is killed."""
    started = []

    def run(mark=job_id, attempt=1):
        environ = {**os.environ, old_run.MARK: f"{mark}.{attempt}"} if mark else None
        process = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True, env=environ)
        found = [psutil.Process(process.pid), psutil.Process(int(process.stdout.readline()))]
        started.extend(found)
        return found

    yield run
    for process in started:
        kill(process)


def named(process, **other):
    began = int(Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[19])
    return old_run.Run(**{"host": old_run.host(), "pid": process.pid, "started": began, **other})


def test_this_process_is_a_run_that_lives_and_is_never_ended_by_itself(job_id):
    assert old_run.current() == named(psutil.Process())
    assert old_run.lives(old_run.current())
    assert not old_run.end(old_run.current(), job_id, 1)


def test_a_run_that_hears_nothing_is_ended_with_all_below_it(start, job_id):
    parent, child = start(mark=None)
    assert old_run.end(named(parent), job_id, 1)
    assert has_ended(parent)
    assert has_ended(child)


@pytest.mark.parametrize("which", [[0], [0, 1]], ids=["its process", "all of it"])
def test_a_stopped_run_is_ended(start, job_id, which):
    processes = start()
    for number in which:
        processes[number].send_signal(signal.SIGSTOP)
    run = named(processes[0])
    assert old_run.lives(run)
    assert old_run.end(run, job_id, 1)
    assert [has_ended(process) for process in processes] == [True, True]


def test_what_a_killed_run_left_is_known_by_its_mark_and_ended(start, job_id):
    parent, child = start()
    run = named(parent)
    parent.kill()
    parent.wait()
    assert not old_run.lives(run)
    assert old_run.end(run, job_id, 1)
    assert has_ended(child)


@pytest.mark.parametrize("mark", [None, "another"])
def test_what_is_not_the_runs_is_left_alone(start, job_id, mark):
    """Its pid went to somebody else meanwhile."""
    parent, child = start(mark=mark and str(uuid.uuid4()))
    later = named(parent, started=named(parent).started - 1)
    assert not old_run.lives(later)
    assert old_run.end(later, job_id, 1)
    assert not has_ended(parent)
    assert not has_ended(child)


def test_a_shared_ssh_connection_that_a_run_opened_is_spared(job_id):
    environ = {**os.environ, old_run.MARK: f"{job_id}.1"}
    master = subprocess.Popen(["bash", "-c", "exec -a 'ssh: /run/cp/abc [mux]' sleep 300"], env=environ)
    try:
        while not " ".join(psutil.Process(master.pid).cmdline()).startswith("ssh: "):
            pass
        assert old_run.end(named(psutil.Process(master.pid), started=1), job_id, 1)
        assert master.poll() is None
    finally:
        master.kill()
        master.wait()


def test_who_has_another_pid_namespace_has_another_host():
    """Two containers may have one hostname, and each has a process 1."""
    program = "from shim.old_run import current; print(current().host, current().pid)"
    unshare = ["unshare", "--pid", "--fork", "--mount-proc"]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this user may not make a pid namespace")
    said = subprocess.run([*unshare, sys.executable, "-c", program], capture_output=True, text=True, check=True)
    host, pid = said.stdout.split()
    assert pid == "1"
    assert host != old_run.host()
    assert host.split(":")[0] == old_run.host().split(":")[0]


def held(rows, run, **columns):
    of_run = {"run_host": run.host, "run_pid": run.pid, "run_started": run.started, "run_attempt": 1}
    return rows.running(pod=rows.pod(), **{**of_run, **columns})


PAST = "2026-01-01"


def test_a_lost_job_of_this_host_is_put_back_once_its_run_is_dead(session, rows, sql, start):
    job = held(rows, old_run.Run("elsewhere", 1, 1))
    parent, child = start(job.id)
    run = named(parent)
    sql(
        "UPDATE cloud_pod_jobs SET run_host = %s, run_pid = %s, run_started = %s, lease_until = %s",
        *(run.host, run.pid, run.started, PAST),
    )
    assert reap.collect_lost() == [(job.id, "BACKUP")]
    assert [has_ended(parent), has_ended(child)] == [True, True]
    row = sql.row("cloud_pod_jobs", job.id)
    assert (row["status"], row["lost"], row["run_host"], row["attempt"]) == ("queued", True, None, 1)


def test_a_run_that_holds_its_lease_is_left_alone(session, rows, sql, start):
    parent, _ = start()
    held(rows, named(parent))
    assert reap.collect_lost() == []
    assert not has_ended(parent)


def test_a_job_whose_process_died_is_put_back_before_its_lease_ends(session, rows, start):
    parent, child = start()
    run = named(parent)
    parent.kill()
    parent.wait()
    job = held(rows, run)
    child.kill()
    assert reap.collect_lost() == [(job.id, "BACKUP")]


def test_a_job_of_another_host_waits_until_its_run_has_ended_itself(session, rows, sql):
    job = held(rows, old_run.Run("elsewhere", os.getpid(), 1))
    sql("UPDATE cloud_pod_jobs SET lease_until = now() - make_interval(secs => %s)", state.RUN_ENDS_S - 5)
    assert reap.collect_lost() == []
    sql("UPDATE cloud_pod_jobs SET lease_until = lease_until - interval '6 s'")
    assert reap.collect_lost() == [(job.id, "BACKUP")]
    # Whoever settles it makes sure once more, if it is of that host.
    assert sql.row("cloud_pod_jobs", job.id)["run_host"] == "elsewhere"


@pytest.fixture
def unending(monkeypatch):
    """Let no run be ended; return which was tried."""
    tried = []
    monkeypatch.setattr(old_run, "end", lambda run, *_: tried.append(run))
    return tried


KEPT = "SELECT extract(epoch FROM lease_until - now()) FROM cloud_pod_jobs WHERE id = %s"


def test_what_cannot_be_ended_is_kept_from_everybody_and_its_job_says_so(session, rows, sql, unending, start):
    parent, _ = start()
    # Others could have it: its lease ran out long ago.
    job = held(rows, named(parent), lease_until=PAST)
    assert reap.collect_lost() == []
    assert state.collect_lost() == []
    row = sql.row("cloud_pod_jobs", job.id)
    assert (row["status"], row["attempt"], row["worker"], row["run_pid"]) == ("running", 1, None, parent.pid)
    assert f"cannot be ended: process {parent.pid}" in row["error"]
    assert row["failure"]["left_behind"] == "unknown"
    assert sql.value(KEPT, job.id) > state.KEEP_S - 60


def test_what_cannot_be_ended_is_tried_again_each_minute_and_kept_for_as_long(session, rows, sql, unending, start):
    parent, _ = start()
    job = held(rows, named(parent), lease_until=PAST)
    for _ in range(3):
        reap.collect_lost()
    assert len(unending) == 1
    sql("UPDATE cloud_pod_jobs SET lease_until = lease_until - interval '61 s'")
    assert reap.collect_lost() == []
    assert len(unending) == 2
    assert sql.value(KEPT, job.id) > state.KEEP_S - 60


def test_what_could_not_be_ended_is_put_back_once_it_is_dead(session, rows, sql, start):
    parent, child = start()
    job = held(rows, named(parent), lease_until=PAST)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(old_run, "end", lambda *_: False)
        assert reap.collect_lost() == []
    sql("UPDATE cloud_pod_jobs SET lease_until = lease_until - interval '61 s'")
    assert reap.collect_lost() == [(job.id, "BACKUP")]
    assert [has_ended(parent), has_ended(child)] == [True, True]


def test_who_claims_a_job_whose_lost_run_cannot_be_ended_keeps_it_from_everybody(session, rows, sql, unending, start):
    """By nobody's hand, so that its own worker does not give it up when the claim comes to nothing."""
    parent, _ = start()
    job = held(rows, named(parent), attempt=2, lost=True)
    assert not worker_run._old_run_is_dead(job)
    assert state.give_up("test") == []
    row = sql.row("cloud_pod_jobs", job.id)
    assert (row["status"], row["attempt"], row["run_pid"]) == ("running", 2, parent.pid)
    assert "cannot be ended" in row["error"]
    assert reap.collect_lost() == []
    assert len(unending) == 1


def test_who_dies_before_it_ended_a_lost_run_leaves_that_to_the_next(session, rows, sql, start):
    """Its worker knows of the end of its own run alone."""
    parent, child = start()
    job = held(rows, named(parent), attempt=2, lost=True)
    assert state.give_up("test") == [(job.id, "BACKUP")]
    row = sql.row("cloud_pod_jobs", job.id)
    assert (row["status"], row["run_pid"], row["run_attempt"]) == ("queued", parent.pid, 1)
    sql("UPDATE cloud_pod_jobs SET run_after = now()")
    assert worker_run._old_run_is_dead(claim(["BACKUP"], worker="test", lease_s=30, run=old_run.current()))
    assert [has_ended(parent), has_ended(child)] == [True, True]


def test_who_finds_a_lost_run_late_leaves_the_next_attempt_alone(start, job_id):
    """Two look for lost runs on one host: the first has put the job back, and it was begun again, when the second ends."""
    parent, child = start()
    run = named(parent)
    parent.kill()
    parent.wait()
    later, below = start(attempt=2)
    assert old_run.end(run, job_id, 1)
    assert [has_ended(child), has_ended(later), has_ended(below)] == [True, False, False]
    assert old_run.end(run, job_id, 2)
    assert [has_ended(later), has_ended(below)] == [True, True]


def test_an_attempt_that_settles_a_lost_run_is_not_taken_for_it(session, rows, start):
    parent, _ = start()
    run = named(parent)
    parent.kill()
    parent.wait()
    held(rows, run, attempt=2, lost=True)
    assert reap.collect_lost() == []
