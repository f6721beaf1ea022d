"""The way of a deployment, one step further each time that somebody looks: what is next is told by its row, jobs and pods.

| status | goes on when | to |
|---|---|---|
| creating | all its pods are made | configuring, or active where there is nothing to configure |
| configuring | its steps are played | active |
| creating, configuring | something failed for good | rolling_back, or failed by the policy `keep` |
| rolling_back, destroying | its steps are undone and its pods gone, in reverse (`undoing.py`) | rolled_back, destroyed |

Whoever ends one of its jobs looks (`worker/run.py`), and the scheduler looks after those whom nobody looked after, because a
process died in between. It looks under the lock of the row, so that nothing is ordered twice.
"""

import logging
from typing import Any

import peewee

from shim import caller, db
from shim.blueprints import configure, telling, undoing
from shim.blueprints.models import Deployment, DeploymentPod
from shim.db import database
from shim.jobs.models import CloudPodJob

log = logging.getLogger(__name__)

Jobs = list[tuple[str, str]]
_AT_A_TIME = 100


def advance(deployment_id: str) -> Jobs:
    """Go on with a deployment as far as its jobs have come; return (id, type) of those to announce."""
    # The house does it, whoever asked for the deployment and whoever asks now.
    with caller.asking(None), database.atomic():
        deployment = Deployment.hold(deployment_id)
        with caller.on_behalf_of(caller.Origin(actor=deployment.requested_by, request_id=deployment.request_id)):
            if deployment.due:
                deployment.change(due=False)
            if deployment.status == "creating":
                return _created(deployment)
            if deployment.status == "configuring":
                return _configured(deployment)
            return undoing.go_on(deployment)


def advance_due() -> Jobs:
    """Go on with each deployment whose next step nobody ordered; return (id, type) of the jobs to announce.

    One that cannot be gone on with keeps no other waiting.
    """
    jobs: Jobs = []
    for deployment_id in Deployment.due_now(_AT_A_TIME):
        try:
            jobs += advance(deployment_id)
        except (peewee.OperationalError, peewee.InterfaceError):
            raise
        except Exception:
            log.exception("deployment %s: cannot go on", deployment_id)
    return jobs


def _created(deployment: Deployment) -> Jobs:
    pods = deployment.pods()
    vain = next((row for row in pods if row.job.status in ("failed", "cancelled")), None)
    if vain is not None:
        # By `keep` the others may become what they were to be; a rollback begins at once.
        waits = deployment.policy == "keep" and deployment.unfinished_jobs()
        return [] if waits else _fail(deployment, f"pod {vain.cloud_pod.hostname}: {vain.job.error}")
    if any(row.job.status != "success" for row in pods):
        return []
    lost = _lost(pods)
    return _fail(deployment, lost) if lost else begin_steps(deployment, pods)


def _lost(pods: list[DeploymentPod]) -> str | None:
    """Return which pod is not there that was made, and what became of it."""
    lost = next((row.cloud_pod for row in pods if row.cloud_pod.status != "active"), None)
    return f"pod {lost.hostname} is {lost.status}" if lost else None


def begin_steps(deployment: Deployment, pods: list[DeploymentPod], from_step: str | None = None) -> Jobs:
    """Order the deployment's steps, all of them or those from one on; return what is to be announced."""
    if not deployment.played_steps():
        return _stand(deployment, {})
    deployment.begin("configuring")
    job = configure.order(deployment, pods, from_step=from_step)
    telling.record(deployment, "INFO", "All pods are there", action="DEPLOYMENT_CONFIGURING", jobId=job.id)
    return [(job.id, job.type)]


def _configured(deployment: Deployment) -> Jobs:
    job = deployment.job()
    if job is None or job.status in ("queued", "running"):
        return []
    if job.status == "success":
        # Somebody may have destroyed one while the others were configured.
        lost = _lost(deployment.pods())
        return _fail(deployment, lost) if lost else _stand(deployment, job.result or {})
    _note_steps(deployment, job)
    return _fail(deployment, job.error or job.status, configure.failed_step(job))


def _stand(deployment: Deployment, result: dict[str, Any]) -> Jobs:
    played = {step["name"]: step for step in result.get("steps", []) if isinstance(step, dict) and "name" in step}
    steps = [step if step.get("left_out") else {**step, **_played(played.get(step["name"]))} for step in deployment.steps]
    outputs = {**deployment.outputs, **result.get("outputs", {})}
    deployment.change(
        status="active", steps=steps, outputs=outputs, error=None, failed_step=None, finished_at=db.now(), undoing=None
    )
    telling.record(deployment, "STATE_CHANGE", "Deployment is active", action="DEPLOYMENT_ACTIVE")
    return []


def _played(step: dict[str, Any] | None) -> dict[str, Any]:
    """Return what is kept of a step that was played; one that was done by an earlier run is kept as it is."""
    return {"done": True, "seconds": step.get("seconds")} if step else {"done": True}


def _note_steps(deployment: Deployment, job: CloudPodJob) -> None:
    """Write which steps were done before the one that failed."""
    failed = configure.failed_step(job)
    names = [step["name"] for step in deployment.played_steps()]
    done = names[: names.index(failed)] if failed else []
    deployment.change(steps=[{**step, **({"done": True} if step["name"] in done else {})} for step in deployment.steps])


def _fail(deployment: Deployment, error: str, step: str | None = None) -> Jobs:
    deployment.change(error=error, failed_step=step)
    telling.record(deployment, "ERROR", f"Deployment failed: {error}", action="DEPLOYMENT_FAILED", step=step)
    if deployment.policy == "rollback":
        return undoing.begin(deployment, "rolling_back")
    deployment.change(status="failed", finished_at=db.now())
    return []
