"""The table of jobs (the master spec's section 1.2) and its reads. Its writes are in `submit`, `claim` and `state`."""

from functools import cache
from typing import Any

import peewee
from playhouse.postgres_ext import ArrayField, BinaryJSONField

from shim import caller, db, faults
from shim.db import Model, Prepared, new_id, slot
from shim.errors import NotFound
from shim.nodes.models import CloudPodNode
from shim.old_run import Run

# How a job may end.
OVER = ("success", "failed", "cancelled")

# Each part by an index of its own, the second one's of few rows: an OR of both would read the whole table.
_WAITING = """
SELECT id FROM cloud_pod_jobs WHERE after_job_id = %s AND status = 'queued'
UNION SELECT id FROM cloud_pod_jobs WHERE after_too <> '{}' AND after_too @> ARRAY[%s]::text[] AND status = 'queued'
"""


class CloudPodJob(Model):
    """Something to be done to a node. Points at its pod by plain id; the constraint stands in the migration."""

    id = peewee.TextField(primary_key=True, default=new_id)
    cloud_pod_id = peewee.TextField(null=True)
    tenant_id = peewee.TextField(null=True)
    node_id: str | None
    node = peewee.ForeignKeyField(CloudPodNode, column_name="node_id", null=True)
    type = peewee.TextField()
    status = peewee.TextField(default="queued")
    payload = BinaryJSONField(default=dict, index=False)
    result = BinaryJSONField(null=True, index=False)
    error = peewee.TextField(null=True)
    failure = BinaryJSONField(null=True, index=False)
    # Why the job's node was chosen for a new pod.
    placement = BinaryJSONField(null=True, index=False)
    requested_by = peewee.TextField(null=True)
    request_id = peewee.TextField(null=True)
    priority = peewee.IntegerField(default=100)
    # Its place among the jobs of its node and priority, given by the database as it is inserted: tenants have theirs in turn.
    turn = peewee.BigIntegerField(default=0)
    # Ordered by the clock, which no client can say.
    scheduled = peewee.BooleanField(default=False)
    # Ordered by no request: by the clock, by the outcome of another job, at a terminal.
    by_house = peewee.BooleanField(default=False)
    changes_pod = peewee.BooleanField(default=True)
    attempt = peewee.IntegerField(default=0)
    tries = peewee.IntegerField(default=0)
    max_tries = peewee.IntegerField(default=3)
    # A rehearsal: its playbook runs in check mode, and it changes no row but its own.
    dry_run = peewee.BooleanField(default=False)
    # Runs only after that one's success.
    after_job_id = peewee.TextField(null=True)
    # And then, one after the other, after those.
    after_too = ArrayField(peewee.TextField, default=list, index=False)
    # The deployment of a blueprint that it is part of.
    deployment_id = peewee.TextField(null=True)
    # The job that this one repeats.
    retry_of = peewee.TextField(null=True)
    # Since when, and by whose word, it is to be ended before it is done.
    cancel_requested_at = peewee.DateTimeField(null=True)
    cancel_requested_by = peewee.TextField(null=True)
    batch_id = peewee.TextField(null=True)
    lost = peewee.BooleanField(default=False)
    worker = peewee.TextField(null=True)
    # Its run's process, from the claim until that is known to have ended.
    run_host = peewee.TextField(null=True)
    run_pid = peewee.IntegerField(null=True)
    run_started = peewee.BigIntegerField(null=True)
    run_attempt = peewee.IntegerField(null=True)
    run_after = peewee.DateTimeField(null=True)
    woken_at = peewee.DateTimeField(null=True)
    lease_until = peewee.DateTimeField(null=True)
    created_at = peewee.DateTimeField()
    started_at = peewee.DateTimeField(null=True)
    finished_at = peewee.DateTimeField(null=True)

    class Meta:
        table_name = "cloud_pod_jobs"

    @property
    def run_id(self) -> str:
        """Return the name of this attempt: the part before the dot keys what must not happen twice."""
        return f"{self.id}.{self.attempt}"

    @property
    def run(self) -> Run | None:
        """Return the run that may still be alive: this attempt's, or an earlier one's that was lost."""
        if self.run_host is None or self.run_pid is None or self.run_started is None:
            return None
        return Run(self.run_host, self.run_pid, self.run_started)

    @property
    def node_name(self) -> str:
        """Return the inventory name of the node the job runs on."""
        if self.node is None:
            raise NotFound(f"job {self.id} has no node")
        return self.node.name

    @classmethod
    def find(cls, job_id: str) -> "CloudPodJob":
        """Return the job. Raises NotFound."""
        job: CloudPodJob | None = cls._finder().first(job_id) if "\x00" not in job_id else None
        if job is None or not caller.sees(job.tenant_id):
            raise NotFound(f"there is no job {job_id!r}", code="job_not_found")
        return job

    @classmethod
    def status_of(cls, job_id: str) -> str | None:
        """Return a job's status, None when there is no such job any more."""
        return cls.select(cls.status).where(cls.id == job_id).scalar()  # type: ignore[no-any-return]

    @classmethod
    @cache
    def _finder(cls) -> Prepared:
        return Prepared(cls.select(cls, CloudPodNode).join(CloudPodNode, peewee.JOIN.LEFT_OUTER).where(cls.id == slot(0)))

    @classmethod
    def pending(cls, cloud_pod_id: str, type: str) -> "CloudPodJob | None":
        """Return a pod's unfinished job of this type, if there is one. A dry run is none."""
        of_pod = (cls.cloud_pod_id == cloud_pod_id) & (cls.type == type) & ~cls.dry_run
        return cls.get_or_none(of_pod & cls.status.in_(("queued", "running")))

    @classmethod
    def changing(cls, cloud_pod_id: str) -> bool:
        """Return whether a pod is being changed, or about to be by more than the clock."""
        begun = (cls.status == "running") | ((cls.status == "queued") & (cls.lost | ~cls.scheduled))
        return bool(cls.select().where(cls.cloud_pod_id == cloud_pod_id, cls.changes_pod, begun).exists())

    @classmethod
    def unfinished_of_pod(cls, cloud_pod_id: str) -> int:
        """Return how many of a pod's jobs are not finished."""
        return int(cls.select().where(cls.cloud_pod_id == cloud_pod_id, cls.status.in_(("queued", "running"))).count())

    @classmethod
    def unfinished_of_tenant(cls, tenant_id: str, at_most: int) -> int:
        """Return how many of a tenant's jobs are not finished; no more than so many are counted."""
        of_tenant = "SELECT 1 FROM cloud_pod_jobs WHERE tenant_id = %s AND status IN ('queued', 'running') LIMIT %s"
        ((count,),) = db.rows(f"SELECT count(*) FROM ({of_tenant}) unfinished", (tenant_id, at_most))  # noqa: S608
        return int(count)

    @classmethod
    def unfinished(cls, tenant_id: str) -> list[str]:
        """Return the ids, at most ten, of the tenant's jobs that are not finished."""
        return cls._unfinished(cls.tenant_id == tenant_id)

    @classmethod
    def unfinished_on(cls, node_id: str) -> list[str]:
        """Return the same of a node's jobs."""
        return cls._unfinished(cls.node == node_id)

    @classmethod
    def _unfinished(cls, whose: Any) -> list[str]:
        found = cls.select(cls.id).where(whose, cls.status.in_(("queued", "running")))
        return [job.id for job in found.order_by(cls.created_at.desc()).limit(10)]

    @classmethod
    def reading_archives(cls, vmid: int) -> bool:
        """Return whether archives of this vmid are being restored or drilled, or are going to be."""
        return bool(
            db.rows(
                "SELECT 1 FROM cloud_pod_jobs WHERE type IN ('RESTORE', 'RESTORE_DRILL') AND status IN ('queued', 'running')"
                " AND coalesce(payload -> 'fromVmid', payload -> 'vmid') = to_jsonb(%s) LIMIT 1",
                (vmid,),
            )
        )

    @classmethod
    def removing_archives(cls, vmid: int) -> "CloudPodJob | None":
        """Return a backup that may be removing archives of this vmid: one that runs, or whose lost run nobody looked into."""
        of_vmid = (cls.type == "BACKUP") & ~cls.dry_run & cls.payload.contains({"vmid": vmid})
        unfinished = cls.status.in_(("queued", "running"))
        return cls.get_or_none(of_vmid & unfinished & ((cls.status == "running") | cls.lost))

    @classmethod
    def follow_vmid(cls, cloud_pod_id: str, vmid: int) -> None:
        """Let the queued jobs of a new pod, which has another vmid by now, be about that one."""
        db.rows(
            "UPDATE cloud_pod_jobs SET payload = jsonb_set(payload, '{vmid}', to_jsonb(%s))"
            " WHERE cloud_pod_id = %s AND status = 'queued' AND payload ? 'vmid' RETURNING id",
            (vmid, cloud_pod_id),
        )

    @classmethod
    def maker(cls, cloud_pod_id: str) -> "CloudPodJob | None":
        """Return the job that made the pod, is to, or was to; None for one that nobody ordered."""
        new = cls.type.in_(("CREATE", "ADOPT")) | ((cls.type == "RESTORE") & cls.payload.contains({"asNew": True}))
        of_pod = cls.select().where(cls.cloud_pod_id == cloud_pod_id, new, ~cls.dry_run)
        found: CloudPodJob | None = of_pod.order_by(cls.created_at.desc()).first()
        return found

    @classmethod
    def cancelled_by(cls, job_id: str) -> str | None:
        """Return who asked for the end of a job, None when nobody did."""
        found = db.rows("SELECT cancel_requested_by FROM cloud_pod_jobs WHERE id = %s", (job_id,))
        return found[0][0] if found else None

    @classmethod
    def waiting_for(cls, job_id: str) -> list["CloudPodJob"]:
        """Return the jobs that wait for this one's success."""
        waiting = [id for (id,) in db.rows(_WAITING, (job_id, job_id))]
        with_node = cls.select(cls, CloudPodNode).join(CloudPodNode, peewee.JOIN.LEFT_OUTER)
        return list(with_node.where(cls.id.in_(waiting))) if waiting else []

    @classmethod
    def wait_for_the_next(cls, job_id: str) -> None:
        """Let the jobs that wait for this one, which succeeded just now, and for others too, wait for the next of those."""
        db.rows(
            "UPDATE cloud_pod_jobs SET after_job_id = after_too[1], after_too = after_too[2:]"
            " WHERE after_job_id = %s AND status = 'queued' AND after_too <> '{}' RETURNING id",
            (job_id,),
        )

    @classmethod
    def pending_of_node(cls, node_id: str, type: str) -> "CloudPodJob | None":
        """Return a node's unfinished job of this type, if there is one."""
        found: CloudPodJob | None = cls._of_node(node_id, type).where(cls.status.in_(("queued", "running"))).first()
        return found

    @classmethod
    def failed_before(cls, job: "CloudPodJob") -> bool:
        """Return whether the look of this kind at the same node that ended before this one failed."""
        ended = cls._of_node(str(job.node_id), job.type).where(cls.id != job.id, cls.status.in_(("success", "failed")))
        before = ended.first()
        return before is not None and before.status == "failed"

    @classmethod
    def last_of_node(cls, node_id: str, type: str) -> "CloudPodJob | None":
        """Return a node's last successful job of this type, if there is one."""
        found: CloudPodJob | None = cls._of_node(node_id, type).where(cls.status == "success").first()
        return found

    @classmethod
    def _of_node(cls, node_id: str, type: str) -> Any:
        of_node = (cls.node == node_id) & (cls.type == type) & cls.cloud_pod_id.is_null()
        return cls.select().where(of_node).order_by(cls.created_at.desc())

    def as_json(self) -> dict[str, Any]:
        """Return the job as clients see it."""
        to_tenant = caller.only_tenant() is not None
        return {
            "id": self.id,
            "cloudPodId": self.cloud_pod_id,
            "tenantId": self.tenant_id,
            "nodeId": self.node_id,
            "type": self.type,
            "status": self.status,
            "payload": self.payload,
            "result": self.result,
            "error": faults.text(self.error) if to_tenant else self.error,
            "failure": faults.failure(self.failure) if to_tenant else self.failure,
            # How full nodes are is not told to tenants.
            "placement": None if to_tenant else self.placement,
            "requestedBy": self.requested_by,
            "requestId": self.request_id,
            "dryRun": self.dry_run,
            "afterJobId": self.after_job_id,
            "retryOf": self.retry_of,
            "batchId": self.batch_id,
            "tries": self.tries,
            "cancelRequestedAt": db.iso(self.cancel_requested_at),
            "cancelRequestedBy": self.cancel_requested_by,
            "createdAt": db.iso(self.created_at),
            "startedAt": db.iso(self.started_at),
            "finishedAt": db.iso(self.finished_at),
        }
