"""What clients get of pods, their snapshots and backups."""

from typing import Literal

from pydantic import Field

from shim.jobs.schemas import BatchAnswer, JobAnswer
from shim.web.schema import Answer, Json, Moment

PowerState = Literal["running", "stopped", "unknown"]
Health = Literal["ok", "warning", "critical"]


class CloudPodAnswer(Answer):
    """A pod: a tenant's LXC container. `wantedPower` is what was last ordered, `powerState` what was seen."""

    id: str
    tenant_id: str
    vmid: int
    hostname: str
    ip: str = Field(description="Empty until the node has given the address.")
    region: str
    node: str
    status: Literal["provisioning", "active", "failed", "deleting", "deleted"]
    power_state: PowerState
    wanted_power: Literal["running", "stopped"]
    host_key: str | None
    protected: bool
    error: str | None
    plan_snapshot: dict[str, Json] | None
    cores: int
    memory_mb: int
    swap_mb: int
    disk_gb: int
    storage: str
    bridge: str
    created_at: Moment
    updated_at: Moment
    deleted_at: Moment | None
    last_backup_at: Moment | None
    last_health_status: Health | None
    last_health_checked: Moment | None
    blueprint_id: str | None


class ListedPodAnswer(CloudPodAnswer):
    """A pod of a list: also its role in its stack, and the slug of the blueprint that it was made by."""

    role: str | None
    blueprint: str | None


class AmountAnswer(Answer):
    """What a quota counts."""

    pods: int
    cores: int
    ram_mb: int
    disk_gb: int


class QuotaPlanAnswer(Answer):
    """What orders would take of their tenant's quota; `before` and `after` hold what is used and reserved."""

    limit: AmountAnswer
    before: AmountAnswer
    asked: AmountAnswer
    after: AmountAnswer


class PlacementAnswer(Answer):
    """Where an order would be carried out, and why there."""

    node: str
    reasons: Json


class AcceptedAnswer(Answer):
    """An order that was taken: its job, and the pod as it is now. `Location` says where to follow the job.

    `backupJob` comes before the job, if the order asked for a backup first. A dry run also tells `quota` and `placement`, and
    of a new pod there is none.
    """

    job: JobAnswer
    cloud_pod: CloudPodAnswer | None
    backup_job: JobAnswer | None = None
    quota: QuotaPlanAnswer | None = None
    placement: PlacementAnswer | None = None


class BulkItemAnswer(Answer):
    """What one item of a batch became."""

    item: int
    type: str
    job_id: str
    cloud_pod_id: str | None
    vmid: int | None
    backup_job_id: str | None = None
    placement: PlacementAnswer | None = None


class BulkAnswer(Answer):
    """Orders that were taken all at once. A dry run also tells `quota`."""

    batch: BatchAnswer
    items: list[BulkItemAnswer]
    quota: QuotaPlanAnswer | None = None


class SnapshotAnswer(Answer):
    """A snapshot that a pod has, is getting or is losing."""

    name: str
    status: Literal["creating", "ready", "deleting"]
    reason: str | None
    created_at: Moment


class HealthAnswer(Answer):
    """A pod's latest known health; `job` is the check that `refresh` queued."""

    vmid: int
    cloud_pod_id: str
    tenant_id: str
    last_health_status: Health | None
    last_health_checked: Moment | None
    details: dict[str, Json] | None
    job: JobAnswer | None = None


class BackupAnswer(Answer):
    """An archive that a node has, or had, of a pod."""

    id: str
    cloud_pod_id: str
    tenant_id: str
    node: str
    vmid: int
    job_id: str | None
    volid: str
    storage: str | None
    mode: str | None
    size_bytes: int | None
    status: Literal["ready", "removed"]
    created_at: Moment
    removed_at: Moment | None
    drilled_at: Moment | None
    drill_passed: bool | None
    drill_error: str | None


class ForeignPodAnswer(Answer):
    """A container of the pool that is none of our pods, as the node said; what it did not say is null."""

    vmid: int
    status: Json
    hostname: Json
    ip: Json
    cores: Json
    memory_mb: Json
    swap_mb: Json
    disk_gb: Json
    storage: Json
    bridge: Json
    unfinished: Json
    owner: Json
    host_key: Json


class ForeignAnswer(Answer):
    """The containers that the last look at a node showed; `job` is the look that `refresh` queued."""

    node: str
    seen_at: Moment | None
    items: list[ForeignPodAnswer]
    job: JobAnswer | None = None


class UsageAnswer(Answer):
    """A pod that a tenant had, as a bill needs it: its present, or last, size."""

    cloud_pod_id: str
    vmid: int
    hostname: str
    region: str
    status: Literal["provisioning", "active", "failed", "deleting", "deleted"]
    plan_id: str | None
    cores: int
    memory_mb: int
    swap_mb: int
    disk_gb: int
    created_at: Moment
    deleted_at: Moment | None


class DriftAnswer(Answer):
    """What a comparison of a node with the table found."""

    id: str
    node: str
    job_id: str | None
    looked_at: Moment | None
    created_at: Moment
    checked: int
    counts: dict[str, int]
    items: list[dict[str, Json]]


class LookAnswer(Answer):
    """The job that looks at a node."""

    job: JobAnswer
