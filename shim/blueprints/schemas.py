"""What clients may ask of blueprints and deployments, and what they get."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from shim.blueprints.spec import RoleName, StepName
from shim.cloudpods.answer_schemas import QuotaPlanAnswer
from shim.tenants.schemas import Description, Slug, Title
from shim.web.paging import PageQuery
from shim.web.schema import Answer, Flag, Json, Moment, Name, Query, Request

# Behind the tenant's slug in the names of pods.
StackName = Annotated[str, Field(pattern=r"^[a-z0-9](-?[a-z0-9]){0,31}$", max_length=32)]
Status = Literal["creating", "configuring", "active", "failed", "rolling_back", "rolled_back", "destroying", "destroyed"]

_STACK: Any = {
    "name": "WordPress",
    "slug": "wordpress-small",
    "spec": {
        "version": 1,
        "resources": [{"kind": "CloudPod", "role": "app", "hostnamePattern": "wp-{tenantSlug}", "cores": 1, "memoryMb": 1024}],
        "postCreate": [],
    },
}


class CreateBlueprint(Request):
    """`POST /internal/blueprints`; `spec` is described in docs/blueprints.md."""

    model_config = ConfigDict(json_schema_extra={"examples": [_STACK]})

    name: Title
    slug: Slug
    description: Description | None = None
    spec: dict[str, Any]


class ChangeBlueprint(Request):
    """`PUT /internal/blueprints/{slug}`: the blueprint as it is to be; its deployments stay what they are."""

    name: Title
    description: Description | None = None
    spec: dict[str, Any]


class DeployBlueprint(Request):
    """`POST /internal/blueprints/{slug}/deploy`; `name` tells a tenant's further stack of a blueprint from the first one."""

    tenant_id: Name
    name: StackName | None = None
    parameters: Annotated[dict[str, Any], Field(max_length=50, default_factory=dict)]
    policy: Literal["rollback", "keep"] = "rollback"
    node: Name | None = None
    region: Name | None = None
    requested_by: Name | None = None


class RemoveQuery(Query):
    """Whether the pods are to go although what the steps did elsewhere cannot be undone."""

    force: Flag = False


class DeploymentsQuery(PageQuery):
    """Which deployments."""

    tenant_id: str | None = None
    blueprint: str | None = None
    status: Status | None = None


class BlueprintAnswer(Answer):
    """What a stack is to be."""

    id: str
    name: str
    slug: str
    description: str | None
    spec: dict[str, Json]
    created_at: Moment
    updated_at: Moment


class ListedDeploymentAnswer(Answer):
    """A deployment as lists show it. Secret parameters, and what was generated, are not shown."""

    id: str
    blueprint: str
    blueprint_id: str
    tenant_id: str
    name: str | None
    status: Status
    policy: Literal["rollback", "keep"]
    parameters: dict[str, Json]
    outputs: dict[str, Json]
    error: str | None
    failed_step: str | None
    requested_by: str | None
    request_id: str | None
    created_at: Moment
    updated_at: Moment
    finished_at: Moment | None


class StackPodAnswer(Answer):
    """A pod of a deployment."""

    role: str
    index: int
    hostname: str
    cloud_pod_id: str
    vmid: int
    ip: str
    node: str
    status: Literal["provisioning", "active", "failed", "deleting", "deleted"]
    job_id: str


class StepAnswer(Answer):
    """A step of a deployment, in the order in which they are played; `reason` is why it is left out."""

    name: StepName
    role: str
    targets: list[RoleName]
    status: Literal["waiting", "running", "done", "failed", "left_out"]
    reason: str | None
    seconds: float | None


class DeploymentAnswer(ListedDeploymentAnswer):
    """A stack made after a blueprint; `jobId` is the job that configures it, or undoes that, in what it does now."""

    pods: list[StackPodAnswer]
    steps: list[StepAnswer]
    job_id: str | None


class PlannedPodAnswer(Answer):
    """A pod that a deployment would make, when those of the roles `dependsOn` are there; `reasons` why its node was chosen."""

    role: str
    index: int
    hostname: str
    cores: int
    memory_mb: int
    swap_mb: int
    disk_gb: int
    depends_on: list[RoleName]
    node: str
    reasons: Json


class PlannedStepAnswer(Answer):
    """A step that a deployment would play, or would leave out for a reason."""

    name: StepName
    role: str
    targets: list[RoleName]
    reason: str | None


class PlanAnswer(Answer):
    """What a deployment would come to."""

    pods: list[PlannedPodAnswer]
    steps: list[PlannedStepAnswer]
    outputs: dict[str, Json]
    quota: QuotaPlanAnswer


class DeployAnswer(Answer):
    """A deployment that was taken; of a dry run the plan instead."""

    deployment: DeploymentAnswer | None
    plan: PlanAnswer | None
