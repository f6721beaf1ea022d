"""What clients get of events."""

from typing import Literal

from shim.web.schema import Answer, Json, Moment


class EventAnswer(Answer):
    """One thing that happened; `seq` orders them, `data.action` is the finer word."""

    id: str
    seq: int
    cloud_pod_id: str | None
    tenant_id: str | None
    job_id: str | None
    type: Literal["INFO", "WARN", "ERROR", "STATE_CHANGE", "BACKUP", "HEALTH"]
    message: str
    data: dict[str, Json] | None
    actor: str | None
    token_id: str | None
    remote_addr: str | None
    request_id: str | None
    created_at: Moment
