"""Tenants, users and plans (the master spec's section 1.1)."""

from typing import Any

import peewee
from pydantic.alias_generators import to_camel

from shim import caller, db
from shim.db import Model, new_id
from shim.errors import FieldError, Invalid, NotFound

LIMITS = ("max_cloud_pods", "max_cpu_cores", "max_ram_mb", "max_disk_gb")
# Between a deleted tenant's slug and its id.
DELETED = "~"
# Weaker than FOR UPDATE, which would also make every row wait that refers to this one, such as a worker's event.
CHANGING: Any = "FOR NO KEY UPDATE"
KEEPING: Any = "FOR SHARE"


class User(Model):
    """A person of the panel."""

    id = peewee.TextField(primary_key=True, default=new_id)
    email = peewee.TextField(unique=True)
    name = peewee.TextField(null=True)
    role = peewee.TextField(default="owner")
    created_at = peewee.DateTimeField()
    updated_at = peewee.DateTimeField()

    class Meta:
        table_name = "users"

    @classmethod
    def find(cls, user_id: str) -> "User":
        """Return the user. Raises NotFound."""
        found: User = _one(cls.select().where(cls.id == user_id), "user", user_id)
        return found

    @classmethod
    def hold(cls, user_id: str) -> "User":
        """Return the user, the row locked to the end of the transaction. Raises NotFound."""
        found: User = _one(cls.select().where(cls.id == user_id).for_update(CHANGING), "user", user_id)
        return found

    @classmethod
    def chosen(cls, user_id: str, *, field: str) -> "User":
        """Return the user whom a request names in this field, kept from being deleted meanwhile. Raises Invalid."""
        found: User = _chosen(cls.select().where(cls.id == user_id).for_update(KEEPING), "user", user_id, field)
        return found

    @classmethod
    def listed(cls, **filters: str) -> Any:
        """Return the users that have these values in these columns."""
        return _matching(cls.select(), cls, {name: value.lower() for name, value in filters.items()})

    def as_json(self) -> dict[str, Any]:
        """Return the user as clients see it."""
        return {
            "id": self.id,
            "email": self.email,
            "name": self.name,
            "role": self.role,
            "createdAt": db.iso(self.created_at),
            "updatedAt": db.iso(self.updated_at),
        }


class Plan(Model):
    """What a tenant bought: the defaults of its quota."""

    id = peewee.TextField(primary_key=True, default=new_id)
    name = peewee.TextField()
    slug = peewee.TextField(unique=True)
    description = peewee.TextField(null=True)
    max_cloud_pods = peewee.IntegerField()
    max_cpu_cores = peewee.IntegerField()
    max_ram_mb = peewee.IntegerField()
    max_disk_gb = peewee.IntegerField()
    backup_policy = peewee.TextField(default="basic")
    created_at = peewee.DateTimeField()
    updated_at = peewee.DateTimeField()

    class Meta:
        table_name = "plans"

    @classmethod
    def find(cls, plan_id: str) -> "Plan":
        """Return the plan. Raises NotFound."""
        found: Plan = _one(cls.select().where(cls.id == plan_id), "plan", plan_id)
        return found

    @classmethod
    def hold(cls, plan_id: str) -> "Plan":
        """Return the plan, its row locked to the end of the transaction. Raises NotFound."""
        found: Plan = _one(cls.select().where(cls.id == plan_id).for_update(CHANGING), "plan", plan_id)
        return found

    @classmethod
    def chosen(cls, plan_id: str, *, field: str = "planId") -> "Plan":
        """Return the plan that a request names in this field, kept as it is to the transaction's end. Raises Invalid."""
        found: Plan = _chosen(cls.select().where(cls.id == plan_id).for_update(KEEPING), "plan", plan_id, field)
        return found

    @classmethod
    def listed(cls, **filters: str) -> Any:
        """Return the plans that have these values in these columns."""
        return _matching(cls.select(), cls, filters)

    def limits(self) -> dict[str, int]:
        """Return the plan's limits, as columns of a quota."""
        return {name: getattr(self, name) for name in LIMITS}

    def beyond(self, other: "Plan") -> list[str]:
        """Return the limits in which this plan allows more than the other one, by the master spec's names."""
        return [to_camel(name) for name in LIMITS if getattr(self, name) > getattr(other, name)]

    def as_json(self) -> dict[str, Any]:
        """Return the plan as clients see it."""
        times = {"createdAt": db.iso(self.created_at), "updatedAt": db.iso(self.updated_at)}
        return {**self.snapshot(), "description": self.description, **times}

    def snapshot(self) -> dict[str, Any]:
        """Return the plan as a pod keeps it: what was sold on the day it was made."""
        return {
            "id": self.id,
            "name": self.name,
            "slug": self.slug,
            "maxCloudPods": self.max_cloud_pods,
            "maxCpuCores": self.max_cpu_cores,
            "maxRamMb": self.max_ram_mb,
            "maxDiskGb": self.max_disk_gb,
            "backupPolicy": self.backup_policy,
        }


