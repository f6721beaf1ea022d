"""Events over HTTP: of all, of a tenant, of a pod, of a job.

With `Accept: text/event-stream` each route answers with a stream instead of a page: the same events, and then those to come.
"""

from typing import Any

import falcon

from shim import caller
from shim.cloudpods.models import CloudPod
from shim.errors import Invalid
from shim.events import showing
from shim.events.models import CloudPodEvent, Filters
from shim.events.schemas import HIGHEST, EventAnswer, EventsQuery, FeedQuery
from shim.events.stream import Seen, Streams
from shim.jobs.models import CloudPodJob
from shim.tenants.models import Tenant
from shim.web import paging, sse
from shim.web.operation import operation
from shim.web.schema import PageAnswer


class _Feed:
    """What the routes of events have in common."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams

    def _answer(self, request: falcon.Request, response: falcon.Response, asked: FeedQuery, **of: str | None) -> None:
        filters = _filters(asked, **of)
        if not sse.asked(request):
            response.media = _page(asked, filters)
            return
        seen = Seen(filters, caller.only_tenant())
        gone = sse.departure(request)
        sse.answer(response, self._streams.follow(seen, _start(request, asked), allowed=request.context.still_may, gone=gone))


class Events(_Feed):
    """`GET /internal/events`."""

    @operation(permission="pods:read", query=EventsQuery, answer=PageAnswer[EventAnswer])
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Answer with a page of events, oldest first, or with `order=desc` newest first."""
        asked: EventsQuery = request.context.query
        self._answer(request, response, asked, tenant_id=asked.tenant_id, reference=asked.cloud_pod_id, job_id=asked.job_id)


class TenantEvents(_Feed):
    """`GET /internal/tenants/{id}/events`."""

    @operation(permission="pods:read", query=FeedQuery, answer=PageAnswer[EventAnswer])
    def on_get(self, request: falcon.Request, response: falcon.Response, tenant_id: str) -> None:
        """Answer with a page of the tenant's events, oldest first, or with `order=desc` newest first."""
        self._answer(request, response, request.context.query, tenant_id=tenant_id)


class PodEvents(_Feed):
    """`GET /internal/cloudpods/{vmid or id}/events`."""

    @operation(permission="pods:read", query=FeedQuery, answer=PageAnswer[EventAnswer])
    def on_get(self, request: falcon.Request, response: falcon.Response, reference: str) -> None:
        """Answer with a page of the pod's events, oldest first, or with `order=desc` newest first."""
        self._answer(request, response, request.context.query, reference=reference)


class JobEvents(_Feed):
    """`GET /internal/jobs/{id}/events`."""

    @operation(permission="pods:read", query=FeedQuery, answer=PageAnswer[EventAnswer])
    def on_get(self, request: falcon.Request, response: falcon.Response, job_id: str) -> None:
        """Answer with a page of the job's events, oldest first; `next` is null at the present end."""
        self._answer(request, response, request.context.query, job_id=job_id)


def _filters(
    asked: FeedQuery, *, tenant_id: str | None = None, reference: str | None = None, job_id: str | None = None
) -> Filters:
    """Return what is asked for, as far as the caller may see it. Raises NotFound for what is not there, or not theirs."""
    return Filters(
        tenant_id=caller.only_tenant() if tenant_id is None else Tenant.known(tenant_id).id,
        cloud_pod_id=None if reference is None else CloudPod.find(reference).id,
        job_id=None if job_id is None else CloudPodJob.find(job_id).id,
        type=asked.type,
        action=asked.action,
    )


def _start(request: falcon.Request, asked: FeedQuery) -> int:
    """Return behind which event a stream begins: the client's last one, `since`, else what is there by now."""
    if asked.cursor is not None or asked.order != "asc":
        raise Invalid.field("order" if asked.cursor is None else "cursor", "a stream begins at `since` and goes on in order")
    last, newest = sse.last_event_id(request), CloudPodEvent.last_seq()
    field, begin = ("since", asked.since) if last is None else (sse.LAST_EVENT_ID, last)
    if begin is None:
        return newest
    if begin > newest:
        # Such a stream would say nothing, perhaps for years: the client's number is of another database.
        raise Invalid.field(field, f"the newest event is {newest}; begin anew, without a number", code="event_not_yet")
    return int(begin)


def _page(asked: FeedQuery, filters: Filters) -> dict[str, Any]:
    page = asked.page(keys=1)
    if asked.order == "desc":
        found = CloudPodEvent.page(
            filters, after=asked.since or 0, before=paging.number_after(page, HIGHEST), limit=page.limit + 1
        )
    else:
        found = CloudPodEvent.page(filters, after=paging.number_after(page, asked.since or 0), limit=page.limit + 1)
    shown = found[: page.limit]
    more = len(found) > page.limit
    return {"items": showing.shown(shown, caller.only_tenant()), "next": paging.encode(shown[-1].seq) if more else None}
