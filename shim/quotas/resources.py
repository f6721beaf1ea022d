"""Plans and quotas over HTTP."""

from functools import partial

import falcon

from shim.quotas import limits, plans
from shim.quotas.models import TenantQuota
from shim.quotas.schemas import ChangeQuota, QuotaAnswer
from shim.tenants.models import Plan, Tenant
from shim.tenants.schemas import ChangePlan, CreatePlan, PlanAnswer, PlansQuery
from shim.web import body, etag, rows
from shim.web.operation import operation
from shim.web.schema import PageAnswer, Query


class Plans:
    """`/internal/plans`."""

    @operation(permission="manage", query=PlansQuery, answer=PageAnswer[PlanAnswer])
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Answer with a page of plans, newest first."""
        asked: PlansQuery = request.context.query
        rows.page(response, Plan.listed(**rows.filters(asked)), Plan, asked)

    @operation(permission="manage", query=Query, body=CreatePlan, answer=PlanAnswer, status=201, etag=True)
    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Make a plan."""
        rows.created(request, response, plans.create(body.read(request, CreatePlan)))


class OnePlan:
    """`/internal/plans/{id}`."""

    @operation(permission="manage", query=Query, answer=PlanAnswer, etag=True)
    def on_get(self, request: falcon.Request, response: falcon.Response, plan_id: str) -> None:
        """Answer with the plan."""
        rows.show(response, Plan.find(plan_id))

    @operation(permission="manage", query=Query, body=ChangePlan, answer=PlanAnswer, etag=True)
    def on_put(self, request: falcon.Request, response: falcon.Response, plan_id: str) -> None:
        """Change the fields that are named; new limits are those of all tenants on the plan that have none of their own."""
        rows.show(response, plans.change(plan_id, body.read(request, ChangePlan), partial(etag.check, request)))

    @operation(permission="manage", query=Query, status=204, etag=True)
    def on_delete(self, request: falcon.Request, response: falcon.Response, plan_id: str) -> None:
        """Delete a plan that no tenant has."""
        plans.delete(plan_id, partial(etag.check, request))
        response.status = falcon.HTTP_204


class Quota:
    """`/internal/tenants/{id}/quota`."""

    @operation(permission="quota:read", query=Query, answer=QuotaAnswer, etag=True)
    def on_get(self, request: falcon.Request, response: falcon.Response, tenant_id: str) -> None:
        """Answer with the tenant's limits and what it uses of them."""
        rows.show(response, TenantQuota.of(Tenant.known(tenant_id)))

    @operation(permission="manage", query=Query, body=ChangeQuota, answer=QuotaAnswer, etag=True)
    def on_put(self, request: falcon.Request, response: falcon.Response, tenant_id: str) -> None:
        """Set limits for this tenant, or let it follow its plan again."""
        rows.show(response, limits.set_limits(tenant_id, body.read(request, ChangeQuota), partial(etag.check, request)))
