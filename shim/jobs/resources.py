"""Jobs over HTTP."""

from typing import Any

import falcon

from shim.events.models import CloudPodEvent
from shim.events.schemas import EventAnswer
from shim.jobs.models import CloudPodJob
from shim.jobs.schemas import JobAnswer
from shim.web import paging
from shim.web.operation import operation
from shim.web.paging import PageQuery
from shim.web.schema import PageAnswer, Query


class Job:
    """`GET /internal/jobs/{id}`."""

    @operation(permission="pods:read", query=Query, answer=JobAnswer)
    def on_get(self, request: falcon.Request, response: falcon.Response, job_id: str) -> None:
        """Answer with the job."""
        response.media = CloudPodJob.find(job_id).as_json()


class JobEvents:
    """`GET /internal/jobs/{id}/events`, oldest first."""

    @operation(permission="pods:read", query=PageQuery, answer=PageAnswer[EventAnswer])
    def on_get(self, request: falcon.Request, response: falcon.Response, job_id: str) -> None:
        """Answer with a page of the job's events; `next` is the cursor of the following page, null at the present end."""
        asked: PageQuery = request.context.query
        page = asked.page(keys=1)
        job = CloudPodJob.find(job_id)
        found = CloudPodEvent.of_job(job.id, _seq(page), page.limit + 1)
        shown = found[: page.limit]
        more = len(found) > page.limit
        response.media = {"items": [e.as_json() for e in shown], "next": paging.encode(shown[-1].seq) if more else None}


def _seq(page: paging.Page) -> Any:
    if page.after is None:
        return 0
    text = page.after[0]
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise paging.bad_cursor()
    return int(text)
