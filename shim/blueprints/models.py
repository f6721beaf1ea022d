"""The tables of blueprints (the master spec's section 1.4), of their deployments and of these ones' pods."""

from typing import Any

import peewee
from playhouse.postgres_ext import BinaryJSONField

from shim import caller, db, faults
from shim.blueprints.plan import stack_slug
from shim.cloudpods.models import CloudPod
from shim.db import Model, new_id
from shim.errors import NotFound
from shim.jobs.models import CloudPodJob
from shim.nodes.models import CloudPodNode
from shim.tenants.models import DELETED, Tenant

# What a deployment is when something is to be done still, or being done.
UNDER_WAY = ("creating", "configuring", "rolling_back", "destroying")
GONE = ("rolled_back", "destroyed")

# Those whose next step nobody ordered: asked to take another course, or none of their jobs is unfinished.
_DUE = """
SELECT d.id FROM blueprint_deployments d
WHERE d.status IN ('creating', 'configuring', 'rolling_back', 'destroying') AND (d.due OR NOT EXISTS (
    SELECT 1 FROM cloud_pod_jobs j WHERE j.deployment_id = d.id AND j.status IN ('queued', 'running')))
ORDER BY d.created_at LIMIT %s
"""

_BEGUN = """
SELECT substr(message, 7) FROM cloud_pod_events
WHERE job_id = %s AND data->>'action' = 'progress' AND starts_with(message, 'Begin ') ORDER BY seq DESC LIMIT 1
"""


class Blueprint(Model):
    """What a stack is to be."""

    id = peewee.TextField(primary_key=True, default=new_id)
    name = peewee.TextField()
    slug = peewee.TextField(unique=True)
    description = peewee.TextField(null=True)
    spec = BinaryJSONField(index=False)
    created_at = peewee.DateTimeField()
    updated_at = peewee.DateTimeField()
    deleted_at = peewee.DateTimeField(null=True)

    class Meta:
        table_name = "blueprints"

    @classmethod
    def listed(cls) -> Any:
        """Return the query of all that are there."""
        return cls.select().where(cls.deleted_at.is_null())

    @classmethod
    def find(cls, slug: str, *, held: str | None = None) -> "Blueprint":
        """Return the blueprint, `held` by this lock (FOR UPDATE, FOR SHARE) if one is named. Raises NotFound."""
        query = cls.listed().where(cls.slug == slug)
        found: Blueprint | None = None
        if "\x00" not in slug:
            found = (query.for_update(held) if held else query).first()
        if found is None:
            raise NotFound(f"there is no blueprint {slug!r}", code="blueprint_not_found")
        return found

    def as_json(self) -> dict[str, Any]:
        """Return the blueprint as clients see it."""
        return {
            "id": self.id,
            "name": self.name,
            "slug": self.slug,
            "description": self.description,
            "spec": self.spec,
            "createdAt": db.iso(self.created_at),
            "updatedAt": db.iso(self.updated_at),
        }


