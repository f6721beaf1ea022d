"""Tenants over HTTP, and what they used."""

from collections.abc import Callable
from functools import partial

import falcon

from shim.cloudpods import tenancy, usage
from shim.cloudpods.answer_schemas import UsageAnswer
from shim.cloudpods.models import CloudPod
from shim.cloudpods.schemas import UsageQuery
from shim.config import Settings
from shim.tenants.models import Tenant
from shim.tenants.schemas import ChangeTenant, CreateTenant, TenantAnswer, TenantsQuery
from shim.web import body, etag, paging, rows
from shim.web.operation import operation
from shim.web.schema import PageAnswer, Query


class Tenants:
    """`/internal/tenants`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @operation(permission="manage", query=TenantsQuery, answer=PageAnswer[TenantAnswer])
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Answer with a page of tenants, newest first; `?deleted=1` lists the deleted ones instead."""
        asked: TenantsQuery = request.context.query
        rows.page(response, Tenant.listed(**rows.filters(asked)), Tenant, asked)

    @operation(permission="manage", query=Query, body=CreateTenant, answer=TenantAnswer, status=201, etag=True)
    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Make a tenant, with a quota of its plan's limits."""
        rows.created(request, response, tenancy.create(body.read(request, CreateTenant), self._settings))


class OneTenant:
    """`/internal/tenants/{id}`; `deployments` tells a tenant's that are not gone."""

    def __init__(self, deployments: Callable[[str], list[str]]) -> None:
        self._deployments = deployments

    @operation(permission="pods:read", query=Query, answer=TenantAnswer, etag=True)
    def on_get(self, request: falcon.Request, response: falcon.Response, tenant_id: str) -> None:
        """Answer with the tenant, be it deleted."""
        rows.show(response, Tenant.known(tenant_id))

    @operation(permission="manage", query=Query, body=ChangeTenant, answer=TenantAnswer, etag=True)
    def on_put(self, request: falcon.Request, response: falcon.Response, tenant_id: str) -> None:
        """Change the fields that are named; another plan brings its limits."""
        rows.show(response, tenancy.change(tenant_id, body.read(request, ChangeTenant), partial(etag.check, request)))

    @operation(permission="manage", query=Query, status=204, etag=True)
    def on_delete(self, request: falcon.Request, response: falcon.Response, tenant_id: str) -> None:
        """Delete a tenant that has neither pods nor unfinished jobs nor deployments; what it had stays known."""
        tenancy.delete(tenant_id, partial(etag.check, request), self._deployments)
        response.status = falcon.HTTP_204


class Usage:
    """`GET /internal/tenants/{id}/usage`."""

    @operation(permission="quota:read", query=UsageQuery, answer=PageAnswer[UsageAnswer])
    def on_get(self, request: falcon.Request, response: falcon.Response, tenant_id: str) -> None:
        """Answer with a page of the pods that the tenant had between `since` and `until`, newest first."""
        asked: UsageQuery = request.context.query
        query = usage.of(tenant_id, since=asked.since, until=asked.until)
        found, cursor = paging.newest_first(query, CloudPod, asked.page(keys=2))
        response.media = {"items": [usage.as_json(pod) for pod in found], "next": cursor}
