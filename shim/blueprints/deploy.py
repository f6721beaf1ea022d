"""A blueprint deployed: deployment, pods, shares, quota and a CREATE job each, all of it in one transaction."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from shim import caller, db
from shim.blueprints import plan, roles, spec, telling
from shim.blueprints.models import Blueprint, Deployment, DeploymentPod
from shim.blueprints.plan import Plan, PlannedPod
from shim.blueprints.schemas import DeployBlueprint
from shim.cloudpods import create_many, dry_run, holding
from shim.cloudpods.dry_run import Ordered
from shim.cloudpods.models import CloudPod
from shim.cloudpods.schemas import CreatePod
from shim.config import Settings
from shim.db import database
from shim.errors import CloudPodsError, Conflict
from shim.jobs.models import CloudPodJob
from shim.nodes.models import Allocation
from shim.tenants.models import Tenant


def planned(slug: str, request: DeployBlueprint, settings: Settings) -> tuple[Blueprint, Plan]:
    """Return the blueprint and what deploying it comes to. Raises NotFound or Invalid."""
    blueprint = Blueprint.find(slug)
    tenant = Tenant.find(request.tenant_id, field="tenantId")
    known = roles.of(settings)
    slug = plan.stack_slug(tenant.slug, request.name)
    document = spec.read(blueprint.spec, known)
    made = plan.make(document, known, slug, request.parameters, roles.house(settings))
    if settings.dns_zone and not settings.dns_any_name:
        plan.require_own_names(document, made.parameters, settings.dns_zone, tenant.slug)
    return blueprint, made


def deploy(slug: str, request: DeployBlueprint, settings: Settings) -> Deployment:
    """Write the deployment and all that it orders; its jobs are to be announced. Raises as `create` does; then nothing was.

    Raises NotFound, Invalid or Conflict.
    """
    with database.atomic():
        # Held, so that it is not deleted or written anew meanwhile.
        Blueprint.find(slug, held="FOR SHARE")
        blueprint, made = planned(slug, request, settings)
        holding.hold(request.tenant_id, [])
        _require_free(made.pods, request.tenant_id)
        ordered = order_pods(made.pods, request, settings)
        deployment = Deployment.write(
            blueprint=blueprint,
            tenant=request.tenant_id,
            name=request.name,
            policy=request.policy,
            spec=blueprint.spec,
            parameters=made.parameters,
            secrets=made.secrets,
            steps=made.steps,
            outputs=made.outputs,
            region=request.region,
            node=request.node,
            requested_by=caller.requested_by(request.requested_by),
            request_id=caller.origin().request_id,
        )
        enlist(deployment, dict(enumerate(zip(made.pods, ordered, strict=True))))
        wait_for_each_other(deployment, made.pods)
        said = f"Deployment of {slug} ordered: {len(made.pods)} pods"
        telling.record(deployment, "INFO", said, action="DEPLOYMENT_ORDERED", blueprint=slug)
        for step in made.steps:
            if "left_out" in step:
                said = f"Step {step['name']} is left out: {step['left_out']}"
                telling.record(deployment, "WARN", said, action="DEPLOYMENT_STEP_LEFT_OUT", step=step["name"])
        return deployment


def rehearse(slug: str, request: DeployBlueprint, settings: Settings) -> dict[str, Any]:
    """Return the plan: pods with their places, steps, outputs and quota. Raises what the order would; writes nothing."""
    with database.atomic():
        _, made = planned(slug, request, settings)
        holding.hold(request.tenant_id, [])
        _require_free(made.pods, request.tenant_id)
        ordered, quota = dry_run.try_all(partial(order_pods, made.pods, request, settings))
    pods = [_shown(pod, job, written) for pod, (job, written) in zip(made.pods, ordered, strict=True)]
    steps = [
        {**{name: step[name] for name in ("name", "role", "targets")}, "reason": step.get("left_out")} for step in made.steps
    ]
    return {"pods": pods, "steps": steps, "outputs": made.outputs, "quota": quota}


def _require_free(pods: list[PlannedPod], tenant_id: str) -> None:
    """Raise Conflict for a name that a pod of another stack of the tenant has. Call with the tenant held."""
    taken = Deployment.having(tenant_id, [pod.hostname for pod in pods])
    if taken is not None:
        hostname, other = taken
        raise Conflict(
            f"pod {hostname} is deployment {other}'s already; say a `name` for another stack",
            code="hostname_taken",
            hostname=hostname,
            deploymentId=other,
        )


def order_pods(pods: list[PlannedPod], request: DeployBlueprint, settings: Settings) -> list[Ordered]:
    """Return job and pod of each new pod, in their order. Call with all that they lock held."""
    orders = [(index, _order(pod, request)) for index, pod in enumerate(pods)]
    ordered = create_many.create_all(orders, settings, partial(_named, pods))
    return [ordered[index] for index in range(len(pods))]


def enlist(deployment: Deployment, made: dict[int, tuple[PlannedPod, Ordered]]) -> None:
    """Write that these pods, by their places, and their jobs are the deployment's."""
    for position, (pod, (job, written)) in made.items():
        place = {"deployment": deployment.id, "position": position}
        row = {"role": pod.role, "number": pod.number, "cloud_pod": written.id, "job": job.id}
        DeploymentPod.insert(**place, **row).on_conflict(
            conflict_target=[DeploymentPod.deployment, DeploymentPod.position], update=row
        ).execute()
        Allocation.update(role=pod.role).where(Allocation.cloud_pod_id == written.id).execute()
    pods = [written.id for _, (_, written) in made.values()]
    CloudPod.update(blueprint_id=deployment.blueprint_id).where(CloudPod.id.in_(pods)).execute()
    jobs = [job.id for _, (job, _) in made.values()]
    CloudPodJob.update(deployment_id=deployment.id).where(CloudPodJob.id.in_(jobs)).execute()


