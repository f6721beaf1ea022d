"""A worker's turn: claim the best job, look at the node if its last run was lost, run the playbook, write the outcome."""

import logging
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peewee

from shim import caller, db
from shim.config import DRILL_VMIDS, Settings
from shim.errors import Unavailable
from shim.jobs import state
from shim.jobs.catalog import ACTIONS, types_of
from shim.jobs.claim import claim
from shim.jobs.models import CloudPodJob
from shim.jobs.queue import Wakeups
from shim.log import bound
from shim.process import become_subreaper
from shim.worker import outcome, playbook
from shim.worker.failure import NOTHING, UNKNOWN
from shim.worker.lease import Lease

log = logging.getLogger(__name__)

LOOK_TIMEOUT_S = 60.0
WRITE_PAUSE_S = 1.0
# Longer than any run takes: the directory of one that is under way is never removed.
KEEP_S = 24 * 3600.0
# A socket's path may have 107 bytes; ssh adds a name of up to 40 while it opens one.
LONGEST_CONTROL_DIR = 60


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
    # What ansible-core leaves behind comes to this process, which ends it before it writes the run's outcome.
    become_subreaper()
    db.connect(settings.database_url, pool_size=4, patience=db.BACKGROUND)
    playbook.forget_own_settings()
    types = types_of(context.queues)
    with db.session():
        job = claim(types, worker=context.name, lease_s=settings.lease_s)
    if job is None:
        log.debug("woken for %s, nothing may run now", job_id)
        return
    ordered = caller.Origin(actor=job.requested_by, request_id=job.request_id)
    with caller.on_behalf_of(ordered), bound(job_id=job.id, request_id=job.request_id, attempt=job.attempt):
        _run(job, settings)
    with db.session():
        unblocked = state.to_announce(types, 1, after_s=1.0)
    Wakeups(settings.redis_url).announce(unblocked)


def _run(job: CloudPodJob, settings: Settings) -> None:
    log.info("job %s: %s, attempt %d", job.id, job.type, job.attempt)
    try:
        with Lease(job, settings.lease_s) as lease:
            ending = _settle(job, settings, lease) if job.lost else None
            if ending is None and job.status == "running":
                ending = _execute(job, settings, lease)
            if ending is not None:
                lease.flush()
                _write(job, ending, lease)
    except state.LostLease as error:
        # Whoever has the job now writes its end.
        log.warning("%s; leaving it", error)


def _write(job: CloudPodJob, ending: playbook.Outcome, lease: Lease) -> None:
    """Write the outcome, again and again while the database is away and the job is still ours: it may have taken hours."""
    while True:
        try:
            with db.session():
                return outcome.write(job, ending)
        except (Unavailable, peewee.OperationalError, peewee.InterfaceError) as error:
            if lease.lost() is not None:
                raise
            log.warning("job %s: cannot write its outcome yet: %s", job.id, db.first_line(error))
            time.sleep(WRITE_PAUSE_S)


def _settle(job: CloudPodJob, settings: Settings, lease: Lease) -> playbook.Outcome | None:
    """Look at the node after a lost run, and return the job's outcome if it is known now.

    None: run the action (again), or, where the pod is still busy or the node does not say, the job was handed back.
    """
    # A job of a node as a whole has no container to look at; it only reads and left nothing, as a dry run did.
    looked = "vmid" in job.payload and not job.dry_run
    seen, trouble = _look(job, settings, lease) if looked else ({}, None)
    with db.session():
        if seen is None or seen.get("busy"):
            if outcome.is_older(job.started_at or job.created_at):
                return _given_up(job, UNKNOWN, _never_said(job, trouble))
            # Whoever waits for the job sees in its error why nothing goes on, unless that tells already why it was lost.
            state.hand_back(job, None if _why_lost(job) else trouble)
            return None
        result = None if job.dry_run else ACTIONS[job.type].handler.settle(job, seen)
    if result is not None:
        return playbook.Outcome({"node": job.node_name, **result}, None)
    if job.tries >= job.max_tries:
        return _given_up(job, _left(job, seen), f"the worker was lost in each of {job.tries} runs of this job")
    return None


def _given_up(job: CloudPodJob, left: str, why: str) -> playbook.Outcome:
    msg = _why_lost(job) or f"{why}; it is not tried again"
    return playbook.Outcome(None, {"msg": msg, "retryable": False, "left_behind": left})


