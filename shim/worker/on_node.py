"""What is asked of a node in a job's name: a playbook's run, a look at the pod, the end of what the job's runs do there."""

import logging
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from shim.config import Settings
from shim.jobs.catalog import ACTIONS
from shim.jobs.models import CloudPodJob
from shim.worker import connections, holder, outcome, playbook
from shim.worker.failure import NOTHING, UNKNOWN
from shim.worker.lease import Lease
from shim.worker.run_directories import RunDirectories

log = logging.getLogger(__name__)

LOOK_TIMEOUT_S = 60.0
# A run that is ended on its node cleans up there.
CANCEL_TIMEOUT_S = 300.0
LOOK = "cloudpod_info.yml"


def settled_look(job: CloudPodJob, settings: Settings, lease: Lease) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Look at the node after a lost run; when that is at work there for longer than it may, end it and look again."""
    seen, trouble = look(job, settings, lease)
    if seen is None or not holder.is_overdue(job, seen):
        return seen, trouble
    stuck = end_runs(job, settings, lease, for_good=False)
    seen, trouble = look(job, settings, lease)
    return seen, trouble or stuck


def end_runs(job: CloudPodJob, settings: Settings, lease: Lease, *, for_good: bool) -> dict[str, Any] | None:
    """End what runs of the job have at work on its node; `for_good` not even one on its way begins. Return what hindered it."""
    asked = {"vmid": ACTIONS[job.type].vmid(job), "run": job.id, "for_good": for_good}
    ended = play(job, settings, lease, "cloudpod_cancel.yml", asked, CANCEL_TIMEOUT_S)
    if ended.failure is not None:
        log.warning("job %s: its run on node %s may not have ended: %s", job.id, job.node_name, ended.failure["msg"])
        return {**ended.failure, "looking": True}
    log.info("job %s: its run on node %s: %s", job.id, job.node_name, (ended.result or {}).get("outcome"))
    return None


def look(job: CloudPodJob, settings: Settings, lease: Lease) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Return what `cloudpod_info` says of the job's pod, and the failure when the node does not say."""
    vmid = ACTIONS[job.type].vmid(job)
    found = play(job, settings, lease, LOOK, {"vmids": [vmid], **ACTIONS[job.type].look}, LOOK_TIMEOUT_S)
    pods: list[dict[str, Any]] = ((found.result or {}).get(job.node_name) or {}).get("pods", [])
    seen = next((pod for pod in pods if pod.get("vmid") == vmid), None)
    if seen is not None:
        return seen, None
    said = (found.failure or {}).get("msg", "the answer does not name it")
    log.warning("job %s: node %s does not say what became of vmid %s: %s", job.id, job.node_name, vmid, said)
    msg = f"nobody knows yet what became of vmid {vmid}: {said}"
    return None, {"msg": msg, "retryable": True, "left_behind": UNKNOWN, "looking": True}


def play(
    job: CloudPodJob, settings: Settings, lease: Lease, name: str, variables: dict[str, Any], timeout_s: float
) -> playbook.Outcome:
    """Run a playbook on the job's node. What goes wrong on this host (a full disk, say) is a failure like any other."""
    try:
        hidden = tuple(ACTIONS[job.type].secrets(variables))
        held = directories(settings).make(f"{job.run_id}.{Path(name).stem}", hidden)
        run = playbook.Run(
            playbook=name,
            inventory=settings.inventory,
            limit=job.node_name if ACTIONS[job.type].on_node else None,
            variables=variables,
            timeout_s=timeout_s,
            directory=held.path,
            project_dir=settings.project_dir,
            control_dir=connections.directory(settings.state_dir, settings.inventory),
            check=job.dry_run,
            mark=job.run_id,
            roles_dir=settings.roles_dir,
            hidden=hidden,
        )
    except OSError as error:
        return _host_failure(error, NOTHING)
    lease.log.add(f"{'LOOK' if name == LOOK else 'ATTEMPT'} {job.attempt} [{name} on {job.node_name}, {_now()}] ****\n")
    try:
        ending = playbook.execute(run, on_task=lease.progress, should_stop=lease.lost, on_output=lease.log.add)
    except Exception as error:
        # ansible-runner raises for faults of this host: a missing program, a full disk.
        log.exception("job %s: %s could not be run", job.id, name)
        ending = _host_failure(error, UNKNOWN)
    failure = ending.failure or {}
    lease.log.add(f"\nENDED [{failure.get('msg', 'success')}, {_now()}] ****\n\n")
    lease.log.end()
    # That another run holds the pod is no fault to look into, and may be found for hours.
    held.end(None if outcome.is_busy(failure) else failure.get("msg"))
    return ending


def environment(settings: Settings) -> dict[str, str]:
    """Return what a run on this host has in its environment, but for what is each run's own."""
    control_dir = connections.directory(settings.state_dir, settings.inventory)
    return playbook.environment(settings.inventory, settings.project_dir, control_dir, settings.roles_dir)


def _host_failure(error: Exception, left_behind: str) -> playbook.Outcome:
    msg = f"{socket.gethostname()} cannot run the playbook: {error}"
    return playbook.Outcome(None, {"msg": msg, "retryable": True, "left_behind": left_behind})


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def directories(settings: Settings) -> RunDirectories:
    """Return where this host's runs have their files."""
    return RunDirectories(settings.state_dir, keep_days=settings.keep_failed_runs_days, keep_mb=settings.keep_failed_runs_mb)