class Tenant(Model):
    """A customer. Its id is the panel's own string."""

    id = peewee.TextField(primary_key=True, default=new_id)
    name = peewee.TextField()
    slug = peewee.TextField(unique=True)
    owner_user_id: str
    owner_user = peewee.ForeignKeyField(User, column_name="owner_user_id")
    plan_id: str
    plan = peewee.ForeignKeyField(Plan, column_name="plan_id")
    region = peewee.TextField(default="migra-us-east-1")
    created_at = peewee.DateTimeField()
    updated_at = peewee.DateTimeField()
    deleted_at = peewee.DateTimeField(null=True)

    class Meta:
        table_name = "tenants"

    @classmethod
    def find(cls, tenant_id: str, *, field: str | None = None) -> "Tenant":
        """Return the tenant. Raises NotFound for a deleted one, and for one that the caller may not know of.

        `field` is where the request named it.
        """
        return cls._one(cls._live(), tenant_id, field)

    @classmethod
    def known(cls, tenant_id: str) -> "Tenant":
        """Return the tenant as `find` does, be it deleted: what it had stays known."""
        return cls._one(cls.select(), tenant_id)

    @classmethod
    def keep(cls, tenant_id: str, *, field: str | None = None) -> "Tenant":
        """Return the tenant as `find` does, kept from being deleted to the end of the transaction, which gives it something."""
        return cls._one(cls._live().for_update(KEEPING), tenant_id, field)

    @classmethod
    def hold(cls, tenant_id: str) -> "Tenant":
        """Return the tenant as `find` does, its row locked to the end of the transaction. Comes before the quota's row."""
        return cls._one(cls._live().for_update(CHANGING), tenant_id)

    @classmethod
    def _live(cls) -> Any:
        return cls.select().where(cls.deleted_at.is_null())

    @classmethod
    def _one(cls, query: Any, tenant_id: str, field: str | None = None) -> "Tenant":
        shown = "\x00" not in tenant_id and caller.sees(tenant_id)
        found: Tenant | None = query.where(cls.id == tenant_id).first() if shown else None
        if found is None:
            rule = f"there is no tenant {tenant_id!r}"
            fields: list[FieldError] = [{"field": field, "rule": rule}] if field else []
            raise NotFound(f"{field}: {rule}" if field else rule, code="tenant_not_found", fields=fields)
        return found

    @classmethod
    def listed(cls, *, deleted: bool, **filters: str) -> Any:
        """Return the live tenants, or else the deleted ones, that have these values in these columns."""
        return _matching(cls.select().where(cls.deleted_at.is_null(not deleted)), cls, filters)

    @classmethod
    def slug_free(cls, slug: str) -> bool:
        """Return whether no tenant has this slug."""
        return not cls.select().where(cls.slug == slug).exists()

    def as_json(self) -> dict[str, Any]:
        """Return the tenant as clients see it."""
        return {
            "id": self.id,
            "name": self.name,
            # A deleted one's is another's to have; what is added then is in nobody's slug.
            "slug": self.slug.split(DELETED)[0],
            "ownerUserId": self.owner_user_id,
            "planId": self.plan_id,
            "region": self.region,
            "createdAt": db.iso(self.created_at),
            "updatedAt": db.iso(self.updated_at),
            "deletedAt": db.iso(self.deleted_at),
        }

    @classmethod
    def is_there(cls, tenant_id: str) -> bool:
        """Return whether there is such a tenant: asked before it is known who asks."""
        return "\x00" not in tenant_id and bool(
            db.rows("SELECT 1 FROM tenants WHERE id = %s AND deleted_at IS NULL", (tenant_id,))
        )


def _one(query: Any, kind: str, id: str) -> Any:
    found = query.first() if "\x00" not in id else None
    if found is None:
        raise NotFound(f"there is no {kind} {id!r}", code=f"{kind}_not_found")
    return found


def _chosen(query: Any, kind: str, id: str, field: str) -> Any:
    found = query.first()
    if found is None:
        raise Invalid.field(field, f"there is no {kind} {id!r}", code=f"unknown_{kind}")
    return found


def _matching(query: Any, model: Any, filters: dict[str, str]) -> Any:
    for name, value in filters.items():
        query = query.where(getattr(model, name) == value)
    return query
