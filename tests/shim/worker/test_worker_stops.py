"""Workers as processes of their own, told to stop or killed in the middle of a run: nothing lost, left or done twice."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import redis
from rq import Queue

from shim import db, old_run
from shim.jobs import reap
from shim.jobs.queue import Wakeups
from shim.worker import on_node
from shim.worker.main import PodWorker
from shim.worker.stop import Stop
from shim.worker.watch import Watch
from tests.processes import has_ended
from tests.stack import is_warm

SCALE = {"vmid": 9101, "newCores": 4, "newMemoryMb": 4096}
# Its script leaves a line when it begins, and ends when it may.
LONG = """
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.shell: echo $$ >> {here}/began; while [ ! -e {here}/go ]; do sleep 0.05; done
    - ansible.builtin.set_stats:
        data: {{result: {{changed: true, vmid: 9101, node: lab1, cores: 4, memory_mb: 4096, swap_mb: 512}}}}
        per_host: false
"""
LOOK = """
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.set_stats:
        data:
          result: {lab1: {pods: [{vmid: 9101, exists: true, in_pool: true, unfinished: false, busy: null, cores: 2}]}}
        per_host: false
"""


class Node:
    """A stand-in for a node whose one script takes as long as the test says."""

    def __init__(self, here: Path) -> None:
        self.here = here
        (here / "playbooks").mkdir(parents=True)
        (here / "playbooks/cloudpod_scale.yml").write_text(LONG.format(here=here))
        (here / "playbooks/cloudpod_info.yml").write_text(LOOK)
        (here / "hosts").write_text(f"lab1 ansible_connection=local ansible_python_interpreter={sys.executable}\n")
        (here / "ansible.cfg").write_text("[defaults]\n")

    def let_go(self) -> None:
        """Let scripts end."""
        (self.here / "go").touch()

    def scripts(self) -> list[int]:
        """Return the pid of each script that ever began."""
        began = self.here / "began"
        return [int(line) for line in began.read_text().splitlines()] if began.exists() else []


@pytest.fixture
def node(tmp_path):
    return Node(tmp_path / "node")


def tree(process):
    return [process, *process.children(recursive=True)]


def run_of(worker):
    """Return the process that runs a job, and what was started for it, below it or below what keeps Ansible warm."""
    child = next(each for each in worker.children() if not is_warm(each))
    return [child, *(each for each in tree(worker)[1:] if each != child and not is_warm(each))]


def alive(processes):
    return [each for each in processes if not has_ended(each)]


@pytest.fixture
def worker(tenants, node):
    """Return a way to start a worker; what it is or starts is killed afterwards."""
    seen = []

    def start(*before, grace_s=60.0, lease_s=30.0, redis_url=tenants.redis_url):
        given = {
            "DATABASE_URL": tenants.database_url,
            "REDIS_URL": redis_url,
            "STATE_DIR": tenants.state_dir,
            "PROJECT_DIR": node.here,
            "INVENTORY": node.here / "hosts",
            "STOP_GRACE_S": grace_s,
            "LEASE_S": lease_s,
        }
        environ = {name: value for name, value in os.environ.items() if not name.startswith("CLOUDPODS_")}
        environ |= {f"CLOUDPODS_{name}": str(value) for name, value in given.items()}
        seen.append(psutil.Popen([*before, sys.executable, "-m", "shim.cli", "worker"], env=environ, start_new_session=True))
        return seen[-1]

    yield start
    for process in [each for worker in seen if worker.is_running() for each in tree(worker)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    for process in seen:
        process.wait(30)


@pytest.fixture
def job(rows):
    return rows.job("SCALE", pod=rows.pod(vmid=9101), payload=SCALE)


@pytest.fixture
def wake(tenants):
    """Return a way to tell workers of a job, as API and scheduler do."""
    wakeups = Wakeups(tenants.redis_url)
    return lambda job: wakeups.tell([(job, "SCALE")])


@pytest.fixture
def working(worker, node, job, wake, eventually):
    """Return a way to start a worker, which is then in the middle of the job."""

    def start(**settings):
        process = worker(**settings)
        assert wake(job)
        eventually(node.scripts, within_s=60)
        return process

    return start


def ends(process, within_s=60):
    return process.wait(within_s)


def of_job(sql, job):
    row = sql.row("cloud_pod_jobs", job)
    return {name: row[name] for name in ("status", "lost", "tries", "run_host")}


LEFT = {"status": "queued", "lost": True, "tries": 0, "run_host": None}
LOST = {**LEFT, "tries": 1}


@pytest.fixture
def finished(worker, node, sql, job, wake, eventually):
    """Return a check that another worker finds out that nothing was done, and does it."""

    def check(attempts=2):
        node.let_go()
        sql("UPDATE cloud_pod_jobs SET run_after = now()")
        worker()
        assert wake(job)
        eventually(lambda: sql.row("cloud_pod_jobs", job)["status"] not in ("queued", "running"), within_s=90)
        row = sql.row("cloud_pod_jobs", job)
        assert (row["status"], row["error"], row["attempt"]) == ("success", None, attempts)
        assert len(node.scripts()) == 2

    return check


def runs_the_loop(tenants):
    return lambda: redis.Redis.from_url(tenants.redis_url).scard("rq:workers")


def test_an_idle_worker_ends_at_once(worker, tenants, eventually):
    process = worker()
    eventually(runs_the_loop(tenants), within_s=60)
    process.send_signal(signal.SIGTERM)
    assert ends(process, 60) == 0


@pytest.mark.parametrize("told", [False, True])
def test_a_worker_that_is_told_to_stop_as_rq_begins_takes_nothing(told, monkeypatch):
    """RQ says in Redis that the worker is there, and only then takes signals itself."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    begun = PodWorker.__new__(PodWorker)
    begun._stop_requested, begun._stop = False, Stop(Watch(), 1.0)
    if told:
        begun._stop.tell()
    begun._install_signal_handlers()
    assert begun._stop_requested is told


