"""Tenants over HTTP, and what they used."""

from datetime import UTC, datetime
from functools import partial

import falcon

from shim.cloudpods import tenancy, usage
from shim.cloudpods.models import CloudPod
from shim.config import Settings
from shim.errors import Invalid
from shim.tenants.models import Tenant
from shim.tenants.schemas import ChangeTenant, CreateTenant
from shim.web import body, etag, paging, rows
from shim.web.operation import operation


class Tenants:
    """`/internal/tenants`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @operation(permission="manage")
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Answer with a page of tenants, newest first; `?deleted=1` lists the deleted ones instead."""
        filters = rows.filters(request, "slug", "planId", "region", "ownerUserId", further=("deleted",))
        deleted = request.get_param_as_bool("deleted") or False
        rows.page(request, response, Tenant.listed(filters, deleted=deleted), Tenant)

    @operation(permission="manage", body=CreateTenant, status=201)
    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Make a tenant, with a quota of its plan's limits."""
        paging.known_only(request)
        rows.created(request, response, tenancy.create(body.read(request, CreateTenant), self._settings))


class OneTenant:
    """`/internal/tenants/{id}`."""

    @operation(permission="pods:read")
    def on_get(self, request: falcon.Request, response: falcon.Response, tenant_id: str) -> None:
        """Answer with the tenant, be it deleted."""
        paging.known_only(request)
        rows.show(response, Tenant.known(tenant_id))

    @operation(permission="manage", body=ChangeTenant)
    def on_put(self, request: falcon.Request, response: falcon.Response, tenant_id: str) -> None:
        """Change the fields that are named; another plan brings its limits."""
        paging.known_only(request)
        rows.show(response, tenancy.change(tenant_id, body.read(request, ChangeTenant), partial(etag.check, request)))

    @operation(permission="manage", status=204)
    def on_delete(self, request: falcon.Request, response: falcon.Response, tenant_id: str) -> None:
        """Delete a tenant that has neither pods nor unfinished jobs; what it had stays known."""
        paging.known_only(request)
        tenancy.delete(tenant_id, partial(etag.check, request))
        response.status = falcon.HTTP_204


class Usage:
    """`GET /internal/tenants/{id}/usage`."""

    @operation(permission="quota:read")
    def on_get(self, request: falcon.Request, response: falcon.Response, tenant_id: str) -> None:
        """Answer with a page of the pods that the tenant had between `since` and `until`, newest first."""
        paging.known_only(request, "since", "until", "limit", "cursor")
        query = usage.of(tenant_id, usage.Window(_moment(request, "since"), _moment(request, "until")))
        found, cursor = paging.newest_first(query, CloudPod, paging.read(request, keys=2))
        response.media = {"items": [usage.as_json(pod) for pod in found], "next": cursor}


def _moment(request: falcon.Request, name: str) -> datetime | None:
    text = request.get_param(name)
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise Invalid.field(name, "must be a moment with its zone, such as 2026-01-31T00:00:00Z (a + is written %2B)")