class Deployment(Model):
    """A stack made after a blueprint."""

    id = peewee.TextField(primary_key=True, default=new_id)
    blueprint_id: str
    blueprint = peewee.ForeignKeyField(Blueprint, column_name="blueprint_id")
    tenant_id: str
    tenant = peewee.ForeignKeyField(Tenant, column_name="tenant_id")
    # Which of the tenant's stacks of the blueprint it is; the first needs no name.
    name = peewee.TextField(null=True)
    status = peewee.TextField(default="creating")
    policy = peewee.TextField(default="rollback")
    spec = BinaryJSONField(index=False)
    parameters = BinaryJSONField(default=dict, index=False)
    # For the variables of its runs alone: no answer, event, payload or log has them.
    secrets = BinaryJSONField(default=dict, index=False)
    steps = BinaryJSONField(default=list, index=False)
    outputs = BinaryJSONField(default=dict, index=False)
    error = peewee.TextField(null=True)
    failed_step = peewee.TextField(null=True)
    # What it was told to do last when that was to go: a retry goes on with that.
    undoing = peewee.TextField(null=True)
    # Its pods are to go although its steps cannot be undone.
    forced = peewee.BooleanField(default=False)
    region = peewee.TextField(null=True)
    node = peewee.TextField(null=True)
    requested_by = peewee.TextField(null=True)
    request_id = peewee.TextField(null=True)
    job_id = peewee.TextField(null=True)
    phase_since = peewee.DateTimeField()
    due = peewee.BooleanField(default=False)
    created_at = peewee.DateTimeField()
    updated_at = peewee.DateTimeField()
    finished_at = peewee.DateTimeField(null=True)

    class Meta:
        table_name = "blueprint_deployments"

    @classmethod
    def listed(cls, **columns: Any) -> Any:
        """Return the query of those that whoever asks may know of, with these values; `blueprint` is a slug."""
        query = cls.select(cls, Blueprint).join(Blueprint)
        slug = columns.pop("blueprint", None)
        if slug is not None:
            query = query.where(Blueprint.slug == slug)
        only = caller.only_tenant()
        if only is not None:
            query = query.where(cls.tenant == only)
        for name, value in columns.items():
            query = query.where(getattr(cls, name) == value)
        return query

    @classmethod
    def find(cls, deployment_id: str) -> "Deployment":
        """Return the deployment. Raises NotFound, also for another tenant's."""
        found: Deployment | None = None
        if "\x00" not in deployment_id:
            found = cls.listed().where(cls.id == deployment_id).first()
        if found is None:
            raise NotFound(f"there is no deployment {deployment_id!r}", code="deployment_not_found")
        return found

    @classmethod
    def hold(cls, deployment_id: str) -> "Deployment":
        """Return the deployment as `find` does, its row locked to the end of the transaction.

        Locked first of all: the ends of jobs, which hold pods and quota, never wait for it.
        """
        cls.find(deployment_id)
        db.rows("SELECT 1 FROM blueprint_deployments WHERE id = %s FOR NO KEY UPDATE", (deployment_id,))
        return cls.find(deployment_id)

    @classmethod
    def due_now(cls, at_most: int) -> list[str]:
        """Return the ids of those whose next step nobody ordered."""
        return [row[0] for row in db.rows(_DUE, (at_most,))]

    @classmethod
    def alive_of(cls, blueprint: Blueprint) -> str | None:
        """Return the id of a deployment of a blueprint that is not gone, None without one."""
        return (  # type: ignore[no-any-return]
            cls.select(cls.id).where(cls.blueprint == blueprint.id, cls.status.not_in(GONE)).limit(1).scalar()
        )

    @classmethod
    def alive_of_tenant(cls, tenant_id: str) -> list[str]:
        """Return the ids of the tenant's deployments that are not gone."""
        return [row.id for row in cls.select(cls.id).where(cls.tenant == tenant_id, cls.status.not_in(GONE))]

    def slug(self) -> str:
        """Return what stands for `{tenantSlug}` in its names."""
        return stack_slug(self.tenant.slug, self.name)

    def played_steps(self) -> list[dict[str, Any]]:
        """Return the steps that are played, those without which are left out."""
        return [step for step in self.steps if not step.get("left_out")]

    @classmethod
    def having(cls, tenant_id: str, hostnames: list[str]) -> tuple[str, str] | None:
        """Return the first of these names that a pod of the tenant's deployments has, with that deployment's id."""
        named = peewee.fn.lower(CloudPod.hostname)
        query = DeploymentPod.select(CloudPod.hostname, cls.id).join(CloudPod).switch(DeploymentPod).join(cls)
        theirs = query.where(cls.tenant == tenant_id, cls.status.not_in(GONE), named.in_([name.lower() for name in hostnames]))
        found: tuple[str, str] | None = theirs.order_by(DeploymentPod.position).tuples().first()
        return found

    def change(self, **columns: Any) -> None:
        """Write these columns."""
        Deployment.update(updated_at=db.now(), **columns).where(Deployment.id == self.id).execute()
        for name, value in columns.items():
            setattr(self, name, value)

    def begin(self, status: str, **columns: Any) -> None:
        """Write that it does something else from now on."""
        self.change(status=status, phase_since=peewee.fn.clock_timestamp(), job_id=None, finished_at=None, **columns)
        self.phase_since = Deployment.select(Deployment.phase_since).where(Deployment.id == self.id).scalar()

    def pods(self) -> list["DeploymentPod"]:
        """Return its pods, with their nodes, in the order in which they are made."""
        with_pods = DeploymentPod.select(DeploymentPod, CloudPod, CloudPodNode, CloudPodJob)
        joined = with_pods.join(CloudPod).join(CloudPodNode).switch(DeploymentPod).join(CloudPodJob)
        return list(joined.where(DeploymentPod.deployment == self.id).order_by(DeploymentPod.position))

    def unfinished_jobs(self) -> list[CloudPodJob]:
        """Return its jobs that are not over."""
        of_it = CloudPodJob.deployment_id == self.id
        return list(CloudPodJob.select().where(of_it, CloudPodJob.status.in_(("queued", "running"))))

    def configured_ever(self) -> bool:
        """Return whether a run that configures it was ever begun, so that there may be something to undo."""
        of_it = (CloudPodJob.deployment_id == self.id) & (CloudPodJob.type == "BLUEPRINT")
        return bool(CloudPodJob.select().where(of_it, CloudPodJob.attempt > 0).exists())

    def job(self) -> CloudPodJob | None:
        """Return the job that configures it, or undoes that, in what it does now."""
        return CloudPodJob.get_or_none(CloudPodJob.id == self.job_id) if self.job_id else None

    def summary(self) -> dict[str, Any]:
        """Return the deployment as lists show it."""
        error = faults.text(self.error) if caller.only_tenant() is not None else self.error
        return {
            "id": self.id,
            "blueprint": self.blueprint.slug.split(DELETED)[0],
            "blueprintId": self.blueprint_id,
            "tenantId": self.tenant_id,
            "name": self.name,
            "status": self.status,
            "policy": self.policy,
            "parameters": self.parameters,
            "outputs": self.outputs,
            "error": error,
            "failedStep": self.failed_step,
            "requestedBy": self.requested_by,
            "requestId": self.request_id,
            "createdAt": db.iso(self.created_at),
            "updatedAt": db.iso(self.updated_at),
            "finishedAt": db.iso(self.finished_at),
        }

    def as_json(self) -> dict[str, Any]:
        """Return the deployment as clients see it."""
        more = {"steps": self._told_steps(), "pods": [pod.as_json() for pod in self.pods()], "jobId": self.job_id}
        return {**self.summary(), **more}

    def _told_steps(self) -> list[dict[str, Any]]:
        names = [step["name"] for step in self.steps]
        begun = self._begun_step() if self.status == "configuring" else None
        before = names[: names.index(begun)] if begun in names else []
        return [
            {
                **{name: step[name] for name in ("name", "role", "targets")},
                "status": self._said_of(step, before, begun),
                "reason": step.get("left_out"),
                "seconds": step.get("seconds"),
            }
            for step in self.steps
        ]

    def _said_of(self, step: dict[str, Any], before: list[str], begun: str | None) -> str:
        if step.get("left_out"):
            return "left_out"
        if step["name"] == begun:
            return "running"
        if step.get("done") or step["name"] in before:
            return "done"
        return "failed" if step["name"] == self.failed_step else "waiting"

    def _begun_step(self) -> str | None:
        """Return the step that the run has come to, by the task that the playbook begins each with."""
        found = db.rows(_BEGUN, (self.job_id,))
        return found[0][0] if found else None


class DeploymentPod(Model):
    """A pod of a deployment: which of its role's it is, and the job that makes it."""

    deployment_id: str
    deployment = peewee.ForeignKeyField(Deployment, column_name="deployment_id")
    position = peewee.IntegerField()
    role = peewee.TextField()
    number = peewee.IntegerField()
    cloud_pod_id: str
    cloud_pod = peewee.ForeignKeyField(CloudPod, column_name="cloud_pod_id")
    job_id: str
    job = peewee.ForeignKeyField(CloudPodJob, column_name="job_id")

    class Meta:
        table_name = "blueprint_deployment_pods"
        primary_key = peewee.CompositeKey("deployment", "position")

    def as_json(self) -> dict[str, Any]:
        """Return the pod's part of its deployment as clients see it."""
        pod = self.cloud_pod
        return {
            "role": self.role,
            "index": self.number,
            "hostname": pod.hostname,
            "cloudPodId": pod.id,
            "vmid": pod.vmid,
            "ip": pod.ip,
            "node": pod.node.name,
            "status": pod.status,
            "jobId": self.job_id,
        }