def test_a_worker_without_redis_ends_at_once(worker, sql, eventually):
    process = worker(redis_url="unix:///nowhere/redis.sock")
    eventually(lambda: sql("SELECT 1 FROM pg_stat_activity WHERE query LIKE '%%run_host%%' AND pid <> pg_backend_pid()"))
    process.send_signal(signal.SIGTERM)
    assert ends(process, 60) == 0


def test_a_short_run_is_finished_first(working, node, sql, job):
    process = working()
    process.send_signal(signal.SIGTERM)
    node.let_go()
    assert ends(process) == 0
    assert of_job(sql, job) == {"status": "success", "lost": False, "tries": 1, "run_host": None}
    assert len(node.scripts()) == 1


def test_a_long_run_is_left_to_others_at_once(working, sql, job, finished):
    process = working(grace_s=0.2)
    below = tree(process)[1:]
    process.send_signal(signal.SIGTERM)
    assert ends(process) == 0
    assert alive(below) == []
    assert of_job(sql, job) == LEFT
    finished()


def test_who_is_told_twice_does_not_wait(working, sql, job, finished):
    process = working(grace_s=3600)
    process.send_signal(signal.SIGTERM)
    time.sleep(6)  # not an echo
    assert process.is_running()
    process.send_signal(signal.SIGTERM)
    assert ends(process) == 0
    assert of_job(sql, job) == LEFT
    finished()


def test_an_echo_does_not_shorten_the_grace(working, node, sql, job):
    process = working(grace_s=3600)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)
    node.let_go()
    assert ends(process) == 0
    assert of_job(sql, job)["status"] == "success"


def test_a_whole_control_group_told_to_end_fails_no_job(working, sql, job, finished):
    process = working(grace_s=3600)
    # A control group is told at once: who asks must not have time to see the others end.
    for each in (told := tree(process)):
        with contextlib.suppress(psutil.NoSuchProcess):
            each.suspend()
            each.send_signal(signal.SIGTERM)
    for each in told:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.resume()
    assert ends(process) == 0
    assert of_job(sql, job) == LEFT
    finished()


def test_a_whole_control_group_killed_is_found_at_once(working, sql, job, eventually, finished):
    process = working()
    for each in (killed := tree(process)):
        with contextlib.suppress(psutil.NoSuchProcess):
            each.suspend()
    for each in killed:
        # A child of one that was killed just now may have ended with it.
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    ends(process)
    with db.session():
        assert eventually(reap.collect_lost) == [(job, "SCALE")]
    assert of_job(sql, job) == LOST
    finished()


