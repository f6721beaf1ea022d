"""A job's log over HTTP: pages, a stream, or plain text. It names nodes and paths, so it is services' to read; tenants have
their job's events.
"""

from collections.abc import Iterator
from typing import Any

import falcon

from shim.errors import Invalid
from shim.events.stream import Streams
from shim.jobs.log_models import CloudPodJobLog
from shim.jobs.log_schemas import LogPieceAnswer, LogQuery
from shim.jobs.log_stream import BATCH, JobLog
from shim.jobs.models import CloudPodJob
from shim.web import paging, sse
from shim.web.operation import operation
from shim.web.schema import PageAnswer


class Log:
    """`GET /internal/jobs/{id}/log`."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams

    @operation(permission="manage", query=LogQuery, answer=PageAnswer[LogPieceAnswer], streams=True, text=True)
    def on_get(self, request: falcon.Request, response: falcon.Response, job_id: str) -> None:
        """Answer with a page of what the job's runs printed, in order; `next` is null at the present end."""
        asked: LogQuery = request.context.query
        job_id = CloudPodJob.find(job_id).id
        if sse.asked(request):
            _no_cursor(asked)
            last = sse.last_event_id(request)
            source, after = JobLog(job_id), asked.after if last is None else last
            still_may = request.context.still_may
            sse.answer(response, self._streams.follow(source, after, allowed=still_may, gone=sse.departure(request)))
        elif falcon.MEDIA_TEXT.partition(";")[0] in (request.accept or "").lower():
            _no_cursor(asked)
            response.content_type = falcon.MEDIA_TEXT
            response.text = "".join(everything(job_id, asked.after))
        else:
            response.media = _page(job_id, asked)


def everything(job_id: str, after: int = 0) -> Iterator[str]:
    """Yield a job's log as it is now, piece by piece. It is bounded (`log_text.py`)."""
    while found := CloudPodJobLog.page(job_id, after=after, limit=BATCH):
        yield from (piece.text for piece in found)
        after = found[-1].seq


def _no_cursor(asked: LogQuery) -> None:
    if asked.cursor is not None:
        raise Invalid.field("cursor", "goes with pages; a stream and plain text begin at `after`")


def _page(job_id: str, asked: LogQuery) -> dict[str, Any]:
    page = asked.page(keys=1)
    found = CloudPodJobLog.page(job_id, after=paging.number_after(page, asked.after), limit=page.limit + 1)
    shown = found[: page.limit]
    more = len(found) > page.limit
    return {"items": [piece.as_json() for piece in shown], "next": paging.encode(shown[-1].seq) if more else None}
