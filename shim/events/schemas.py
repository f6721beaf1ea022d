"""What clients ask and get of events."""

from typing import Literal

from shim.web.paging import PageQuery
from shim.web.schema import Answer, Json, Moment, whole

# PostgreSQL's bigint holds any number of so many digits.
HIGHEST = 10**18 - 1

Type = Literal["INFO", "WARN", "ERROR", "STATE_CHANGE", "BACKUP", "HEALTH"]


class FeedQuery(PageQuery):
    """Which events of one thing. `since`: those behind this number (`seq`)."""

    type: Type | None = None
    action: str | None = None
    since: whole(0, 0, HIGHEST) | None = None  # type: ignore[valid-type]
    order: Literal["asc", "desc"] = "asc"


class EventsQuery(FeedQuery):
    """Which events of all. `cloudPodId` is a pod's id or vmid."""

    tenant_id: str | None = None
    cloud_pod_id: str | None = None
    job_id: str | None = None


class EventAnswer(Answer):
    """One thing that happened; `seq` orders them, `data.action` is the finer word."""

    id: str
    seq: int
    cloud_pod_id: str | None
    tenant_id: str | None
    job_id: str | None
    type: Type
    message: str
    data: dict[str, Json] | None
    actor: str | None
    token_id: str | None
    remote_addr: str | None
    request_id: str | None
    created_at: Moment
