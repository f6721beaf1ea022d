"""What running jobs print, over a whole running stack: read while they run, afterwards, after failures and kills."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.shim.test_event_stream import messages
from tests.stack import Stack, wait_until


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """Return a running stack with two tenants."""
    home = Path(tempfile.mkdtemp(prefix="cloudpods-stack-log-"))
    home.chmod(0o711)
    running = Stack(home)
    try:
        running.lay_lab()
        running.start(workers=1)
        running.seed()
        yield running
    finally:
        running.stop()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(autouse=True)
def no_switches(stack: Stack) -> None:
    """Begin each test on a node that works."""
    stack.switch("reset")


def log_of(stack: Stack, job_id: str) -> str:
    answer = stack.session.get(f"{stack.url}/internal/jobs/{job_id}/log", headers={"Accept": "text/plain"}, timeout=20)
    assert answer.status_code == 200
    return answer.text


def kept(stack: Stack) -> list[str]:
    return sorted(path.name for path in (stack.state_dir / "runs/failed").glob("*"))


def under_way(stack: Stack) -> set[str]:
    return {path.name for path in (stack.state_dir / "runs").iterdir()} - {".lock", "failed"}


class Raw:
    """Lets `messages` read a stream that `requests` opened."""

    def __init__(self, answer: requests.Response) -> None:
        self.readline = answer.raw.readline


def test_a_run_is_read_while_it_goes_on_and_is_whole_in_the_end(stack):
    stack.switch("delay", "pct create", 15)
    job_id = stack.create(vmid=9201)["job"]["id"]
    url, accept = f"{stack.url}/internal/jobs/{job_id}/log", {"Accept": "text/event-stream"}
    live = ""
    with stack.session.get(url, headers=accept, stream=True, timeout=40) as answer:
        for _, fields in messages(Raw(answer)):
            live += json.loads(fields.get("data", "{}")).get("text", "")
            if "TASK [" in live:
                break
    assert stack.get(f"/internal/jobs/{job_id}")["status"] == "running"
    assert stack.finished(job_id)["status"] == "success"
    whole = log_of(stack, job_id)
    assert whole.startswith(live)
    assert whole.startswith("ATTEMPT 1 [cloudpod_create.yml on lab1, ")
    for part in ("\nPLAY [", "\nTASK [", "\nchanged: [lab1]", "\nPLAY RECAP ***", "\nENDED [success, "):
        assert part in whole
    assert stack.cloudpods("jobs", "tail", job_id) == whole
    wait_until(lambda: not under_way(stack), "the run's directory is gone")
    assert not [name for name in kept(stack) if job_id in name]


def test_of_two_attempts_both_are_told_and_the_failed_one_is_kept_on_its_host(stack):
    stack.finished(stack.create(vmid=9202)["job"]["id"])
    stack.switch("fail", "vzdump", "--message", "no space on vzdump-backups", "--times", 1)
    job = stack.done("/internal/cloudpods/9202/backup", tenantId="TENANT-123")
    whole = log_of(stack, job["id"])
    assert "no space on vzdump-backups" in whole
    if job["tries"] > 1:
        assert whole.index("ATTEMPT 1 [") < whole.index("ATTEMPT 2 [")
    (name,) = [name for name in kept(stack) if name.startswith(job["id"])]
    run = stack.state_dir / "runs/failed" / name
    assert "no space on vzdump-backups" in (run / "stdout").read_text()
    assert "no space on vzdump-backups" in (run / "why").read_text()
    assert {path.name for path in run.iterdir()} <= {"stdout", "stderr", "rc", "status", "why"}


def test_a_killed_workers_run_is_kept_and_the_look_after_it_is_told(stack):
    stack.switch("delay", "pct create", 15)
    job_id = stack.create(vmid=9203)["job"]["id"]
    wait_until(lambda: stack.processes(of="cloudpod-create.sh"), "a create is under way")
    stack.kill(f"{stack.state_dir} worker")
    assert stack.finished(job_id)["status"] == "success"
    whole = log_of(stack, job_id)
    assert whole.index("ATTEMPT 1 [cloudpod_create.yml") < whole.index("\nLOOK 2 [cloudpod_info.yml")
    wait_until(lambda: not under_way(stack), "no run is under way")
    (name,) = [name for name in kept(stack) if name.startswith(job_id)]
    run = stack.state_dir / "runs/failed" / name
    assert (run / "why").read_text() == "the process that ran it was killed\n"
    assert not (run / "env").exists()


def test_no_log_names_a_secret(stack):
    settings = json.loads((stack.state_dir / "settings.json").read_text())
    token = str(stack.session.headers["Authorization"]).removeprefix("Bearer ")
    jobs = stack.get("/internal/jobs", limit=200)["items"]
    assert len(jobs) > 3
    said = "".join(log_of(stack, job["id"]) for job in jobs)
    assert "PLAY RECAP" in said
    for secret in (settings["database_url"], settings["redis_url"], token):
        assert secret not in said
