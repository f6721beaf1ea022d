"""A worker killed in the middle of a run: what it started ends, or its node says busy until it has, and the job ends right.

| killed | what goes on |
|---|---|
| the worker | its child, which runs the job to its end |
| the child | the worker, which ends what the child started and gives its job up |
| both | nobody: the next who looks ends what is left of the run on this host, and asks the node |
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import psutil
import pytest

from tests.chaos import faults
from tests.chaos.checks import EFFECTS
from tests.chaos.world import World, running_stack
from tests.stack import TENANT, is_warm, wait_until

# After so long nothing of the run is alive, unless its node says busy.
ORPHANS_S = 10.0
SLOW_S = 12.0


@pytest.fixture(scope="module", params=[1, 2], ids=["one worker", "two workers"])
def world(request) -> Iterator[World]:
    """Return a running stack with one worker, or with a second one beside it."""
    with running_stack(workers=request.param, lease_s=15, health_sweep_s=0, reconcile_s=0) as (stack, ssh):
        yield World(stack, ssh, 0)


@pytest.fixture(scope="module")
def pod(world) -> str:
    """Return the id of a pod that stands."""
    world.stack.switch("reset")
    order = world.stack.create(hostname="stands")
    assert world.stack.finished(order["job"]["id"])["status"] == "success"
    return order["cloudPod"]["id"]


@pytest.mark.parametrize("victims", ["worker", "child", "worker and child"])
def test_a_create_whose_worker_is_killed_leaves_no_orphans_and_ends_right(world, victims):
    world.stack.switch("reset")
    world.stack.switch("delay", "pct create", SLOW_S)
    job = world.stack.create(hostname="orphan")["job"]
    assert_ends_right(world, job, "cloudpod-create", victims)
    pod = world.stack.get(f"/internal/cloudpods/{job['cloudPodId']}")
    assert (pod["status"], world.stack.runs(pod["vmid"])) == ("active", True)
    assert effects(world, job) == ["created"]


@pytest.mark.parametrize("victims", ["worker", "child", "worker and child"])
def test_a_backup_whose_worker_is_killed_leaves_no_orphans_and_ends_right(world, pod, victims):
    world.stack.switch("reset")
    world.stack.switch("delay", "vzdump", SLOW_S)
    job = world.stack.post(f"/internal/cloudpods/{pod}/backup", tenantId=TENANT).json()["job"]
    assert_ends_right(world, job, "cloudpod-backup", victims)
    kept = {backup["volid"] for backup in world.stack.get(f"/internal/cloudpods/{pod}/backups")["items"]}
    assert {volid for volid, (of, _) in world.node.archives().items() if of == pod} == kept
    assert [by for _, by in world.node.archives().values()].count(job["id"]) == 1
    assert effects(world, job) == ["backed_up"]


def assert_ends_right(world: World, job: dict, script: str, victims: str) -> None:
    """Kill in the middle of the script; see that whatever of the run goes on is busy by its node's word, and that it ends."""
    wait_until(lambda: world.node.named(script), f"{script} runs")
    worker = next(each for each in faults.workers(world.stack) if runs_a_playbook(each))
    below = [process for process in worker.children(recursive=True) if "worker" in victims or not is_warm(process)]
    run = [*below, *world.node.processes()]
    killed = {"worker": [worker], "child": faults.children(worker), "worker and child": [worker, *faults.children(worker)]}
    for process in killed[victims]:
        # A child of one that was killed just now may have ended with it.
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    left_alone_at = time.monotonic() + ORPHANS_S * faults.slowness()
    while orphans := [process for process in run if is_at_work(process)]:
        busy = world.node.held_locks().get(str(job["payload"]["vmid"]), "")
        assert time.monotonic() < left_alone_at or job["id"] in busy, [process.cmdline() for process in orphans]
        time.sleep(0.1)
    ended = world.stack.finished(job["id"])
    assert ended["status"] == "success", ended
    wait_until(lambda: not world.stack.playbooks() and not world.node.processes(), "nothing is left")
    assert world.node.held_locks() == {}


def runs_a_playbook(worker: psutil.Process) -> bool:
    for process in worker.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "ansible-playbook" in " ".join(process.cmdline()) and not is_warm(process):
                return True
    return False


def is_at_work(process: psutil.Process) -> bool:
    """Return whether a process of a run is alive. A shared SSH connection is not the run's, though the run opened it."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE and "[mux]" not in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False


def effects(world: World, job: dict) -> list[str]:
    """Return what the node's log says that runs of the job did."""
    lines = [line for line in world.node.log() if str(line["run"]).startswith(f"{job['id']}.")]
    return [line["outcome"] for line in lines if line["outcome"] in EFFECTS]
