"""POWER: a pod started, stopped or restarted, from the request to its outcome."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from shim.cloudpods import anew, change
from shim.cloudpods.models import CloudPod
from shim.cloudpods.schemas import PowerPod
from shim.config import Settings
from shim.db import database
from shim.jobs.again import Again
from shim.jobs.models import CloudPodJob


@dataclass(frozen=True)
class Verb:
    """What an action means on the node: the state to reach, and whether a guest that does not obey is stopped hard."""

    state: str
    force: bool
    power_state: str


# The panel's words, which are Proxmox's.
VERBS: dict[str, Verb] = {
    "start": Verb("running", force=False, power_state="running"),
    "shutdown": Verb("stopped", force=False, power_state="stopped"),
    "stop": Verb("stopped", force=True, power_state="stopped"),
    "reboot": Verb("restarted", force=False, power_state="running"),
}


def power(action: str, reference: str, request: PowerPod) -> tuple[CloudPodJob, CloudPod]:
    """Queue a change of an active pod's power state."""
    with database.atomic():
        pod = change.hold(reference, request.tenant_id)
        change.require_active(pod)
        return change.enqueue("POWER", pod, request, action=action), pod


ORDERS = {action: partial(power, action) for action in VERBS}


def variables(job: CloudPodJob) -> dict[str, Any]:
    """Return the playbook's extra vars."""
    verb = VERBS[job.payload["action"]]
    pod = CloudPod.find(str(job.cloud_pod_id))
    return {
        **change.guard(job, pod),
        "state": verb.state,
        "force": verb.force,
        "shutdown_timeout_s": job.payload["shutdownTimeoutS"],
    }


def succeed(job: CloudPodJob, result: dict[str, Any]) -> None:
    """Note the state reached."""
    pod = change.pod_of(job)
    before = pod.power_state
    reached = VERBS[job.payload["action"]].power_state
    pod.change(power_state=reached, wanted_power=reached)
    change.record(
        "STATE_CHANGE",
        f"CloudPod {pod.power_state}",
        job,
        action="POWER_CHANGED",
        vmid=pod.vmid,
        asked=job.payload["action"],
        before=before,
        after=pod.power_state,
        changed=result["changed"],
    )


def fail(job: CloudPodJob, failure: dict[str, Any]) -> None:
    """What state the pod is in is seen by its next health check, which finds a pod ill that should run and does not."""
    if VERBS[job.payload["action"]].power_state == "running":
        change.pod_of(job).change(wanted_power="running")
    _record_failure(job, failure)


def cancelled(job: CloudPodJob, failure: dict[str, Any]) -> None:
    """The pod is in the state that the look saw; what was wanted of it before is wanted still."""
    change.note_power(change.pod_of(job), failure)
    _record_failure(job, failure)


def left(job: CloudPodJob, seen: dict[str, Any]) -> str:
    """Return what ended runs left: the pod in the state it had, or not. A guest that was asked to shut down may yet do it."""
    pod = CloudPod.find(str(job.cloud_pod_id))
    if not change.stands(pod, seen):
        return "unknown"
    if seen["status"] == "running" and job.payload["action"] in ("shutdown", "reboot"):
        return f"container {pod.vmid}, running, whose guest may have been asked to shut down and may yet do so"
    return change.power_left(pod, seen)


def _record_failure(job: CloudPodJob, failure: dict[str, Any]) -> None:
    change.record_failure(job, failure, f"CloudPod {job.payload['action']} not done", action="POWER_FAILED")


def settle(job: CloudPodJob, seen: dict[str, Any]) -> dict[str, Any] | None:
    """A lost start or stop is done when the pod is in that state. A restart cannot be seen; its script does it once per job."""
    verb = VERBS[job.payload["action"]]
    if verb.state == "restarted" or not change.is_ours(CloudPod.find(str(job.cloud_pod_id)), seen):
        return None
    return {"vmid": seen["vmid"], "cloudpod": seen, "changed": True} if seen.get("status") == verb.state else None


def again(job: CloudPodJob, settings: Settings) -> Again:
    """Return the order anew."""
    return anew.change(job, PowerPod, ORDERS[job.payload["action"]])
