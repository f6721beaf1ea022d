"""Drift over HTTP: what looks at nodes found, and the order to look now."""

from typing import Any

import falcon

from shim.cloudpods import node_sync, reconcile
from shim.cloudpods.answer_schemas import DriftAnswer, LookAnswer
from shim.cloudpods.drift_models import DriftReport
from shim.cloudpods.schemas import DriftQuery
from shim.jobs import looks
from shim.jobs.queue import Wakeups
from shim.web import body, paging
from shim.web.operation import operation
from shim.web.schema import Nothing, PageAnswer, Query


class Drift:
    """`GET /internal/drift`."""

    @operation(permission="manage", query=DriftQuery, answer=PageAnswer[DriftAnswer])
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Answer with the newest report of each node, or with `history=1` with all that are kept, newest first."""
        asked: DriftQuery = request.context.query
        found, following = _history(asked) if asked.history else _newest(asked)
        shown = {"kind": asked.kind, "tenant_id": asked.tenant_id}
        response.media = {"items": [report.as_json(**shown) for report in found], "next": following}


class NodeLook:
    """`POST /internal/nodes/{node}/reconcile` and `/sync`: a look at a node now."""

    def __init__(self, type: str, payload: dict[str, Any], wakeups: Wakeups) -> None:
        self._type, self._payload = type, payload
        self._wakeups = wakeups

    @operation(permission="manage", query=Query, body=Nothing, answer=LookAnswer, status=202)
    def on_post(self, request: falcon.Request, response: falcon.Response, node: str) -> None:
        """Take the order, or name the job that does it already."""
        body.read(request, Nothing)
        job = looks.order(self._type, node, self._payload)
        self._wakeups.announce([(job.id, job.type)])
        response.status = falcon.HTTP_202
        response.location = f"/{request.path.split('/', 2)[1]}/jobs/{job.id}"
        response.media = {"job": job.as_json()}


def reconcile_now(mends: tuple[str, ...], wakeups: Wakeups) -> NodeLook:
    """Return the resource that orders a comparison of a node."""
    return NodeLook(reconcile.TYPE, {"mends": list(mends)}, wakeups)


def sync_now(wakeups: Wakeups) -> NodeLook:
    """Return the resource that orders a look at what a node has."""
    return NodeLook(node_sync.TYPE, {}, wakeups)


def _newest(asked: DriftQuery) -> tuple[list[DriftReport], str | None]:
    page = asked.page(keys=1)
    found = DriftReport.newest_of_each(page.after[0] if page.after else None, asked.node, page.limit + 1)
    shown = found[: page.limit]
    return shown, paging.encode(shown[-1].node.name) if len(found) > page.limit else None


def _history(asked: DriftQuery) -> tuple[list[DriftReport], str | None]:
    return paging.newest_first(DriftReport.history(asked.node), DriftReport, asked.page(keys=2))
