"""Tenants, users, plans and API tokens (the master spec's section 1.1)."""

import hashlib
import secrets
from typing import Any

import peewee

from shim import caller, db
from shim.db import Model, new_id
from shim.errors import FieldError, NotFound

TOKEN_PREFIX = "cpods_"


class User(Model):
    """A person of the panel."""

    id = peewee.TextField(primary_key=True, default=new_id)
    email = peewee.TextField(unique=True)
    name = peewee.TextField(null=True)
    role = peewee.TextField(default="owner")

    class Meta:
        table_name = "users"


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

    class Meta:
        table_name = "plans"

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
    owner_user = peewee.ForeignKeyField(User, column_name="owner_user_id")
    plan = peewee.ForeignKeyField(Plan, column_name="plan_id")
    region = peewee.TextField(default="migra-us-east-1")

    class Meta:
        table_name = "tenants"

    @classmethod
    def find(cls, tenant_id: str, *, field: str | None = None) -> "Tenant":
        """Return the tenant. Raises NotFound, also for one that the caller may not know of; `field` is where it was named."""
        known = "\x00" not in tenant_id and caller.sees(tenant_id)
        found: Tenant | None = cls.get_or_none(cls.id == tenant_id) if known else None
        if found is None:
            rule = f"there is no tenant {tenant_id!r}"
            fields: list[FieldError] = [{"field": field, "rule": rule}] if field else []
            raise NotFound(f"{field}: {rule}" if field else rule, code="tenant_not_found", fields=fields)
        return found


class ApiToken(Model):
    """A credential; only its hash is kept. The secret has 256 random bits, so a plain hash cannot be guessed back."""

    id = peewee.TextField(primary_key=True, default=new_id)
    name = peewee.TextField()
    kind = peewee.TextField(default="service")
    token_hash = peewee.TextField(unique=True)
    expires_at = peewee.DateTimeField(null=True)
    revoked_at = peewee.DateTimeField(null=True)

    class Meta:
        table_name = "api_tokens"

    @classmethod
    def issue(cls, name: str) -> str:
        """Store a new token of this name and return its secret, which is shown this once."""
        secret = TOKEN_PREFIX + secrets.token_urlsafe(32)
        cls.insert(id=new_id(), name=name, token_hash=_hash(secret)).execute()
        return secret

    @classmethod
    def find(cls, secret: str) -> tuple[str, str] | None:
        """Return (id, name) of the live token with this secret."""
        found = db.rows(
            "SELECT id, name FROM api_tokens WHERE token_hash = %s AND revoked_at IS NULL"
            " AND (expires_at IS NULL OR expires_at > now())",
            (_hash(secret),),
        )
        return (found[0][0], found[0][1]) if found else None


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
