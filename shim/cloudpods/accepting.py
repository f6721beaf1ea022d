"""Orders over HTTP: given, or rehearsed by `?dryRun=1`; and what is answered."""

from collections.abc import Callable
from functools import partial

import falcon

from shim.cloudpods import dry_run, holding
from shim.cloudpods.dry_run import Order
from shim.cloudpods.models import CloudPod
from shim.cloudpods.schemas import ChangePod, CreatePod
from shim.db import database
from shim.jobs.models import CloudPodJob
from shim.jobs.queue import Wakeups
from shim.web import etag
from shim.web.rate_limit import RateLimits


def take(
    request: falcon.Request,
    response: falcon.Response,
    wakeups: Wakeups,
    rates: RateLimits,
    asked: CreatePod | ChangePod,
    order: Order,
    *,
    reference: str | None = None,
) -> None:
    """Give the order that was `asked` for, or rehearse it if the query says so, and answer.

    With a pod's reference, heed `If-Match` first. What is only rehearsed counts as no pod made or destroyed.
    """
    rehearsed = getattr(request.context.query, "dry_run", False)
    rates.admit(asked, rehearsed=rehearsed)
    hold = partial(holding.hold_for, asked, reference) if rehearsed else None
    if reference is None or request.get_header("If-Match") is None:
        _give(request, response, wakeups, order, hold)
        return
    with database.atomic():
        etag.check(request, CloudPod.hold(reference).updated_at)
        _give(request, response, wakeups, order, hold)


def _give(
    request: falcon.Request, response: falcon.Response, wakeups: Wakeups, order: Order, hold: Callable[[], None] | None
) -> None:
    if hold is not None:
        job, known, plan = dry_run.rehearse(order, hold)
        accept(request, response, wakeups, job, known)
        response.media.update(plan)
    else:
        accept(request, response, wakeups, *order())


def accept(
    request: falcon.Request, response: falcon.Response, wakeups: Wakeups, job: CloudPodJob, pod: CloudPod | None
) -> None:
    """Wake a worker and answer 202 with the job, the one that comes before it if any, the pod, and where to follow."""
    first = CloudPodJob.find(job.after_job_id) if job.after_job_id else None
    wakeups.announce([((first or job).id, (first or job).type)])
    response.status = falcon.HTTP_202
    response.location = f"{prefix(request)}/jobs/{job.id}"
    response.media = {"job": job.as_json(), "cloudPod": pod.as_json() if pod else None}
    if first:
        response.media["backupJob"] = first.as_json()


def prefix(request: falcon.Request) -> str:
    """Return the prefix that the request came by."""
    return "/" + request.path.split("/", 2)[1]