def test_a_killed_worker_leaves_no_run(working, sql, job, eventually, finished):
    process = working()
    below = tree(process)[1:]
    process.kill()
    eventually(lambda: alive(below) == [], within_s=30)
    assert of_job(sql, job) == LOST
    finished()


def test_what_both_killed_leave_is_ended_before_anything_is_run_again(working, sql, job, eventually, finished):
    """Worker and child are killed; ansible-playbook and the script go on."""
    process = working()
    child, *below = run_of(process)
    process.suspend()
    child.kill()
    process.kill()
    assert alive(below)
    with db.session():
        assert eventually(reap.collect_lost) == [(job, "SCALE")]
    assert alive(below) == []
    assert of_job(sql, job) == LOST
    finished()


def test_a_stopped_child_is_ended_when_its_lease_is_over_and_writes_nothing(working, sql, job, eventually):
    process = working(lease_s=10)
    child, *below = run_of(process)
    child.suspend()
    with db.session():
        # Put back by whoever is first: this, or the worker, whose child it was.
        eventually(lambda: reap.collect_lost() or sql.row("cloud_pod_jobs", job)["lost"], within_s=90)
    assert alive([child, *below]) == []
    assert process.is_running()
    assert of_job(sql, job)["lost"]


def test_the_first_process_of_a_container_ends_and_collects_its_orphans(worker, tenants, eventually):
    inside = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    if subprocess.run([*inside, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this user may not make a pid namespace")
    outside = worker(*inside)
    eventually(runs_the_loop(tenants), within_s=60)
    (first,) = outside.children()
    enter = ["nsenter", "--target", str(first.pid), "--pid", "--mount"]
    # The shell ends first: its child is an orphan, of whose end the container's first process is told.
    subprocess.run([*enter, "sh", "-c", "sleep 300 &"], check=True, close_fds=True)
    for orphan in eventually(lambda: [child for child in first.children() if not is_warm(child)]):
        orphan.kill()
    eventually(lambda: all(is_warm(child) for child in first.children()))
    first.send_signal(signal.SIGTERM)
    assert ends(outside, 60) == 0


@pytest.mark.parametrize("ends", [True, False])
def test_what_a_run_left_that_cannot_be_ended_keeps_its_job_from_everybody(session, settings, rows, sql, monkeypatch, ends):
    """One that hangs in the kernel hears not even SIGKILL."""
    job = rows.job("SCALE", pod=rows.pod(vmid=9101), payload=SCALE)
    left = subprocess.Popen(["sleep", "300"], env={**os.environ, old_run.MARK: f"{job}.1"})
    hanging = [psutil.Process(left.pid)]
    gone = {"run_host": old_run.host(), "run_pid": left.pid, "run_started": 1, "run_attempt": 1}
    held = "status = 'running', attempt = 1, tries = 1, worker = 'w1', lease_until = now() + interval '1 hour'"
    sql(f"UPDATE cloud_pod_jobs SET {held}, {', '.join(f'{name} = %s' for name in gone)}", *gone.values())
    link = redis.Redis.from_url(settings.redis_url)
    worker = PodWorker(
        [Queue("cloudpods:scale", connection=link)],
        connection=link,
        holder="w1",
        stop=Stop(Watch(), 1),
        wakeups=Wakeups(settings.redis_url),
        directories=on_node.directories(settings),
        keeper=None,
    )
    if ends:
        monkeypatch.setattr("shim.process.end_descendants", lambda **_: left.kill() or left.wait())
    else:
        for where in ("process", "old_run"):
            monkeypatch.setattr(f"shim.{where}.end_all", lambda *_, **__: hanging)
    try:
        # Of this process's children only that one is a run's.
        monkeypatch.setattr(psutil.Process, "children", lambda *_, **__: hanging)
        worker._clean_up()
    finally:
        left.kill()
        left.wait()
    row = sql.row("cloud_pod_jobs", job)
    assert (row["status"], row["worker"], row["lost"]) == (("queued", "w1", True) if ends else ("running", None, False))
    assert "cannot be ended" in (row["error"] or "") or ends
