"""The end of a deployment, by its policy or by somebody's word: what was begun is ended, what its steps did outside its pods is
undone, and its pods are destroyed, those first that others do not depend on.

A pod that was never made, or is gone by another's hand, needs no destruction.
"""

from shim import db
from shim.blueprints import configure, telling
from shim.blueprints.models import Deployment, DeploymentPod
from shim.blueprints.spec import Spec
from shim.cloudpods import destroy
from shim.cloudpods.schemas import DestroyPod
from shim.errors import Conflict
from shim.jobs import cancel
from shim.jobs.models import CloudPodJob
from shim.nodes.models import Allocation

_END = {"rolling_back": "rolled_back", "destroying": "destroyed"}
# Somebody else destroys the pod since we looked, or did: the next look tells.
_MEANWHILE = ("job_pending", "cloudpod_deleted")
_SAID = {"rolling_back": "rolled back", "destroying": "destroyed"}


def begin(deployment: Deployment, status: str) -> list[tuple[str, str]]:
    """Begin the deployment's end; return (id, type) of jobs to announce. Call with its row locked."""
    deployment.begin(status, undoing=status)
    telling.record(deployment, "INFO", f"Deployment is to be {_SAID[status]}", action="DEPLOYMENT_UNDOING")
    return go_on(deployment)


def go_on(deployment: Deployment) -> list[tuple[str, str]]:
    """Go on with a deployment's end as far as its jobs have come; return (id, type) of jobs to announce."""
    if deployment.status not in _END:
        return []
    asked = _end_all(_making(deployment))
    if _making(deployment):
        return asked
    pods = deployment.pods()
    undo, goes_on = _undo(deployment, pods)
    if not goes_on:
        return undo
    return _destroy(deployment, pods)


def _making(deployment: Deployment) -> list[CloudPodJob]:
    """Return the unfinished jobs that make it what it is no more to be. What nobody began ends as soon as it is asked to."""
    return [job for job in deployment.unfinished_jobs() if job.type != "DESTROY" and not job.payload.get("undo")]


def _end_all(jobs: list[CloudPodJob]) -> list[tuple[str, str]]:
    ended = [cancel.cancel(job.id) for job in jobs if job.cancel_requested_at is None]
    return [(job.id, job.type) for job in ended if job.status == "queued"]


def _undo(deployment: Deployment, pods: list[DeploymentPod]) -> tuple[list[tuple[str, str]], bool]:
    """Have undone what the steps did outside the pods; return jobs to announce, and whether the pods may go now."""
    job = deployment.job()
    if job is None:
        if not any(step["undo"] for step in deployment.played_steps()) or not deployment.configured_ever():
            return [], True
        # Be all pods gone by another's hand: their names, for one, are not.
        job = configure.order(deployment, pods, undo=True)
        return [(job.id, job.type)], False
    if job.status in ("queued", "running"):
        return [], False
    if job.status == "success":
        return [], True
    if deployment.status == "rolling_back" or deployment.forced:
        # Nobody waits for the stack any more, and its pods cost; what is left outside of them is told.
        return [], True
    _stay(deployment, f"its steps are not undone: {job.error}; DELETE with ?force=1 goes on without that")
    return [], False


def _destroy(deployment: Deployment, pods: list[DeploymentPod]) -> list[tuple[str, str]]:
    # The jobs before the pods: one that ends in between is seen as still at work, and whoever ended it looks after us. The
    # other way round its pod would look as if nobody destroyed it.
    pending = {row.cloud_pod_id: CloudPodJob.pending(row.cloud_pod_id, "DESTROY") for row in pods}
    left = [row for row in deployment.pods() if not _is_gone(row)]
    if not left:
        _gone(deployment)
        return []
    needed = _needed(deployment, left)
    free = [row for row in reversed(left) if row.role not in needed]
    seen = [_destroy_one(deployment, row, pending[row.cloud_pod_id]) for row in free]
    refused = [each for each in seen if isinstance(each, str)]
    if refused and len(refused) == len(seen):
        _stay(deployment, refused[0])
    return [(job.id, job.type) for job in seen if isinstance(job, CloudPodJob)]


def _destroy_one(deployment: Deployment, row: DeploymentPod, pending: CloudPodJob | None) -> CloudPodJob | str | None:
    """Return the job that is to destroy the pod, or why there is none; None where somebody is at it."""
    if pending is not None:
        _adopt(deployment, pending)
        return None
    why = _failed(deployment, row)
    if why is None:
        try:
            return _order(deployment, row)
        except Conflict as conflict:
            if conflict.code in _MEANWHILE:
                return None
            why = conflict.message
    return f"pod {row.cloud_pod.hostname} is not destroyed: {why}"


def _is_gone(row: DeploymentPod) -> bool:
    status = row.cloud_pod.status
    # Of a failed one something may be left: then it has its share of the node still.
    return status == "deleted" or (status == "failed" and Allocation.of_pod(row.cloud_pod_id) is None)


def _needed(deployment: Deployment, left: list[DeploymentPod]) -> set[str]:
    """Return the roles that pods which are there still depend on."""
    resources = Spec.model_validate(deployment.spec).resources
    there = {row.role for row in left}
    return {other for resource in resources if resource.role in there for other in resource.depends_on}


def _failed(deployment: Deployment, row: DeploymentPod) -> str | None:
    """Return why the pod was not destroyed, if that was tried in this phase."""
    tried = CloudPodJob.select().where(
        CloudPodJob.cloud_pod_id == row.cloud_pod_id,
        CloudPodJob.type == "DESTROY",
        CloudPodJob.status.in_(("failed", "cancelled")),
        CloudPodJob.created_at > deployment.phase_since,
        ~CloudPodJob.dry_run,
    )
    last: CloudPodJob | None = tried.order_by(CloudPodJob.created_at.desc()).first()
    return (last.error or last.status) if last else None


def _order(deployment: Deployment, row: DeploymentPod) -> CloudPodJob:
    reason = f"deployment {deployment.id} is {deployment.status.replace('_', ' ')}"
    asked = DestroyPod.model_validate({"tenantId": deployment.tenant_id, "reason": reason})
    # Who deployed may be called otherwise than a body may say.
    job, _ = destroy.destroy(row.cloud_pod_id, asked.model_copy(update={"requested_by": deployment.requested_by}))
    _adopt(deployment, job)
    return job


def _adopt(deployment: Deployment, job: CloudPodJob) -> None:
    """Make somebody else's destruction of a pod the deployment's own, which then goes on as soon as it ended."""
    if job.deployment_id is None:
        CloudPodJob.update(deployment_id=deployment.id).where(CloudPodJob.id == job.id).execute()


def _gone(deployment: Deployment) -> None:
    said = _SAID[deployment.status]
    undone = deployment.job()
    left = f"; its steps are not undone: {undone.error}" if undone is not None and undone.status != "success" else ""
    error = f"{deployment.error or ''}{left}".removeprefix("; ") or None
    # Nobody needs them any more.
    deployment.change(status=_END[deployment.status], secrets={}, error=error, finished_at=db.now())
    telling.record(
        deployment,
        "WARN" if left else "STATE_CHANGE",
        f"Deployment {said}{left}",
        action=f"DEPLOYMENT_{said.replace(' ', '_').upper()}",
    )


def _stay(deployment: Deployment, why: str) -> None:
    deployment.change(status="failed", error=why, finished_at=db.now())
    telling.record(deployment, "ERROR", f"Deployment stays: {why}", action="DEPLOYMENT_STAYS")
