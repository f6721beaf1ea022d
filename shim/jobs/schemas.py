"""What clients get of jobs."""

from typing import Literal

from shim.web.schema import Answer, Json, Moment


class JobAnswer(Answer):
    """A job: something to be done to a node. What `payload` and `result` hold depends on its type."""

    id: str
    cloud_pod_id: str | None
    tenant_id: str | None
    node_id: str | None
    type: str
    status: Literal["queued", "running", "success", "failed", "cancelled"]
    payload: dict[str, Json]
    result: dict[str, Json] | None
    error: str | None
    failure: dict[str, Json] | None
    requested_by: str | None
    request_id: str | None
    tries: int
    created_at: Moment
    started_at: Moment | None
    finished_at: Moment | None
