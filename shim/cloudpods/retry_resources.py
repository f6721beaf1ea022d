"""The retry of a job over HTTP."""

import falcon

from shim.cloudpods import retrying
from shim.cloudpods.accepting import accept
from shim.cloudpods.answer_schemas import AcceptedAnswer
from shim.cloudpods.schemas import ChangePod, CreatePod
from shim.config import Settings
from shim.jobs.queue import Wakeups
from shim.jobs.schemas import RetryJob
from shim.web import body
from shim.web.operation import operation
from shim.web.rate_limit import RateLimits
from shim.web.schema import Query


class Retry:
    """`POST /internal/jobs/{id}/retry`."""

    def __init__(self, settings: Settings, wakeups: Wakeups, rates: RateLimits) -> None:
        self._settings = settings
        self._wakeups, self._rates = wakeups, rates

    @operation(permission="pods:change", query=Query, body=RetryJob, answer=AcceptedAnswer, status=202, problems=(429,))
    def on_post(self, request: falcon.Request, response: falcon.Response, job_id: str) -> None:
        """Order anew what a failed or cancelled job was to do; the new job names it in `retryOf`."""
        asked = body.read(request, RetryJob)
        job, pod, plan = retrying.retry(job_id, asked, self._settings, admit=self._admit)
        accept(request, response, self._wakeups, job, pod)
        response.media.update(plan)

    def _admit(self, order: CreatePod | ChangePod, rehearsed: bool) -> None:
        self._rates.admit(order, rehearsed=rehearsed)
