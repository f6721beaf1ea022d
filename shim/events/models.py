"""The table of events. `seq` orders them; `type` is the master spec's list, the finer word is `data["action"]`.

The database gives `seq` at the commit and refuses to change or delete an event (`migrations/0011_events.sql`).
"""

from dataclasses import asdict, dataclass
from typing import Any

import peewee
from playhouse.postgres_ext import BinaryJSONField

from shim import caller, db
from shim.db import Model, new_id


@dataclass(frozen=True, kw_only=True)
class Filters:
    """Which events; None means any."""

    tenant_id: str | None = None
    cloud_pod_id: str | None = None
    job_id: str | None = None
    type: str | None = None
    action: str | None = None


class CloudPodEvent(Model):
    """One thing that happened. Rows point at pods, tenants and jobs by plain id; the constraints stand in the migration."""

    id = peewee.TextField(primary_key=True, default=new_id)
    seq = peewee.BigIntegerField()
    cloud_pod_id = peewee.TextField(null=True)
    tenant_id = peewee.TextField(null=True)
    job_id = peewee.TextField(null=True)
    type = peewee.TextField()
    message = peewee.TextField()
    data = BinaryJSONField(null=True, index=False)
    # Who asked for what happened, with which token, from where, in which request.
    actor = peewee.TextField(null=True)
    token_id = peewee.TextField(null=True)
    remote_addr = peewee.TextField(null=True)
    request_id = peewee.TextField(null=True)
    created_at = peewee.DateTimeField()

    class Meta:
        table_name = "cloud_pod_events"

    @classmethod
    def record(
        cls,
        type: str,
        message: str,
        *,
        tenant_id: str | None = None,
        cloud_pod_id: str | None = None,
        job_id: str | None = None,
        **data: Any,
    ) -> None:
        """Append an event inside the transaction that is open; `data` should carry `action`."""
        about = {"tenant_id": tenant_id, "cloud_pod_id": cloud_pod_id, "job_id": job_id}
        cls.record_all([{"type": type, "message": message, **about, "data": data}])

    @classmethod
    def record_all(cls, events: list[dict[str, Any]]) -> None:
        """Append these events, given as columns, at once."""
        cls.write_all([{**asdict(caller.origin()), "id": new_id(), **event} for event in events])

    @classmethod
    def page(cls, filters: Filters, *, after: int, limit: int, before: int | None = None) -> list["CloudPodEvent"]:
        """Return events behind `after`, oldest first; with `before`, those ahead of it, newest first."""
        # Those without a number are of this very transaction, and the indexes leave them out.
        query = cls.select().where(cls.seq > 0, cls.seq > after, *cls._chosen(filters))
        if before is not None:
            return list(query.where(cls.seq < before).order_by(cls.seq.desc()).limit(limit))
        return list(query.order_by(cls.seq).limit(limit))

    @classmethod
    def _chosen(cls, filters: Filters) -> list[peewee.Expression]:
        columns = (
            (cls.tenant_id, filters.tenant_id),
            (cls.cloud_pod_id, filters.cloud_pod_id),
            (cls.job_id, filters.job_id),
            (cls.type, filters.type),
            # The index is of this very expression.
            (cls.data["action"], filters.action),
        )
        return [column == value for column, value in columns if value is not None]

    @classmethod
    def last_seq(cls) -> int:
        """Return the number of the newest event: whatever is committed later gets a higher one."""
        return int(cls.select(peewee.fn.max(cls.seq)).scalar() or 0)

    def as_json(self) -> dict[str, Any]:
        """Return the event as clients see it."""
        return {
            "id": self.id,
            "seq": self.seq,
            "cloudPodId": self.cloud_pod_id,
            "tenantId": self.tenant_id,
            "jobId": self.job_id,
            "type": self.type,
            "message": self.message,
            "data": self.data,
            "actor": self.actor,
            "tokenId": self.token_id,
            "remoteAddr": self.remote_addr,
            "requestId": self.request_id,
            "createdAt": db.iso(self.created_at),
        }
