"""A worker's turn: claim the best job, look at the node if its last run was lost, run the playbook, write the outcome."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shim import db
from shim.config import Settings
from shim.jobs import state
from shim.jobs.catalog import ACTIONS, types_of
from shim.jobs.claim import claim
from shim.jobs.models import CloudPodJob
from shim.jobs.queue import Wakeups
from shim.worker import outcome, playbook
from shim.worker.lease import Lease

log = logging.getLogger(__name__)

# How long a pod that is busy with a run that survived its worker is left alone before it is looked at again.
BUSY_PAUSE_S = 2.0
LOOK_TIMEOUT_S = 60.0


@dataclass
class Context:
    """What a worker process knows; made once before it forks."""

    settings: Settings
    name: str
    queues: tuple[str, ...]


# RQ calls `wake` by its name and hands it nothing of ours, so its context stands here, set once before any fork.
_prepared: list[Context] = []


def prepare(context: Context) -> None:
    """Set what `wake` works with."""
    _prepared[:] = [context]


def wake(job_id: str) -> None:
    """Claim and run the best job that may run now, which need not be the one in the message."""
    (context,) = _prepared
    settings = context.settings
    db.connect(settings.database_url, pool_size=4)
    playbook.forget_own_settings()
    with db.session():
        job = claim(types_of(context.queues), worker=context.name, lease_s=settings.lease_s)
        if job is None:
            log.debug("woken for %s, nothing may run now", job_id)
            return
        _run(job, settings)
        # What this job's end unblocked: the next of its pod, or of its node.
        Wakeups(settings.redis_url).announce(state.to_announce(types_of(context.queues), 1, after_s=1.0))


def _run(job: CloudPodJob, settings: Settings) -> None:
    log.info("job %s: %s, attempt %d", job.id, job.type, job.attempt)
    with Lease(job, settings.lease_s) as lease:
        try:
            if job.lost and not _may_run(job, settings, lease):
                return
            state.begin(job)
            outcome.write(job, _execute(job, settings, lease))
        except state.LostLease as error:
            # Whoever has the job now writes its end.
            log.warning("%s; leaving it", error)


def _may_run(job: CloudPodJob, settings: Settings, lease: Lease) -> bool:
    """Look at the node after a lost run: still busy → later; done → write that; else True: run (again)."""
    seen = _look(job, settings, lease)
    if seen is None or seen.get("busy"):
        state.hand_back(job, after_s=BUSY_PAUSE_S)
        return False
    result = ACTIONS[job.type].handler.settle(job, seen)
    if result is not None:
        outcome.write(job, playbook.Outcome({"node": job.node_name, **result}, None))
        return False
    if job.tries >= job.max_tries:
        there = f"container {seen['vmid']}" if seen.get("exists") else "nothing"
        msg = f"the worker was lost {job.tries} times while running this job; it is not tried again"
        outcome.write(job, playbook.Outcome(None, {"msg": msg, "retryable": False, "left_behind": there}))
        return False
    return True


def _look(job: CloudPodJob, settings: Settings, lease: Lease) -> dict[str, Any] | None:
    """Return what `cloudpod_info` says of the job's pod; None when the node does not say."""
    vmid = job.payload["vmid"]
    run = _plan(job, settings, "cloudpod_info.yml", {"vmids": [vmid]}, LOOK_TIMEOUT_S, "look")
    try:
        found = playbook.execute(run, on_task=lease.progress, should_stop=lease.lost)
    finally:
        playbook.remove(run.directory)
    if found.result is None:
        log.warning("job %s: cannot look at node %s: %s", job.id, run.limit, found.failure)
        return None
    pods: list[dict[str, Any]] = found.result[run.limit]["pods"]
    return next((pod for pod in pods if pod["vmid"] == vmid), None)


def _execute(job: CloudPodJob, settings: Settings, lease: Lease) -> playbook.Outcome:
    action = ACTIONS[job.type]
    run = _plan(job, settings, action.playbook, action.handler.variables(job), action.timeout_s, "run")
    try:
        return playbook.execute(run, on_task=lease.progress, should_stop=lease.lost)
    finally:
        playbook.remove(run.directory)


def _plan(
    job: CloudPodJob, settings: Settings, name: str, variables: dict[str, Any], timeout_s: float, purpose: str
) -> playbook.Run:
    return playbook.Run(
        playbook=name,
        inventory=settings.inventory,
        limit=job.node_name,
        variables=variables,
        timeout_s=timeout_s,
        directory=_private(settings.state_dir / "runs" / f"{job.run_id}.{purpose}"),
        project_dir=settings.project_dir,
        control_dir=_private(settings.state_dir / "cp", exist_ok=True),
    )


def _private(directory: Path, *, exist_ok: bool = False) -> Path:
    directory.mkdir(parents=True, exist_ok=exist_ok, mode=0o700)
    return directory
