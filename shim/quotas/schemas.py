"""What a panel may say of a tenant's quota, and what it is told of it."""

from typing import Literal

from pydantic import ConfigDict, Field, model_validator

from shim.tenants.schemas import Change, Limit, left_out
from shim.web.schema import Answer, Moment


class ChangeQuota(Change):
    """`PUT /internal/tenants/{id}/quota`: limits for this tenant, or `followsPlan`: its plan's again."""

    model_config = ConfigDict(json_schema_extra={"not": {"required": ["followsPlan"], "minProperties": 2}})

    max_cloud_pods: Limit = Field(default_factory=left_out)
    max_cpu_cores: Limit = Field(default_factory=left_out)
    max_ram_mb: Limit = Field(default_factory=left_out)
    max_disk_gb: Limit = Field(default_factory=left_out)
    follows_plan: Literal[True] = Field(default_factory=left_out)

    @model_validator(mode="after")
    def _one_way(self) -> "ChangeQuota":
        if "follows_plan" in self.model_fields_set and len(self.model_fields_set) > 1:
            raise ValueError("followsPlan: only without limits; a quota that follows its plan has the plan's")
        return self


class QuotaAnswer(Answer):
    """A tenant's limits, what it uses of them, and what orders under way may yet take."""

    tenant_id: str
    max_cloud_pods: int
    max_cpu_cores: int
    max_ram_mb: int
    max_disk_gb: int
    used_cloud_pods: int
    used_cpu_cores: int
    used_ram_mb: int
    used_disk_gb: int
    reserved_cloud_pods: int
    reserved_cpu_cores: int
    reserved_ram_mb: int
    reserved_disk_gb: int
    follows_plan: bool = Field(description="Whether the limits are the plan's and change with it.")
    created_at: Moment
    updated_at: Moment = Field(description="When the limits were changed last; what is used changes without it.")
