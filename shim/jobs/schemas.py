"""What clients get of jobs."""

from typing import Literal

from shim.web.paging import PageQuery
from shim.web.schema import Answer, Json, Moment, Name, Request

Status = Literal["queued", "running", "success", "failed", "cancelled"]


class JobAnswer(Answer):
    """A job: something to be done to a node. What `payload` and `result` hold depends on its type."""

    id: str
    cloud_pod_id: str | None
    tenant_id: str | None
    node_id: str | None
    type: str
    status: Status
    payload: dict[str, Json]
    result: dict[str, Json] | None
    error: str | None
    failure: dict[str, Json] | None
    placement: dict[str, Json] | None
    requested_by: str | None
    request_id: str | None
    dry_run: bool
    after_job_id: str | None
    retry_of: str | None
    batch_id: str | None
    tries: int
    cancel_requested_at: Moment | None
    cancel_requested_by: str | None
    created_at: Moment
    started_at: Moment | None
    finished_at: Moment | None


class RetryJob(Request):
    """`POST /internal/jobs/{id}/retry`: whose job it must be, and who asks; what is ordered the job itself says."""

    tenant_id: Name | None = None
    requested_by: Name | None = None


class JobsQuery(PageQuery):
    """Which jobs."""

    tenant_id: str | None = None
    cloud_pod_id: str | None = None
    type: str | None = None
    status: Status | None = None
    node: str | None = None


class CountsAnswer(Answer):
    """How many jobs are in each status."""

    queued: int
    running: int
    success: int
    failed: int
    cancelled: int


class BatchAnswer(Answer):
    """Orders that were taken together; `done` when all of their jobs have ended, however."""

    id: str
    tenant_id: str
    jobs: int
    counts: CountsAnswer
    done: bool
    requested_by: str | None
    request_id: str | None
    created_at: Moment
