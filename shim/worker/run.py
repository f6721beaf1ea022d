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

# A pod that is busy with a run that survived its worker, or whose node does not answer, is looked at again after this long,
# growing with each look.
LOOK_PAUSE_S = 1.0
LOOK_PAUSE_MAX_S = 60.0
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
    try:
        with Lease(job, settings.lease_s) as lease:
            ending = _settle(job, settings, lease) if job.lost else None
            if ending is None and job.status == "running":
                state.begin(job)
                ending = _execute(job, settings, lease)
        # The lease's thread has written all progress by now, so that the outcome's event is the last.
        if ending is not None:
            outcome.write(job, ending)
    except state.LostLease as error:
        # Whoever has the job now writes its end.
        log.warning("%s; leaving it", error)


def _settle(job: CloudPodJob, settings: Settings, lease: Lease) -> playbook.Outcome | None:
    """Look at the node after a lost run, and return the job's outcome if it is known now.

    None: run the action (again), or, where the pod is still busy or the node does not say, the job was handed back.
    """
    seen = _look(job, settings, lease)
    if seen is None or seen.get("busy"):
        state.hand_back(job, after_s=min(LOOK_PAUSE_MAX_S, LOOK_PAUSE_S * (job.attempt - job.tries)))
        return None
    result = ACTIONS[job.type].handler.settle(job, seen)
    if result is not None:
        return playbook.Outcome({"node": job.node_name, **result}, None)
    if job.tries >= job.max_tries:
        left = f"container {seen['vmid']}" if seen.get("exists") else "nothing"
        msg = f"the worker was lost in each of {job.tries} runs of this job; it is not tried again"
        return playbook.Outcome(None, {"msg": msg, "retryable": False, "left_behind": left})
    return None


def _look(job: CloudPodJob, settings: Settings, lease: Lease) -> dict[str, Any] | None:
    """Return what `cloudpod_info` says of the job's pod; None when the node does not say."""
    vmid = job.payload["vmid"]
    run = _plan(job, settings, "cloudpod_info.yml", {"vmids": [vmid]}, LOOK_TIMEOUT_S, "look")
    try:
        found = playbook.execute(run, on_task=lease.progress, should_stop=lease.lost)
    finally:
        playbook.remove(run.directory)
    pods: list[dict[str, Any]] = ((found.result or {}).get(run.limit) or {}).get("pods", [])
    seen = next((pod for pod in pods if pod.get("vmid") == vmid), None)
    if seen is None:
        log.warning("job %s: node %s does not say what became of vmid %s: %s", job.id, run.limit, vmid, found.failure)
    return seen


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
