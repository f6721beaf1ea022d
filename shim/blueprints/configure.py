"""BLUEPRINT: the steps of a deployment, played on its pods when all of them are there; or undone before they go."""

import re
from typing import Any

from shim.blueprints.models import Deployment, DeploymentPod
from shim.cloudpods import anew
from shim.config import Settings
from shim.errors import Conflict
from shim.jobs import events
from shim.jobs.again import Again
from shim.jobs.models import CloudPodJob
from shim.jobs.submit import submit

TYPE = "BLUEPRINT"

# How the playbook says which step failed.
_FAILED = re.compile(r"\bstep ([a-z][a-z0-9-]*) on\b")


def order(
    deployment: Deployment, pods: list[DeploymentPod], *, undo: bool = False, from_step: str | None = None
) -> CloudPodJob:
    """Return the job that plays the deployment's steps, or undoes them. Call with the deployment's row locked."""
    steps = [step["name"] for step in _steps(deployment, undo=undo)]
    begin = {"fromStep": from_step} if from_step else {}
    job = submit(
        TYPE,
        tenant_id=deployment.tenant_id,
        cloud_pod_id=None,
        # It works inside the pods, and takes a place of the node of the first of them.
        node_id=pods[0].cloud_pod.node_id,
        payload={"deploymentId": deployment.id, "steps": steps, "undo": undo, **begin},
        requested_by=deployment.requested_by,
        deployment_id=deployment.id,
        # Who deployed may end it, though it is the saga that orders it.
        by_house=False,
    )
    deployment.change(job_id=job.id)
    return job


def failed_step(job: CloudPodJob) -> str | None:
    """Return the step that a failed job came to."""
    found = _FAILED.search(job.error or "")
    return found[1] if found and found[1] in job.payload["steps"] else None


def variables(job: CloudPodJob) -> dict[str, Any]:
    """Return the playbook's extra vars: the stack as it is now."""
    deployment = _deployment(job)
    undo = bool(job.payload.get("undo"))
    begin = {"from_step": job.payload["fromStep"]} if "fromStep" in job.payload else {}
    return {"stack": _stack(deployment, undo=undo), **({"undo": True} if undo else {}), **begin}


def at_home(variables: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """Return the variables with what the house knows and no document says."""
    names = {
        "zone": settings.dns_zone,
        "reverse_zone": settings.dns_reverse_zone,
        "server": settings.dns_server,
        "port": settings.dns_port,
        "key_name": settings.dns_key_name,
        "key_algorithm": settings.dns_key_algorithm,
        "key_secret": settings.dns_key_secret,
        # Whoever may deploy has not the whole zone: a site may be called as its tenant is, or something below it.
        "only_below": "" if settings.dns_any_name else variables["stack"]["tenant_label"],
    }
    login = {
        "pod_user": settings.pod_user,
        "pod_key_file": _path(settings.pod_key_file),
        "jump": settings.pod_jump,
        "wait_s": settings.pod_wait_s,
    }
    house = {"dns": names, **login, "roles_dir": _path(settings.roles_dir)}
    return {**variables, "stack": {**variables["stack"], "settings": house}}


def secrets(variables: dict[str, Any]) -> list[str]:
    """Return the stack's secrets and the house's key, which nothing that a run says may show."""
    stack = variables.get("stack", {})
    words = [*stack.get("secrets", {}).values(), stack.get("settings", {}).get("dns", {}).get("key_secret") or ""]
    # The longest first: one may be part of another. What is very short would make holes in every word.
    return sorted((word for word in words if len(word) >= 4), key=len, reverse=True)


def succeed(job: CloudPodJob, result: dict[str, Any]) -> None:
    """The steps are done; what that means for the deployment is written by who goes on with it (`saga.py`).

    Raises ValueError for a result that says nothing of them.
    """
    if not isinstance(result.get("steps"), list) or not isinstance(result.get("outputs", {}), dict):
        raise ValueError("it names no steps")
    message = "Stack undone" if job.payload.get("undo") else "Stack configured"
    events.record(job, "INFO", message, action="STACK_UNDONE" if job.payload.get("undo") else "STACK_CONFIGURED", **_about(job))


def fail(job: CloudPodJob, failure: dict[str, Any]) -> None:
    """A step was not done."""
    done = "undone" if job.payload.get("undo") else "configured"
    events.record(job, "ERROR", f"Stack not {done}: {failure['msg']}", action="STACK_FAILED", **_about(job))


def settle(job: CloudPodJob, seen: dict[str, Any]) -> dict[str, Any] | None:
    """A lost run is played again: its roles may run any number of times."""
    return None


def again(job: CloudPodJob, settings: Settings) -> Again:
    """Raise Conflict: it is the deployment that is to be tried again."""
    anew.require_of_no_deployment(job)
    raise Conflict("this job is a part of no deployment", code="nothing_to_retry")


def _about(job: CloudPodJob) -> dict[str, Any]:
    return {"deploymentId": job.payload.get("deploymentId")}


def _deployment(job: CloudPodJob) -> Deployment:
    return Deployment.find(job.payload["deploymentId"])


def _steps(deployment: Deployment, *, undo: bool) -> list[dict[str, Any]]:
    return [step for step in deployment.played_steps() if step["undo"] or not undo]


def _stack(deployment: Deployment, *, undo: bool) -> dict[str, Any]:
    check = deployment.spec.get("healthCheck")
    return {
        "deployment": deployment.id,
        "blueprint": deployment.summary()["blueprint"],
        "tenant_id": deployment.tenant_id,
        "tenant_slug": deployment.slug(),
        "tenant_label": deployment.tenant.slug,
        "parameters": deployment.parameters,
        "secrets": deployment.secrets,
        # Those that are gone too: what a step wrote of them elsewhere is to be undone like the others'. A run that configures
        # cannot reach one that is gone, and fails.
        "pods": [_pod(row) for row in deployment.pods()],
        "steps": [{name: step[name] for name in ("name", "role", "targets")} for step in _steps(deployment, undo=undo)],
        **({"health_check": check} if check else {}),
    }


def _pod(row: DeploymentPod) -> dict[str, Any]:
    pod = row.cloud_pod
    return {
        "role": row.role,
        "index": row.number,
        "hostname": pod.hostname,
        "vmid": pod.vmid,
        "ip": pod.ip,
        "node": pod.node.name,
        "pod_id": pod.id,
        "there": pod.status == "active",
        "host_key": pod.host_key,
        "cores": pod.cores,
        "memory_mb": pod.memory_mb,
    }


def _path(path: Any) -> str | None:
    return str(path) if path else None
