"""What clients may ask of pods: the master spec's payloads, checked, frozen, camelCase outside and snake_case inside.

The patterns are the node scripts' own (docs/node-contract.md), so that what passes here is not refused there.
"""

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, AliasChoices, ConfigDict, Field, create_model, model_validator
from pydantic.alias_generators import to_camel

from shim.web.paging import PageQuery
from shim.web.rate_limit import Counted
from shim.web.schema import Flag, IPv4, MomentText, Name, Query, Request, described

_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOSTNAME = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_SNAPSHOT = re.compile(r"[A-Za-z][A-Za-z0-9_-]{1,39}")


def _hostname(value: str) -> str:
    if len(value) > 253 or not _HOSTNAME.fullmatch(value):
        raise ValueError(
            "must be a DNS name: labels of at most 63 letters, digits and inner hyphens, joined by dots, 253 characters at most"
        )
    return value


def as_hostname(value: str) -> str:
    """Return what comes nearest to this name and is a DNS name: containers made by hand may be called otherwise."""
    labels = (re.sub(r"[^A-Za-z0-9-]", "-", label)[:63].strip("-") for label in value[:253].split("."))
    return ".".join(label for label in labels if label) or "localhost"


def _require_one_way(ip: str | None, auto_ip: bool | None) -> None:
    if ip is not None and auto_ip:
        raise ValueError("ip and autoIp exclude each other: send one of them")
    if ip is None and auto_ip is False:
        raise ValueError("ip is needed when autoIp is false")


_BOTH_WAYS = {"required": ["ip", "autoIp"], "properties": {"ip": {"type": "string"}, "autoIp": {"const": True}}}
_NO_WAY = {"required": ["autoIp"], "properties": {"ip": {"type": "null"}, "autoIp": {"const": False}}}
# What `_require_one_way` checks, for the OpenAPI document.
_ONE_WAY: Any = [{"not": _BOTH_WAYS}, {"not": _NO_WAY}]


def _snapshot_name(value: str) -> str:
    if not _SNAPSHOT.fullmatch(value) or value in ("current", "vzdump"):
        raise ValueError(
            "must be 2 to 40 letters, digits, _ or -, beginning with a letter; current and vzdump are Proxmox's own"
        )
    return value


SnapshotName = Annotated[str, AfterValidator(_snapshot_name), described(_SNAPSHOT, **{"not": {"enum": ["current", "vzdump"]}})]
Hostname = Annotated[str, AfterValidator(_hostname), described(_HOSTNAME, maxLength=253)]
Vmid = Annotated[int, Field(ge=100, le=999_999_999)]
Cores = Annotated[int, Field(ge=1, le=128)]
MemoryMb = Annotated[int, Field(ge=16, le=1_048_576)]
SwapMb = Annotated[int, Field(ge=0, le=1_048_576)]
DiskGb = Annotated[int, Field(ge=1, le=16_384)]
Reason = Annotated[str, Field(max_length=500, pattern=r"^[^\x00]*$")]


_A_POD: Any = {"tenantId": "TENANT-123", "hostname": "client-portal", "cores": 2, "memoryMb": 2048, "autoIp": True}


class CreatePod(Request):
    """`POST /internal/cloudpods`. Neither `ip` nor `autoIp` means autoIp; without `vmid` one is picked."""

    model_config = ConfigDict(json_schema_extra={"allOf": _ONE_WAY, "examples": [_A_POD]})

    tenant_id: Name
    hostname: Hostname
    cores: Cores
    memory_mb: MemoryMb
    swap_mb: SwapMb = 512
    disk_gb: DiskGb = 8
    vmid: Vmid | None = None
    ip: IPv4 | None = None
    auto_ip: bool | None = None
    plan_id: Name | None = None
    region: Name | None = None
    node: Name | None = None
    requested_by: Name | None = None

    @model_validator(mode="after")
    def _one_way_to_an_address(self) -> "CreatePod":
        _require_one_way(self.ip, self.auto_ip)
        return self

    def counts_as(self) -> Counted:
        """Return which rate limit it counts for."""
        return "create"


class ChangePod(Request):
    """What every change of a pod carries: whose it must be, and who asks."""

    tenant_id: Name
    reason: Reason | None = None
    requested_by: Name | None = None

    def counts_as(self) -> Counted:
        """Return which rate limit it counts for."""
        return "order"


class EditPod(Request):
    """`PUT /internal/cloudpods/{vmid}`: what of a pod may be said anew without an order to its node."""

    tenant_id: Name | None = None
    protected: bool


class DestroyPod(ChangePod):
    """`POST /internal/cloudpods/{vmid}/destroy`."""

    backup_first: bool = False

    def counts_as(self) -> Counted:
        """Return which rate limit it counts for."""
        return "destroy"


class BulkOrder(Request):
    """`POST /internal/cloudpods/bulk`: items with an `action` (`create` if left out) and its fields, and the pod's `vmid` or
    `cloudPodId` for a change."""

    tenant_id: Name
    items: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=500)]
    requested_by: Name | None = None


class AdoptPod(Request):
    """`POST /internal/nodes/{node}/adopt`."""

    tenant_id: Name
    vmid: Vmid
    requested_by: Name | None = None


class BackupPod(ChangePod):
    """`POST /internal/cloudpods/{vmid}/backup`."""

    mode: Literal["snapshot", "suspend", "stop"] = "snapshot"


