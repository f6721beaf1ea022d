"""Lists of pods over HTTP."""

from typing import Any

import falcon

from shim.cloudpods.answer_schemas import ListedPodAnswer
from shim.cloudpods.listing import Filters, list_pods
from shim.cloudpods.schemas import PodsQuery, TenantPodsQuery
from shim.web.operation import operation
from shim.web.schema import PageAnswer


class AllPods:
    """`GET /internal/cloudpods`."""

    @operation(permission="pods:read", query=PodsQuery, answer=PageAnswer[ListedPodAnswer])
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Answer with a page of all tenants' pods, newest first; deleted ones only when asked for by status."""
        asked: PodsQuery = request.context.query
        response.media = _page(asked, asked.tenant_id)


class TenantPods:
    """`GET /internal/tenants/{id}/cloudpods`."""

    @operation(permission="pods:read", query=TenantPodsQuery, answer=PageAnswer[ListedPodAnswer])
    def on_get(self, request: falcon.Request, response: falcon.Response, tenant_id: str) -> None:
        """Answer with a page of the tenant's pods, newest first; deleted ones only when asked for by status."""
        response.media = _page(request.context.query, tenant_id)


def _page(asked: TenantPodsQuery, tenant_id: str | None) -> dict[str, Any]:
    filters = Filters(tenant_id, asked.status, asked.region, asked.node, asked.hostname)
    pods, cursor = list_pods(filters, asked.page(keys=2))
    return {"items": [{**pod.as_json(), "role": pod.role, "blueprint": pod.blueprint} for pod in pods], "next": cursor}
