"""Lists of pods over HTTP."""

from typing import Any

import falcon

from shim.cloudpods.listing import STATUSES, Filters, list_pods
from shim.errors import Invalid
from shim.web import paging
from shim.web.operation import operation

_FILTERS = ("status", "region", "node", "hostname")


class AllPods:
    """`GET /internal/cloudpods`."""

    @operation(permission="pods:read")
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Answer with a page of all tenants' pods, newest first; deleted ones only when asked for by status."""
        paging.known_only(request, "tenantId", *_FILTERS, "limit", "cursor")
        response.media = _page(request, request.get_param("tenantId"))


class TenantPods:
    """`GET /internal/tenants/{id}/cloudpods`."""

    @operation(permission="pods:read")
    def on_get(self, request: falcon.Request, response: falcon.Response, tenant_id: str) -> None:
        """Answer with a page of the tenant's pods, newest first; deleted ones only when asked for by status."""
        paging.known_only(request, *_FILTERS, "limit", "cursor")
        response.media = _page(request, tenant_id)


def _page(request: falcon.Request, tenant_id: str | None) -> dict[str, Any]:
    status = request.get_param("status")
    if status is not None and status not in STATUSES:
        raise Invalid.field("status", "must be one of: " + ", ".join(STATUSES))
    region, node, hostname = (request.get_param(name) for name in ("region", "node", "hostname"))
    pods, cursor = list_pods(Filters(tenant_id, status, region, node, hostname), paging.read(request, keys=2))
    return {"items": [{**pod.as_json(), "role": pod.role, "blueprint": pod.blueprint} for pod in pods], "next": cursor}