# What `ScalePod` checks, for the OpenAPI document.
_SOME_SIZE: Any = [
    {"required": [name], "properties": {name: {"type": "integer"}}} for name in ("newCores", "newMemoryMb", "swapMb")
]


class ScalePod(ChangePod):
    """`POST /internal/cloudpods/{vmid}/scale`; `cores` and `memoryMb` are taken for `newCores` and `newMemoryMb`.

    What is left out stays as it is. Without `force` the node refuses less memory than is in use.
    """

    model_config = ConfigDict(json_schema_extra={"anyOf": _SOME_SIZE})

    new_cores: Cores | None = Field(None, validation_alias=AliasChoices("newCores", "cores"))
    new_memory_mb: MemoryMb | None = Field(None, validation_alias=AliasChoices("newMemoryMb", "memoryMb"))
    swap_mb: SwapMb | None = None
    force: bool = False
    backup_first: bool = False

    @model_validator(mode="after")
    def _some_size(self) -> "ScalePod":
        if self.new_cores is None and self.new_memory_mb is None and self.swap_mb is None:
            raise ValueError("newCores, newMemoryMb, swapMb: at least one is required")
        return self


class PowerPod(ChangePod):
    """`{"action": "start" | "shutdown" | "stop" | "reboot"}` of the panel."""

    shutdown_timeout_s: Annotated[int, Field(ge=1, le=3600)] = 60


class SnapshotPod(ChangePod):
    """`POST /internal/cloudpods/{vmid}/snapshots`."""

    name: SnapshotName


_OF_A_NEW_POD = ("hostname", "vmid", "ip", "auto_ip", "cores", "memory_mb", "swap_mb", "disk_gb", "node")
_AS_NEW_OR_IN_PLACE: Any = {
    "if": {"required": ["asNew"], "properties": {"asNew": {"const": True}}},
    "then": {"properties": {"force": {"const": False}}},
    "else": {"properties": {to_camel(name): {"type": "null"} for name in _OF_A_NEW_POD}},
}


class RestorePod(ChangePod):
    """`POST /internal/cloudpods/{vmid}/restore`: over the pod itself, or `asNew`, where the new pod is like its source."""

    model_config = ConfigDict(json_schema_extra={"allOf": [*_ONE_WAY, _AS_NEW_OR_IN_PLACE]})
    OF_A_NEW_POD: ClassVar = _OF_A_NEW_POD

    backup_id: Name | None = None
    as_new: bool = False
    force: bool = False
    hostname: Hostname | None = None
    vmid: Vmid | None = None
    ip: IPv4 | None = None
    auto_ip: bool | None = None
    cores: Cores | None = None
    memory_mb: MemoryMb | None = None
    swap_mb: SwapMb | None = None
    disk_gb: DiskGb | None = None
    node: Name | None = None

    @model_validator(mode="after")
    def _for_a_new_pod_only(self) -> "RestorePod":
        given = [name for name in self.OF_A_NEW_POD if getattr(self, name) is not None]
        if given and not self.as_new:
            names = ", ".join(to_camel(name) for name in given)
            raise ValueError(f"{names}: only with asNew; a pod that is restored in place stays what it is")
        if self.force and self.as_new:
            raise ValueError("force: only without asNew; a new pod overwrites nothing")
        _require_one_way(self.ip, self.auto_ip)
        return self

    def counts_as(self) -> Counted:
        """Return which rate limit it counts for: as a new pod it is one more."""
        return "create" if self.as_new else "order"


class DrillPod(ChangePod):
    """`POST /internal/cloudpods/{vmid}/restore-drill`."""

    backup_id: Name | None = None


class CheckHealth(ChangePod):
    """A health check asked for by a person or a panel."""

    triggered_by: Literal["schedule", "manual", "focalpilot"] = "manual"


def as_action(name: str, model: type[ChangePod]) -> type[ChangePod]:
    """Return a change's model as the panel's `actions` route takes it: with its `action`; `tenantId` may be left out."""
    fields: Any = {"action": (Literal[name], ...), "tenant_id": (Name | None, None)}
    return create_model(f"{name.capitalize()}Action", __base__=model, __doc__=model.__doc__, **fields)


class TenantPodsQuery(PageQuery):
    """Which of a tenant's pods; without `status` any but deleted ones."""

    status: Literal["provisioning", "active", "failed", "deleting", "deleted"] | None = None
    region: str | None = None
    node: str | None = None
    hostname: str | None = None


class PodsQuery(TenantPodsQuery):
    """Which pods of all tenants."""

    tenant_id: str | None = None


class BackupsQuery(PageQuery):
    """Which of a pod's backups."""

    status: Literal["ready", "removed"] = "ready"


class OrderQuery(Query):
    """Whether to only rehearse the order: with its checks, its quota, its place and the node's answer, and without a change."""

    dry_run: Flag = False


class RefreshQuery(Query):
    """Whether to have the node asked anew, too."""

    refresh: Flag = False


class WhoseQuery(Query):
    """Whose pod it must be; in the query, since a DELETE's body may be lost on its way."""

    tenant_id: Name


DriftKind = Literal["missing", "moved", "moved_to_unknown_node", "duplicate", "unfinished", "owner", "size", "power", "foreign"]


class DriftQuery(PageQuery):
    """Which reports, and which of their items; `history` lists all that are kept instead of each node's newest."""

    node: str | None = None
    kind: DriftKind | None = None
    tenant_id: str | None = None
    history: Flag = False


class UsageQuery(PageQuery):
    """From when (included) to when (excluded)."""

    since: MomentText | None = None
    until: MomentText | None = None
