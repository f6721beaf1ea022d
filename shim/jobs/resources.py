"""Jobs over HTTP."""

import falcon

from shim.jobs import cancel, listing, unblocked
from shim.jobs.batches import CloudPodBatch
from shim.jobs.models import CloudPodJob
from shim.jobs.queue import Wakeups
from shim.jobs.schemas import BatchAnswer, JobAnswer, JobsQuery
from shim.web import body
from shim.web.operation import operation
from shim.web.paging import PageQuery
from shim.web.schema import Nothing, PageAnswer, Query


class Jobs:
    """`GET /internal/jobs`."""

    @operation(permission="pods:read", query=JobsQuery, answer=PageAnswer[JobAnswer])
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Answer with a page of jobs, newest first."""
        found, cursor = listing.list_jobs(request.context.query)
        response.media = {"items": [job.as_json() for job in found], "next": cursor}


class Batch:
    """`GET /internal/batches/{id}`."""

    @operation(permission="pods:read", query=Query, answer=BatchAnswer)
    def on_get(self, request: falcon.Request, response: falcon.Response, batch_id: str) -> None:
        """Answer with how far the batch is."""
        response.media = CloudPodBatch.find(batch_id).as_json()


class BatchJobs:
    """`GET /internal/batches/{id}/jobs`."""

    @operation(permission="pods:read", query=PageQuery, answer=PageAnswer[JobAnswer])
    def on_get(self, request: falcon.Request, response: falcon.Response, batch_id: str) -> None:
        """Answer with a page of the batch's jobs, newest first."""
        asked: PageQuery = request.context.query
        found, cursor = listing.of_batch(CloudPodBatch.find(batch_id).id, asked.page(keys=2))
        response.media = {"items": [job.as_json() for job in found], "next": cursor}


class Job:
    """`GET /internal/jobs/{id}`."""

    @operation(permission="pods:read", query=Query, answer=JobAnswer)
    def on_get(self, request: falcon.Request, response: falcon.Response, job_id: str) -> None:
        """Answer with the job."""
        response.media = CloudPodJob.find(job_id).as_json()


class Cancel:
    """`POST /internal/jobs/{id}/cancel`."""

    def __init__(self, wakeups: Wakeups) -> None:
        self._wakeups = wakeups

    @operation(
        permission="pods:change",
        query=Query,
        body=Nothing,
        answer=JobAnswer,
        status=202,
        statuses=(200,),
        problems=(409,),
    )
    def on_post(self, request: falcon.Request, response: falcon.Response, job_id: str) -> None:
        """Cancel the job: 200 when that is done, 202 when its run is being ended and its node looked at."""
        body.read(request, Nothing)
        job = cancel.cancel(job_id)
        unblocked.wake_after_cancel(self._wakeups, job)
        response.status = falcon.HTTP_200 if job.status == "cancelled" else falcon.HTTP_202
        response.media = job.as_json()