def wait_for_each_other(deployment: Deployment, pods: list[PlannedPod]) -> None:
    """Let each job that is to make a pod wait for those of the pods which that one depends on, as far as they are not done."""
    rows = deployment.pods()
    for row, pod in zip(rows, pods, strict=True):
        before = [other.job_id for other in rows if other.role in pod.after and other.job.status != "success"]
        if before and row.job.status == "queued":
            waiting = {"after_job_id": before[0], "after_too": before[1:], "woken_at": None}
            CloudPodJob.update(waiting).where(CloudPodJob.id == row.job_id).execute()


def to_announce(deployment: Deployment) -> list[tuple[str, str]]:
    """Return (id, type) of the deployment's jobs that wait for nothing but a worker."""
    free = db.rows(
        "SELECT id, type FROM cloud_pod_jobs WHERE deployment_id = %s AND status = 'queued' AND NOT waits", (deployment.id,)
    )
    return [(row[0], row[1]) for row in free]


def _order(pod: PlannedPod, request: DeployBlueprint) -> CreatePod:
    of_pod = pod.resource
    return CreatePod.model_validate(
        {
            "tenantId": request.tenant_id,
            "hostname": pod.hostname,
            "cores": of_pod.cores,
            "memoryMb": of_pod.memory_mb,
            "swapMb": of_pod.swap_mb,
            "diskGb": of_pod.disk_gb,
            "node": request.node,
            "region": request.region,
            "requestedBy": request.requested_by,
        }
    )


@contextmanager
def _named(pods: list[PlannedPod], index: int) -> Iterator[None]:
    """Name the pod in what it raises."""
    try:
        yield
    except CloudPodsError as error:
        error.message = f"pod {pods[index].hostname}: {error.message}"
        raise


def _shown(pod: PlannedPod, job: CloudPodJob, written: CloudPod) -> dict[str, Any]:
    size = pod.resource
    return {
        "role": pod.role,
        "index": pod.number,
        "hostname": pod.hostname,
        "cores": size.cores,
        "memoryMb": size.memory_mb,
        "swapMb": size.swap_mb,
        "diskGb": size.disk_gb,
        "dependsOn": list(pod.after),
        "node": written.node.name,
        "reasons": job.as_json()["placement"],
    }
