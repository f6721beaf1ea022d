"""Runs that are ended on the node, by the playbook over SSH and sudo, when whoever began them is gone: what is left of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import uuid
from collections.abc import Iterator

import pytest

from tests.lab import worker_run
from tests.lab.real_node import RealNode, run
from tests.lab.test_faults import guard, order, sessions, wait_until

SLOW_S = 300  # longer than any deadline: only a signal ends it


@pytest.fixture
def slow(lab: RealNode) -> Iterator[RealNode]:
    """Yield the node, whose delays are taken away after the test."""
    yield lab
    lab.ok("lab-switch", "reset")


@pytest.fixture
def job() -> str:
    """Return a job that the node has not met: it remembers those that were ended for good."""
    return uuid.uuid4().hex


def holder(lab: RealNode, vmid: int) -> dict | None:
    """Return who holds the pod."""
    return json.loads(run(lab.dir / "sbin/cloudpod-info.sh", vmid).stdout)["pods"][0]["busy"]


def cut(lab: RealNode, under_way: subprocess.Popen[str]) -> None:
    """End every connection, so that nobody who began the run can reach it any more."""
    for pid in sessions(lab):
        os.kill(pid, signal.SIGKILL)
    assert worker_run.wait(under_way)["failure"]["left_behind"] == "unknown"


def volumes(lab: RealNode, vmid: int) -> list[str]:
    """Return the volumes and archives of a container on any storage."""
    storages = ("clients-main", "clients-small", "vzdump-backups")
    lines = [line for storage in storages for line in lab.ok("pvesm", "list", storage).splitlines()]
    return [line for line in lines if f"-{vmid}-" in line]


@pytest.mark.parametrize("step", ["create", "start"])
def test_a_create_that_nobody_waits_for_is_ended_without_a_trace(slow: RealNode, vmid: int, job: str, step: str) -> None:
    slow.ok("lab-switch", "delay", f"pct {step}", SLOW_S)
    under_way = worker_run.start("cloudpod_create", order(vmid, run_id=f"{job}.1"))
    found = {"create": lambda: volumes(slow, vmid), "start": lambda: "hostname" in conf(slow, vmid)}
    wait_until(found[step], f"pct {step}")
    cut(slow, under_way)
    busy = holder(slow, vmid)
    assert busy and busy["run"] == f"{job}.1"
    of_another = slow.playbook("cloudpod_cancel", vmid=vmid, run=f"{job}.2")["result"]
    seen = {name: busy[name] for name in ("pid", "run", "script")}
    assert of_another == {"vmid": vmid, "holder": seen, "outcome": "other", "changed": False}
    assert holder(slow, vmid) == busy
    ended = slow.playbook("cloudpod_cancel", vmid=vmid, run=job, for_good=True)["result"]
    assert ended == {"vmid": vmid, "holder": seen, "outcome": "ended", "changed": True}
    assert holder(slow, vmid) is None
    assert (slow.traces(vmid), volumes(slow, vmid)) == ([], [])
    # A call of it that was still on its way comes too late.
    late = worker_run.outcome("cloudpod_create", order(vmid, run_id=f"{job}.1"))
    assert "was ended for good" in late["failure"]["msg"] and late["failure"]["retryable"] is False
    assert slow.traces(vmid) == []


def conf(lab: RealNode, vmid: int) -> str:
    path = lab.dir / f"etc/pve/lxc/{vmid}.conf"
    return path.read_text() if path.exists() else ""


def test_a_backup_is_ended_and_the_pod_goes_on(slow: RealNode, vmid: int, job: str) -> None:
    made = worker_run.outcome("cloudpod_create", order(vmid))
    assert made["failure"] is None, made
    slow.ok("lab-switch", "delay", "vzdump", SLOW_S)
    under_way = worker_run.start("cloudpod_backup", {**guard(vmid), "run_id": f"{job}.1", "mode": "snapshot"})
    wait_until(lambda: "lock: backup" in conf(slow, vmid), "the backup has begun")
    ended = slow.playbook("cloudpod_cancel", vmid=vmid, run=job, tenant_id=guard(vmid)["tenant_id"])["result"]
    assert ended["outcome"] == "ended"
    failure = worker_run.wait(under_way)["failure"]
    assert (failure["retryable"], failure["left_behind"]) == (True, "nothing"), failure
    assert "lock:" not in conf(slow, vmid) and "running" in slow.ok("pct", "status", vmid)
    assert [line for line in volumes(slow, vmid) if "vzdump" in line] == []


def test_what_a_killed_script_left_at_work_is_ended_and_the_next_attempt_cleans_up(slow: RealNode, vmid: int, job: str) -> None:
    slow.ok("lab-switch", "delay", "pct create", SLOW_S)
    under_way = worker_run.start("cloudpod_create", order(vmid, run_id=f"{job}.1"))
    wait_until(lambda: volumes(slow, vmid), "pct create")
    busy = holder(slow, vmid)
    assert busy
    os.kill(busy["pid"], signal.SIGKILL)
    assert worker_run.wait(under_way)["failure"]["retryable"] is True
    assert holder(slow, vmid) == busy, "pct is at work still"
    ended = slow.playbook("cloudpod_cancel", vmid=vmid, run=f"{job}.1")["result"]
    assert (ended["outcome"], ended["holder"]["pid"]) == ("ended", busy["pid"])
    assert holder(slow, vmid) is None
    slow.ok("lab-switch", "reset")
    again = worker_run.outcome("cloudpod_create", order(vmid, run_id=f"{job}.2"))
    assert again["failure"] is None, again
    assert slow.ipam().count(f" {vmid} ") == 1
