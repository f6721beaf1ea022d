"""The table of the ledger, and its queries."""

import peewee

from shim import db
from shim.db import Model
from shim.quotas.amount import Amount

_AMOUNT = "pods, cpu_cores, ram_mb, disk_gb"
_COMMITTED = """
SELECT coalesce(sum(pods), 0), coalesce(sum(cpu_cores), 0), coalesce(sum(ram_mb), 0), coalesce(sum(disk_gb), 0)
FROM quota_entries WHERE state = 'committed'
"""


class QuotaEntry(Model):
    """What a job takes of its tenant's quota: the difference between its pod's size after and before.

    | state | what it says |
    |---|---|
    | reserved | the job may still take it |
    | committed | the job did; part of `used_*` |
    | released | the job did not; without effect |
    """

    id = peewee.BigAutoField()
    tenant_id = peewee.TextField()
    job_id = peewee.TextField(null=True)
    cloud_pod_id = peewee.TextField()
    pods = peewee.IntegerField()
    cpu_cores = peewee.IntegerField()
    ram_mb = peewee.IntegerField()
    disk_gb = peewee.IntegerField()
    state = peewee.TextField()
    reason = peewee.TextField()
    created_at = peewee.DateTimeField()
    settled_at = peewee.DateTimeField(null=True)

    class Meta:
        table_name = "quota_entries"

    @classmethod
    def committed(cls, cloud_pod_id: str) -> Amount:
        """Return what a pod has by the ledger."""
        return Amount(*db.rows(f"{_COMMITTED} AND cloud_pod_id = %s", (cloud_pod_id,))[0])

    @classmethod
    def total(cls, tenant_id: str) -> Amount:
        """Return what a tenant has by the ledger."""
        return Amount(*db.rows(f"{_COMMITTED} AND tenant_id = %s", (tenant_id,))[0])

    @classmethod
    def reserved(cls, tenant_id: str) -> dict[str, Amount]:
        """Return by how much each of a tenant's pods with open entries may come to exceed what it has.

        Of several changes of one pod each may be the one that counts: they come one after the other.
        """
        found = db.rows(
            "SELECT cloud_pod_id, max(greatest(pods, 0)), max(greatest(cpu_cores, 0)), max(greatest(ram_mb, 0)),"
            " max(greatest(disk_gb, 0)) FROM quota_entries WHERE tenant_id = %s AND state = 'reserved' GROUP BY cloud_pod_id",
            (tenant_id,),
        )
        return {row[0]: Amount(*row[1:]) for row in found}

    @classmethod
    def open(cls, job_id: str) -> "tuple[str, str, Amount] | None":
        """Return tenant, pod and amount of a job's open entry."""
        found = db.rows(
            f"SELECT tenant_id, cloud_pod_id, {_AMOUNT} FROM quota_entries WHERE job_id = %s AND state = 'reserved'", (job_id,)
        )
        return (found[0][0], found[0][1], Amount(*found[0][2:])) if found else None

    @classmethod
    def enter(cls, tenant_id: str, job_id: str | None, cloud_pod_id: str, amount: Amount, *, state: str, reason: str) -> bool:
        """Append an entry. False when the job has one already: what it did is counted once."""
        settled = "now()" if state == "committed" else "NULL"
        return bool(
            db.rows(
                f"INSERT INTO quota_entries (tenant_id, job_id, cloud_pod_id, {_AMOUNT}, state, reason, settled_at)"
                f" VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, {settled}) ON CONFLICT (job_id) DO NOTHING RETURNING id",
                (tenant_id, job_id, cloud_pod_id, *amount.values(), state, reason),
            )
        )

    @classmethod
    def reserve_all(cls, tenant_id: str, booked: list[tuple[str, str, Amount]]) -> None:
        """Append open entries of new jobs and pods, each of this amount."""
        whose = {"tenant_id": tenant_id, "state": "reserved", "reason": "order"}
        names = ("pods", "cpu_cores", "ram_mb", "disk_gb")
        cls.write_all(
            [
                {**whose, "job_id": job_id, "cloud_pod_id": pod_id, **dict(zip(names, amount.values(), strict=True))}
                for job_id, pod_id, amount in booked
            ]
        )

    @classmethod
    def end(cls, job_id: str, state: str, amount: Amount) -> bool:
        """Commit or release a job's open entry with what it came to. False when it is not open (any more)."""
        names = "pods = %s, cpu_cores = %s, ram_mb = %s, disk_gb = %s"
        return bool(
            db.rows(
                f"UPDATE quota_entries SET state = %s, settled_at = now(), {names}"
                " WHERE job_id = %s AND state = 'reserved' RETURNING id",
                (state, *amount.values(), job_id),
            )
        )

    @classmethod
    def rebase(cls, cloud_pod_id: str, difference: Amount) -> None:
        """Let a pod's open entries still end at the sizes they were asked for, now that it has this much more."""
        db.database.execute_sql(
            "UPDATE quota_entries SET pods = pods - %s, cpu_cores = cpu_cores - %s, ram_mb = ram_mb - %s,"
            " disk_gb = disk_gb - %s WHERE cloud_pod_id = %s AND state = 'reserved'",
            (*difference.values(), cloud_pod_id),
        )
