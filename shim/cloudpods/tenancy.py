"""Tenants made, changed and deleted, with their quotas and a look at their pods.

Whoever gives a tenant a pod holds `Tenant.keep`: it waits for a deletion that is looking, as that one waits for it.
"""

from collections.abc import Callable
from typing import Any

from shim import db
from shim.cloudpods.models import CloudPod
from shim.config import Settings
from shim.db import database, new_id
from shim.errors import Conflict
from shim.events.models import CloudPodEvent
from shim.jobs.models import CloudPodJob
from shim.quotas import limits
from shim.quotas.models import TenantQuota
from shim.tenants import slug
from shim.tenants.models import DELETED, Plan, Tenant, User
from shim.tenants.refusals import taken
from shim.tenants.schemas import ChangeTenant, CreateTenant
from shim.tenants.users import Check


def create(request: CreateTenant, settings: Settings) -> Tenant:
    """Write the tenant, its quota with its plan's limits, and an event.

    Raises Invalid for an owner or plan that is not there, Conflict for an id or slug that another has.
    """
    with database.atomic():
        User.chosen(request.owner_user_id, field="ownerUserId")
        plan = Plan.chosen(request.plan_id)
        id = request.id or new_id()
        given = {"id": id, "slug": request.slug or _slug(request.name, id), "region": request.region or settings.region}
        with taken("tenant"):
            Tenant.insert({**request.model_dump(), **given}).execute()
        tenant = Tenant.find(id)
        TenantQuota.ensure(tenant, plan)
        CloudPodEvent.record("INFO", "tenant created", tenant_id=id, action="TENANT_CREATED", **_spoken(tenant))
        return tenant


def change(tenant_id: str, request: ChangeTenant, check: Check) -> Tenant:
    """Write what the request names and an event, and another plan's limits.

    `check` raises when the row is not as the client knows it.
    """
    with database.atomic():
        tenant = Tenant.hold(tenant_id)
        check(tenant.updated_at)
        columns = {name: value for name, value in request.columns().items() if value != getattr(tenant, name)}
        if not columns:
            return tenant
        plan = _chosen(columns, tenant)
        with taken("tenant"):
            Tenant.update(updated_at=db.now(), **columns).where(Tenant.id == tenant_id).execute()
        changed = Tenant.find(tenant_id)
        before, after = _spoken(tenant), _spoken(changed)
        CloudPodEvent.record("INFO", "tenant changed", tenant_id=tenant_id, action="TENANT_CHANGED", before=before, after=after)
        if plan is not None:
            limits.follow_plan(changed, plan)
        return changed


def delete(tenant_id: str, check: Check, deployments: Callable[[str], list[str]]) -> None:
    """Mark the tenant as deleted, free its slug and write an event.

    Raises Conflict while it has pods, unfinished jobs, or `deployments`, which tells the ids of those that are not gone.
    """
    with database.atomic():
        tenant = Tenant.hold(tenant_id)
        check(tenant.updated_at)
        pods, jobs = CloudPod.remaining(tenant_id), CloudPodJob.unfinished(tenant_id)
        if pods:
            raise Conflict(f"tenant {tenant_id} has pods; destroy them first", code="tenant_has_pods", vmids=pods)
        if jobs:
            raise Conflict(f"tenant {tenant_id} has unfinished jobs; wait for them", code="tenant_has_jobs", jobIds=jobs)
        if stacks := deployments(tenant_id):
            said = f"tenant {tenant_id} has deployments; destroy them first"
            raise Conflict(said, code="tenant_has_deployments", deploymentIds=stacks)
        free = f"{tenant.slug}{DELETED}{tenant_id}"
        Tenant.update(deleted_at=db.now(), updated_at=db.now(), slug=free).where(Tenant.id == tenant_id).execute()
        CloudPodEvent.record("INFO", "tenant deleted", tenant_id=tenant_id, action="TENANT_DELETED", **_spoken(tenant))


def _chosen(columns: dict[str, Any], tenant: Tenant) -> Plan | None:
    """Return the plan that a change chooses, if it does; raise Invalid for a plan or owner that is not there.

    Both plans, the one before too, stay as they are until the transaction ends: a change of either would else reach the quota
    of a tenant that just leaves it, or miss that of one that just comes.
    """
    if "owner_user_id" in columns:
        User.chosen(columns["owner_user_id"], field="ownerUserId")
    if "plan_id" not in columns:
        return None
    Plan.chosen(tenant.plan_id)
    return Plan.chosen(columns["plan_id"])


def _slug(name: str, id: str) -> str:
    made = slug.of(name)
    return made if made and Tenant.slug_free(made) else slug.told_apart(made, id)


def _spoken(tenant: Tenant) -> dict[str, Any]:
    told = tenant.as_json()
    return {name: told[name] for name in ("name", "slug", "ownerUserId", "planId", "region")}
