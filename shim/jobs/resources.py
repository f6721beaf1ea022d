"""Jobs over HTTP."""

import falcon

from shim.jobs.models import CloudPodJob
from shim.jobs.schemas import JobAnswer
from shim.web.operation import operation
from shim.web.schema import Query


class Job:
    """`GET /internal/jobs/{id}`."""

    @operation(permission="pods:read", query=Query, answer=JobAnswer)
    def on_get(self, request: falcon.Request, response: falcon.Response, job_id: str) -> None:
        """Answer with the job."""
        response.media = CloudPodJob.find(job_id).as_json()
