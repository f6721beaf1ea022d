"""Plans made, changed and deleted. A changed plan changes the limits of the tenants that follow it; pods keep what was sold."""

from shim import db
from shim.db import database
from shim.events.models import CloudPodEvent
from shim.quotas import limits
from shim.tenants import slug
from shim.tenants.models import Plan
from shim.tenants.refusals import in_use, taken
from shim.tenants.schemas import ChangePlan, CreatePlan
from shim.tenants.users import Check


def create(request: CreatePlan) -> Plan:
    """Write the plan and an event. Raises Conflict for an id or slug that another has."""
    with database.atomic():
        short = request.slug or slug.of(request.id or request.name) or slug.told_apart("plan", request.name)
        columns = {**request.model_dump(), "id": request.id or short, "slug": short}
        with taken("plan"):
            Plan.insert(columns).execute()
        plan = Plan.find(columns["id"])
        CloudPodEvent.record("INFO", "plan created", action="PLAN_CREATED", planId=plan.id, plan=plan.snapshot())
        return plan


def change(plan_id: str, request: ChangePlan, check: Check) -> Plan:
    """Write what the request names and an event, and the new limits to the quotas that follow the plan.

    `check` raises when the row is not as the client knows it.
    """
    with database.atomic():
        plan = Plan.hold(plan_id)
        check(plan.updated_at)
        columns = {name: value for name, value in request.columns().items() if value != getattr(plan, name)}
        if not columns:
            return plan
        with taken("plan"):
            Plan.update(updated_at=db.now(), **columns).where(Plan.id == plan_id).execute()
        changed = Plan.find(plan_id)
        before, after = plan.snapshot(), changed.snapshot()
        CloudPodEvent.record("INFO", "plan changed", action="PLAN_CHANGED", planId=plan_id, before=before, after=after)
        if changed.limits() != plan.limits():
            limits.follow_all(changed, plan.limits())
        return changed


def delete(plan_id: str, check: Check) -> None:
    """Delete the plan and write an event. Raises Conflict for one that a tenant has or had when it was deleted."""
    with database.atomic():
        check(Plan.hold(plan_id).updated_at)
        with in_use("plan", plan_id):
            Plan.delete().where(Plan.id == plan_id).execute()
        CloudPodEvent.record("INFO", "plan deleted", action="PLAN_DELETED", planId=plan_id)
