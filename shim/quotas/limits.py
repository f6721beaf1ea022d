"""A tenant's limits: its plan's, and they change with the plan, until somebody sets others for this tenant.

Limits below what is used are taken: they only stop the tenant from growing.
"""

from pydantic.alias_generators import to_camel

from shim.db import database
from shim.events.models import CloudPodEvent
from shim.quotas.models import TenantQuota
from shim.quotas.schemas import ChangeQuota
from shim.tenants.models import LIMITS, Plan, Tenant
from shim.tenants.users import Check


def set_limits(tenant_id: str, request: ChangeQuota, check: Check) -> TenantQuota:
    """Write the limits that the request names and an event; `check` raises when the row is not as the client knows it."""
    with database.atomic():
        tenant = Tenant.hold(tenant_id)
        plan = Plan.chosen(tenant.plan_id)
        quota = TenantQuota.hold(tenant)
        check(quota.updated_at)
        if "follows_plan" in request.model_fields_set:
            _write(quota, plan.limits(), follows_plan=True)
        elif request.model_fields_set:
            _write(quota, {**quota.limits(), **request.columns()}, follows_plan=False)
        return TenantQuota.of(tenant)


def follow_plan(tenant: Tenant, plan: Plan) -> None:
    """Give the tenant this plan's limits, now and whenever they change. Call with tenant and plan locked."""
    _write(TenantQuota.hold(tenant), plan.limits(), follows_plan=True)


def follow_all(plan: Plan, before: dict[str, int]) -> None:
    """Give the plan's limits, which were `before`, to every tenant that follows it. Call with the plan locked."""
    for tenant_id in TenantQuota.follow(plan):
        _record(tenant_id, before, plan.limits(), follows_plan=True)


def _write(quota: TenantQuota, limits: dict[str, int], *, follows_plan: bool) -> None:
    before = quota.limits()
    if (limits, follows_plan) == (before, quota.follows_plan):
        return
    quota.change(follows_plan=follows_plan, **limits)
    _record(quota.tenant_id, before, limits, follows_plan=follows_plan)


def _record(tenant_id: str, before: dict[str, int], after: dict[str, int], *, follows_plan: bool) -> None:
    CloudPodEvent.record(
        "INFO",
        "quota limits changed",
        tenant_id=tenant_id,
        action="QUOTA_LIMITS_CHANGED",
        before=_spoken(before),
        after=_spoken(after),
        followsPlan=follows_plan,
    )


def _spoken(limits: dict[str, int]) -> dict[str, int]:
    return {to_camel(name): limits[name] for name in LIMITS}
