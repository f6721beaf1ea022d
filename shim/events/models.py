"""The table of events. `seq` orders them; `type` is the master spec's list, the finer word is `data["action"]`."""

from typing import Any

import peewee
from playhouse.postgres_ext import BinaryJSONField

from shim import caller, db
from shim.db import Model, new_id


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
        asking = caller.current()
        origin = (
            {}
            if asking is None
            else {
                "actor": asking.user_id or asking.name,
                "token_id": asking.token_id,
                "remote_addr": asking.remote_addr,
                "request_id": asking.request_id,
            }
        )
        cls.insert(
            **origin,
            id=new_id(),
            type=type,
            message=message,
            tenant_id=tenant_id,
            cloud_pod_id=cloud_pod_id,
            job_id=job_id,
            data=data,
        ).execute()

    @classmethod
    def of_job(cls, job_id: str, after_seq: int, limit: int) -> list["CloudPodEvent"]:
        """Return a job's events behind `after_seq`, oldest first."""
        query = cls.select().where(cls.job_id == job_id, cls.seq > after_seq).order_by(cls.seq).limit(limit)
        return list(query)

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
