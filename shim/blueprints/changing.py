"""What may be asked of a deployment: to be tried again from where it failed, and to be gone."""

from dataclasses import replace

from shim import caller
from shim.blueprints import deploy, plan, roles, saga, spec, telling
from shim.blueprints.models import GONE, Deployment, DeploymentPod
from shim.blueprints.plan import PlannedPod
from shim.blueprints.schemas import DeployBlueprint
from shim.cloudpods import anew, holding
from shim.config import Settings
from shim.db import database
from shim.errors import Conflict

Jobs = list[tuple[str, str]]


def retry(deployment_id: str, settings: Settings) -> tuple[Deployment, Jobs]:
    """Go on with a failed deployment from where it failed; return it, and what is to be announced.

    Pods that came to nothing are made anew, then all steps are played; else the steps from the failed one on. One that could
    not be destroyed goes on with that.
    """
    with database.atomic():
        deployment = Deployment.hold(deployment_id)
        if deployment.status != "failed":
            raise Conflict(
                f"deployment {deployment_id} is {deployment.status}; only a failed one can be tried again",
                code="deployment_not_failed",
                deploymentStatus=deployment.status,
            )
        telling.record(deployment, "INFO", "Deployment is tried again", action="DEPLOYMENT_RETRIED")
        if deployment.undoing is not None:
            # The house goes on with it after this request.
            deployment.begin(deployment.undoing, due=True, error=None)
            return Deployment.find(deployment_id), []
        jobs = _go_on(deployment, settings)
        return Deployment.find(deployment_id), jobs


def _go_on(deployment: Deployment, settings: Settings) -> Jobs:
    rows = deployment.pods()
    lost = [row for row in rows if row.cloud_pod.status != "active"]
    step = deployment.failed_step
    deployment.change(error=None, failed_step=None)
    if lost:
        return _make_anew(deployment, lost, settings)
    # Who asks is told in the event; the house orders it.
    origin = caller.origin()
    with caller.asking(None), caller.on_behalf_of(origin):
        return saga.begin_steps(deployment, rows, step)


def _make_anew(deployment: Deployment, lost: list[DeploymentPod], settings: Settings) -> Jobs:
    for row in lost:
        anew.require_nothing_left(row.job)
    pods = _planned(deployment, settings)
    # As they were called, whatever the tenant is called by now: by these names the stack is known to others.
    pods = [replace(pod, hostname=row.cloud_pod.hostname) for pod, row in zip(pods, deployment.pods(), strict=True)]
    wanted = {"tenantId": deployment.tenant_id, "node": deployment.node, "region": deployment.region}
    asked = DeployBlueprint.model_validate({**wanted, "requestedBy": None})
    holding.hold(deployment.tenant_id, [])
    places = [row.position for row in lost]
    ordered = deploy.order_pods([pods[place] for place in places], asked, settings)
    made = {place: (pods[place], pair) for place, pair in zip(places, ordered, strict=True)}
    deploy.enlist(deployment, made)
    deploy.wait_for_each_other(deployment, pods)
    deployment.begin("creating")
    return deploy.to_announce(deployment)


def _planned(deployment: Deployment, settings: Settings) -> list[PlannedPod]:
    """Return the deployment's pods as they were planned; their secrets stay what they are."""
    known = roles.of(settings)
    document = spec.read(deployment.spec, known)
    return plan.make(document, known, deployment.slug(), deployment.parameters, roles.house(settings)).pods


def remove(deployment_id: str, *, force: bool = False) -> Deployment:
    """Have the deployment undone and its pods destroyed; the house goes on with it after this request.

    With `force` its pods go even if its steps cannot be undone (their name server is no more, say). Asking again changes
    nothing else. Raises Conflict for one that is gone, or a pod of which is protected.
    """
    with database.atomic():
        deployment = Deployment.hold(deployment_id)
        if deployment.status in GONE:
            raise Conflict(
                f"deployment {deployment_id} is gone already", code="deployment_gone", deploymentStatus=deployment.status
            )
        if force and not deployment.forced:
            deployment.change(forced=True)
        if deployment.status in ("destroying", "rolling_back"):
            return deployment
        _require_unprotected(deployment)
        deployment.begin("destroying", undoing="destroying", due=True, error=None)
        telling.record(deployment, "INFO", "Deployment is to be destroyed", action="DEPLOYMENT_UNDOING")
        return Deployment.find(deployment_id)


def _require_unprotected(deployment: Deployment) -> None:
    pod = next((row.cloud_pod for row in deployment.pods() if row.cloud_pod.protected), None)
    if pod is not None:
        raise Conflict(
            f'pod {pod.vmid} is protected; send {{"protected": false}} by PUT to destroy it after all', code="pod_protected"
        )
