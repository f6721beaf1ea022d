"""What may be said of nodes, address pools and regions, and what is answered.

A `PUT` changes the fields that it names and leaves the others.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from shim.config import DRILL_VMIDS
from shim.tenants.schemas import Change, left_out
from shim.web.paging import PageQuery
from shim.web.schema import Answer, IPv4, Moment, Name, Request

Total = Annotated[int, Field(ge=0, le=2**31 - 1)]
# The column keeps three decimals.
Ratio = Annotated[float, Field(ge=0.1, le=100, allow_inf_nan=False)]
Jobs = Annotated[int, Field(ge=1, le=64)]
Storages = Annotated[list[Name], Field(max_length=100)]
Url = Annotated[str, StringConstraints(max_length=500, pattern=r"^https?://[\x21-\x7e]+$")]
Vmid = Annotated[int, Field(ge=100, lt=DRILL_VMIDS)]
Status = Literal["active", "cordoned", "draining", "offline"]


class ChangeNode(Change):
    """`PUT /internal/nodes/{node}`: `nodeName` is what Proxmox calls it, `storages` null means not known."""

    region: Name = Field(default_factory=left_out)
    status: Status = Field(default_factory=left_out)
    api_url: Url | None = None
    node_name: Name | None = None
    total_cpu_cores: Total = Field(default_factory=left_out)
    total_memory_mb: Total = Field(default_factory=left_out)
    total_disk_gb: Total = Field(default_factory=left_out)
    cpu_overcommit: Ratio = Field(default_factory=left_out)
    memory_overcommit: Ratio = Field(default_factory=left_out)
    disk_overcommit: Ratio = Field(default_factory=left_out)
    storages: Storages | None = None
    max_running_jobs: Jobs = Field(default_factory=left_out)
    address_pool: Name | None = Field(default=None, description="A pool's name.")

    def columns(self) -> dict[str, Any]:
        """Return the columns that the request names, as the database keeps them."""
        given = super().columns()
        ratios = {name: round(value, 3) for name, value in given.items() if name.endswith("_overcommit")}
        return {**given, **ratios}


class CreateNode(ChangeNode):
    """`POST /internal/nodes`. `name` is the host's in the Ansible inventory; without `region` it is the settings' one."""

    name: Name


class NodesQuery(PageQuery):
    """Which nodes."""

    region: str | None = None
    status: Status | None = None


class NodeAnswer(Answer):
    """A Proxmox host. What pods may take of it is a total times its over-commit; a total of 0 is not known."""

    id: str
    name: str
    provider: str
    api_url: str | None
    node_name: str | None
    region: str
    status: Status
    total_cpu_cores: int
    total_memory_mb: int
    total_disk_gb: int
    cpu_overcommit: float
    memory_overcommit: float
    disk_overcommit: float
    used_cpu_cores: int
    used_memory_mb: int
    used_disk_gb: int
    free_cpu_cores: int | None = Field(description="Null: the total is not known. Below 0: more is placed than may be.")
    free_memory_mb: int | None
    free_disk_gb: int | None
    pods: int = Field(description="Pods that have a share of it; to a drained node these remain.")
    running_jobs: int
    max_running_jobs: int
    storages: list[str] | None
    address_pool: str | None
    synced_at: Moment | None = Field(description="When the node last told its totals.")
    created_at: Moment
    updated_at: Moment


class ChangePool(Change):
    """`PUT /internal/address-pools/{name}`."""

    first_ip: IPv4 = Field(default_factory=left_out)
    last_ip: IPv4 = Field(default_factory=left_out)
    gateway: IPv4 = Field(default_factory=left_out)


class CreatePool(Request):
    """`POST /internal/address-pools`: the addresses from `firstIp` to `lastIp`, but for the gateway's."""

    name: Name
    first_ip: IPv4
    last_ip: IPv4
    gateway: IPv4


class PoolAnswer(Answer):
    """The addresses of one L2 segment. Of a pool of several nodes the control plane gives them, else the node itself."""

    id: str
    name: str
    first_ip: str
    last_ip: str
    gateway: str
    nodes: list[str]
    addresses: int = Field(description="How many it can give.")
    used: int = Field(description="How many of them are booked: one for each pod of its nodes.")
    created_at: Moment
    updated_at: Moment


class ChangeRegion(Change):
    """`PUT /internal/regions/{region}`: vmids from `vmidFirst` to `vmidLast`, those picked from `vmidAutoFirst` on."""

    vmid_first: Vmid = Field(default_factory=left_out)
    vmid_auto_first: Vmid = Field(default_factory=left_out)
    vmid_last: Vmid = Field(default_factory=left_out)
    next_vmid: Vmid = Field(default_factory=left_out, description="Where the search for the next one begins; it only grows.")


class RegionAnswer(Answer):
    """A region's vmids."""

    name: str
    vmid_first: int
    vmid_auto_first: int
    vmid_last: int
    next_vmid: int
    created_at: Moment
    updated_at: Moment