def _never_said(job: CloudPodJob, trouble: dict[str, Any] | None) -> str:
    said = trouble["msg"] if trouble else f"vmid {job.payload['vmid']} is busy all the time"
    return f"{said}, for longer than {outcome.WAIT_AT_MOST.total_seconds() / 3600:g} hours"


def _left(job: CloudPodJob, seen: dict[str, Any]) -> str:
    """Given what a look saw of the job's container, return what its lost runs left behind."""
    if job.dry_run:
        return NOTHING
    if job.type == "CREATE" or job.payload.get("asNew"):
        return f"container {seen['vmid']}" if seen.get("exists") else NOTHING
    if job.type == "RESTORE_DRILL":
        return (
            f"{UNKNOWN}: perhaps its copy, container {DRILL_VMIDS + job.payload['vmid']}; the next drill of the pod removes it"
        )
    # The container was there before. A job of a node as a whole, and one that changes no pod, left nothing.
    return UNKNOWN if job.changes_pod else NOTHING


def _why_lost(job: CloudPodJob) -> str | None:
    """Return the error of the run that was lost, None when its worker took it along."""
    return job.error if job.failure and not job.failure.get("looking") else None


def _look(job: CloudPodJob, settings: Settings, lease: Lease) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Return what `cloudpod_info` says of the job's pod, and the failure when the node does not say."""
    vmid = job.payload["vmid"]
    found = _play(job, settings, lease, "cloudpod_info.yml", {"vmids": [vmid], **ACTIONS[job.type].look}, LOOK_TIMEOUT_S)
    pods: list[dict[str, Any]] = ((found.result or {}).get(job.node_name) or {}).get("pods", [])
    seen = next((pod for pod in pods if pod.get("vmid") == vmid), None)
    if seen is not None:
        return seen, None
    said = (found.failure or {}).get("msg", "the answer does not name it")
    log.warning("job %s: node %s does not say what became of vmid %s: %s", job.id, job.node_name, vmid, said)
    msg = f"nobody knows yet what became of vmid {vmid}: {said}"
    return None, {"msg": msg, "retryable": True, "left_behind": UNKNOWN, "looking": True}


def _execute(job: CloudPodJob, settings: Settings, lease: Lease) -> playbook.Outcome:
    action = ACTIONS[job.type]
    with db.session():
        state.begin(job)
        variables = action.handler.variables(job)
    return _play(job, settings, lease, action.playbook, variables, action.timeout_s)


def _play(
    job: CloudPodJob, settings: Settings, lease: Lease, name: str, variables: dict[str, Any], timeout_s: float
) -> playbook.Outcome:
    """Run a playbook on the job's node. What goes wrong on this host (a full disk, say) is a failure like any other."""
    try:
        run = playbook.Run(
            playbook=name,
            inventory=settings.inventory,
            limit=job.node_name,
            variables=variables,
            timeout_s=timeout_s,
            directory=_private(settings.state_dir / "runs" / f"{job.run_id}.{Path(name).stem}"),
            project_dir=settings.project_dir,
            control_dir=_private(_control_dir(settings.state_dir), exist_ok=True),
            check=job.dry_run,
        )
    except OSError as error:
        return _host_failure(error, NOTHING)
    try:
        return playbook.execute(run, on_task=lease.progress, should_stop=lease.lost)
    except Exception as error:
        # ansible-runner raises for faults of this host: a missing program, a full disk.
        log.exception("job %s: %s could not be run", job.id, name)
        return _host_failure(error, UNKNOWN)
    finally:
        playbook.remove(run.directory)


def _host_failure(error: Exception, left_behind: str) -> playbook.Outcome:
    msg = f"{socket.gethostname()} cannot run the playbook: {error}"
    return playbook.Outcome(None, {"msg": msg, "retryable": True, "left_behind": left_behind})


def _control_dir(state_dir: Path) -> Path:
    """Return where SSH's shared connections have their sockets: one for all runs, short enough for a socket's path."""
    directory = state_dir / "cp"
    return directory if len(str(directory)) <= LONGEST_CONTROL_DIR else Path.home() / ".ansible" / "cp"


def remove_old(state_dir: Path) -> None:
    """Remove what runs of this host left whose process was killed before it could."""
    oldest = time.time() - KEEP_S
    for directory in (state_dir / "runs").glob("*"):
        if directory.stat().st_mtime < oldest:
            playbook.remove(directory)


def _private(directory: Path, *, exist_ok: bool = False) -> Path:
    directory.mkdir(parents=True, exist_ok=exist_ok, mode=0o700)
    return directory
