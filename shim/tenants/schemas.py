"""What a panel may say of users, plans and tenants, and is told of them.

A `PUT` changes the fields that it names and leaves the others.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints

from shim.web.paging import PageQuery
from shim.web.schema import Answer, Flag, Moment, Name, Request

# No control characters, and not blank.
_TEXT = r"^[^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f][^\x00-\x1f\x7f]*$"
_MAX_INTEGER = 2**31 - 1

Title = Annotated[str, StringConstraints(max_length=200, pattern=_TEXT)]
Description = Annotated[str, StringConstraints(max_length=2000, pattern=r"^[^\x00]*$")]
Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
# Kept in lower case, so that one person is not two.
Email = Annotated[
    str, StringConstraints(max_length=254, pattern=r"^[^@\s\x00-\x1f\x7f]+@[^@\s\x00-\x1f\x7f]+$"), AfterValidator(str.lower)
]
UserRole = Literal["owner", "admin", "dev", "billing"]
BackupPolicy = Literal["basic", "standard", "enterprise"]
Limit = Annotated[int, Field(ge=0, le=_MAX_INTEGER)]


def left_out() -> Any:
    """Return what a field has that a change does not name. Such a field cannot be null: its type says so."""
    return None


class Change(Request):
    """The parent of every change."""

    def columns(self) -> dict[str, Any]:
        """Return the columns that the request names, with their new values."""
        return self.model_dump(exclude_unset=True)


class CreateUser(Request):
    """`POST /internal/users`."""

    id: Name | None = None
    email: Email
    name: Title | None = None
    role: UserRole = "owner"


class ChangeUser(Change):
    """`PUT /internal/users/{id}`."""

    email: Email = Field(default_factory=left_out)
    name: Title | None = None
    role: UserRole = Field(default_factory=left_out)


class CreatePlan(Request):
    """`POST /internal/plans`. Without `slug` it is the id, without `id` both are made from the name."""

    id: Name | None = None
    name: Title
    slug: Slug | None = None
    description: Description | None = None
    max_cloud_pods: Limit
    max_cpu_cores: Limit
    max_ram_mb: Limit
    max_disk_gb: Limit
    backup_policy: BackupPolicy = "basic"


class ChangePlan(Change):
    """`PUT /internal/plans/{id}`."""

    name: Title = Field(default_factory=left_out)
    slug: Slug = Field(default_factory=left_out)
    description: Description | None = None
    max_cloud_pods: Limit = Field(default_factory=left_out)
    max_cpu_cores: Limit = Field(default_factory=left_out)
    max_ram_mb: Limit = Field(default_factory=left_out)
    max_disk_gb: Limit = Field(default_factory=left_out)
    backup_policy: BackupPolicy = Field(default_factory=left_out)


class CreateTenant(Request):
    """`POST /internal/tenants`. Without `slug` it is made from the name, without `region` it is the settings' one."""

    id: Name | None = None
    name: Title
    slug: Slug | None = None
    owner_user_id: Name
    plan_id: Name
    region: Name | None = None


class ChangeTenant(Change):
    """`PUT /internal/tenants/{id}`. Another `planId` gives the tenant that plan's limits, be they below what it uses."""

    name: Title = Field(default_factory=left_out)
    slug: Slug = Field(default_factory=left_out)
    owner_user_id: Name = Field(default_factory=left_out)
    plan_id: Name = Field(default_factory=left_out)
    region: Name = Field(default_factory=left_out)


class UsersQuery(PageQuery):
    """Which users."""

    email: str | None = None
    role: UserRole | None = None


class PlansQuery(PageQuery):
    """Which plans."""

    slug: str | None = None


class TenantsQuery(PageQuery):
    """Which tenants: the live ones, or only the deleted ones."""

    slug: str | None = None
    plan_id: str | None = None
    region: str | None = None
    owner_user_id: str | None = None
    deleted: Flag = False


class UserAnswer(Answer):
    """A person of the panel."""

    id: str
    email: str
    name: str | None
    role: UserRole
    created_at: Moment
    updated_at: Moment


class PlanAnswer(Answer):
    """What tenants buy: the limits of their quotas."""

    id: str
    name: str
    slug: str
    description: str | None
    max_cloud_pods: int
    max_cpu_cores: int
    max_ram_mb: int
    max_disk_gb: int
    backup_policy: BackupPolicy
    created_at: Moment
    updated_at: Moment


class TenantAnswer(Answer):
    """A customer."""

    id: str
    name: str
    slug: str
    owner_user_id: str
    plan_id: str
    region: str
    created_at: Moment
    updated_at: Moment
    deleted_at: Moment | None
