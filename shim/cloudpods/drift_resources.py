"""Drift over HTTP: what looks at nodes found, and the order to look now."""

from typing import Any

import falcon

from shim.cloudpods import compare, reconcile
from shim.cloudpods.drift_models import DriftReport
from shim.errors import Invalid
from shim.jobs import looks
from shim.jobs.queue import Wakeups
from shim.web import paging
from shim.web.operation import operation


class Drift:
    """`GET /internal/drift`."""

    @operation(permission="manage")
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Answer with the newest report of each node, or with `history=1` with all that are kept, newest first."""
        paging.known_only(request, "node", "kind", "tenantId", "history", "limit", "cursor")
        kind, node = request.get_param("kind"), request.get_param("node")
        if kind is not None and kind not in compare.KINDS:
            raise Invalid.field("kind", f"must be one of {', '.join(compare.KINDS)}")
        list_reports = _history if request.get_param_as_bool("history") else _newest
        found, following = list_reports(request, node)
        shown = {"kind": kind, "tenant_id": request.get_param("tenantId")}
        response.media = {"items": [report.as_json(**shown) for report in found], "next": following}


class NodeLook:
    """`POST /internal/nodes/{node}/reconcile` and `/sync`: a look at a node now."""

    def __init__(self, type: str, payload: dict[str, Any], wakeups: Wakeups) -> None:
        self._type, self._payload = type, payload
        self._wakeups = wakeups

    @operation(permission="manage", status=202)
    def on_post(self, request: falcon.Request, response: falcon.Response, node: str) -> None:
        """Take the order, or name the job that does it already."""
        paging.known_only(request)
        job = looks.order(self._type, node, self._payload)
        self._wakeups.announce([(job.id, job.type)])
        response.status = falcon.HTTP_202
        response.location = f"/{request.path.split('/', 2)[1]}/jobs/{job.id}"
        response.media = {"job": job.as_json()}


def reconcile_now(mends: tuple[str, ...], wakeups: Wakeups) -> NodeLook:
    """Return the resource that orders a comparison of a node."""
    return NodeLook(reconcile.TYPE, {"mends": list(mends)}, wakeups)


def _newest(request: falcon.Request, node: str | None) -> tuple[list[DriftReport], str | None]:
    page = paging.read(request, keys=1)
    found = DriftReport.newest_of_each(page.after[0] if page.after else None, node, page.limit + 1)
    shown = found[: page.limit]
    return shown, paging.encode(shown[-1].node.name) if len(found) > page.limit else None


def _history(request: falcon.Request, node: str | None) -> tuple[list[DriftReport], str | None]:
    return paging.newest_first(DriftReport.history(node), DriftReport, paging.read(request, keys=2))
