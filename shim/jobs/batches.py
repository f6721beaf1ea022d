"""The table of batches: orders that were given together, and how far they are."""

from collections import Counter
from typing import Any

import peewee

from shim import caller, db
from shim.db import Model, new_id
from shim.errors import NotFound

STATUSES = ("queued", "running", "success", "failed", "cancelled")


class CloudPodBatch(Model):
    """Orders of one tenant that were taken all at once or not at all."""

    id = peewee.TextField(primary_key=True, default=new_id)
    tenant_id = peewee.TextField()
    jobs = peewee.IntegerField()
    requested_by = peewee.TextField(null=True)
    request_id = peewee.TextField(null=True)
    created_at = peewee.DateTimeField()

    class Meta:
        table_name = "cloud_pod_batches"

    @classmethod
    def gather(cls, tenant_id: str, job_ids: list[str], requested_by: str | None) -> "CloudPodBatch":
        """Make these jobs a batch, in the transaction that makes them; return it."""
        asking = caller.current()
        batch_id = new_id()
        cls.insert(
            id=batch_id,
            tenant_id=tenant_id,
            jobs=len(job_ids),
            requested_by=caller.requested_by(requested_by),
            request_id=asking.request_id if asking else None,
        ).execute()
        db.database.execute_sql("UPDATE cloud_pod_jobs SET batch_id = %s WHERE id = ANY(%s)", (batch_id, job_ids))
        return cls.find(batch_id)

    @classmethod
    def find(cls, batch_id: str) -> "CloudPodBatch":
        """Return the batch. Raises NotFound, also for another tenant's."""
        batch: CloudPodBatch | None = cls.get_or_none(cls.id == batch_id) if "\x00" not in batch_id else None
        if batch is None or not caller.sees(batch.tenant_id):
            raise NotFound(f"there is no batch {batch_id!r}", code="batch_not_found")
        return batch

    def as_json(self) -> dict[str, Any]:
        """Return the batch as clients see it; it is done when all of its jobs have ended."""
        found = db.rows("SELECT status, count(*) FROM cloud_pod_jobs WHERE batch_id = %s GROUP BY status", (self.id,))
        counts = Counter(dict(found))
        return {
            "id": self.id,
            "tenantId": self.tenant_id,
            "jobs": self.jobs,
            "counts": {status: counts[status] for status in STATUSES},
            "done": counts["queued"] + counts["running"] == 0,
            "requestedBy": self.requested_by,
            "requestId": self.request_id,
            "createdAt": db.iso(self.created_at),
        }
