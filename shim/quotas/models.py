"""The table of quotas (the master spec's section 1.3)."""

from typing import Any

import peewee
from pydantic.alias_generators import to_camel

from shim import db
from shim.db import Model, new_id
from shim.errors import NotFound
from shim.quotas.amount import NONE, Amount
from shim.quotas.ledger_models import QuotaEntry
from shim.tenants.models import LIMITS, Plan, Tenant

USED = ("used_cloud_pods", "used_cpu_cores", "used_ram_mb", "used_disk_gb")
RESERVED = ("reserved_cloud_pods", "reserved_cpu_cores", "reserved_ram_mb", "reserved_disk_gb")
_FOLLOW = """
UPDATE tenant_quotas q SET updated_at = now(), max_cloud_pods = p.max_cloud_pods, max_cpu_cores = p.max_cpu_cores,
       max_ram_mb = p.max_ram_mb, max_disk_gb = p.max_disk_gb
FROM tenants t JOIN plans p ON p.id = t.plan_id
WHERE t.id = q.tenant_id AND p.id = %s AND q.follows_plan AND t.deleted_at IS NULL RETURNING q.tenant_id
"""


class TenantQuota(Model):
    """A tenant's limits and what it uses of them; the limits begin as its plan's."""

    id = peewee.TextField(primary_key=True, default=new_id)
    tenant_id: str
    tenant = peewee.ForeignKeyField(Tenant, column_name="tenant_id", unique=True)
    max_cloud_pods = peewee.IntegerField()
    max_cpu_cores = peewee.IntegerField()
    max_ram_mb = peewee.IntegerField()
    max_disk_gb = peewee.IntegerField()
    used_cloud_pods = peewee.IntegerField(default=0)
    used_cpu_cores = peewee.IntegerField(default=0)
    used_ram_mb = peewee.IntegerField(default=0)
    used_disk_gb = peewee.IntegerField(default=0)
    # Whether the limits are the plan's and change with it, or were set for this tenant.
    follows_plan = peewee.BooleanField(default=True)
    created_at = peewee.DateTimeField()
    updated_at = peewee.DateTimeField()

    class Meta:
        table_name = "tenant_quotas"

    @classmethod
    def ensure(cls, tenant: Tenant, plan: Plan) -> None:
        """Give the tenant a quota with its plan's limits, unless it has one."""
        cls.insert(id=new_id(), tenant=tenant, **plan.limits()).on_conflict_ignore().execute()

    @classmethod
    def of(cls, tenant: Tenant) -> "TenantQuota":
        """Return the tenant's quota. Raises NotFound when it has none, which `PUT` mends."""
        found: TenantQuota | None = cls.get_or_none(cls.tenant == tenant.id)
        if found is None:
            raise NotFound(f"tenant {tenant.id} has no quota yet; PUT its limits", code="quota_not_found")
        return found

    @classmethod
    def hold(cls, tenant: Tenant) -> "TenantQuota":
        """Return the tenant's quota, its row locked to the end of the transaction; made by its plan if there was none."""
        cls.ensure(tenant, tenant.plan)
        found: TenantQuota = cls.select().where(cls.tenant == tenant.id).for_update().get()
        return found

    @classmethod
    def balance(cls, tenant_id: str) -> tuple[Amount, Amount]:
        """Return a tenant's limits and what it uses, its quota's row locked; one that has no quota yet gets its plan's."""
        held = f"SELECT {', '.join(LIMITS)}, {', '.join(USED)} FROM tenant_quotas WHERE tenant_id = %s FOR UPDATE"
        found = db.rows(held, (tenant_id,))
        if not found:
            tenant = Tenant.get_by_id(tenant_id)
            cls.ensure(tenant, tenant.plan)
            found = db.rows(held, (tenant_id,))
        return Amount(*found[0][:4]), Amount(*found[0][4:])

    @classmethod
    def use(cls, tenant_id: str, difference: Amount) -> Amount:
        """Add to what a tenant uses; return what it uses now. `updated_at`, the limits' version, stays."""
        ((*used,),) = db.rows(
            "UPDATE tenant_quotas SET used_cloud_pods = used_cloud_pods + %s, used_cpu_cores = used_cpu_cores + %s,"
            " used_ram_mb = used_ram_mb + %s, used_disk_gb = used_disk_gb + %s WHERE tenant_id = %s"
            f" RETURNING {', '.join(USED)}",
            (*difference.values(), tenant_id),
        )
        return Amount(*used)

    @classmethod
    def set_used(cls, tenant_id: str, used: Amount) -> None:
        """Write what a tenant uses, as its ledger has it."""
        columns = dict(zip(USED, used.values(), strict=True))
        cls.update(**columns).where(cls.tenant == tenant_id).execute()

    @classmethod
    def follow(cls, plan: Plan) -> list[str]:
        """Write the plan's limits to the quotas that follow it; return whose those are."""
        return [row[0] for row in db.rows(_FOLLOW, (plan.id,))]

    def limits(self) -> dict[str, int]:
        """Return the limits, as columns."""
        return {name: getattr(self, name) for name in LIMITS}

    def change(self, **columns: Any) -> None:
        """Write these columns."""
        TenantQuota.update(updated_at=db.now(), **columns).where(TenantQuota.id == self.id).execute()

    def reserved(self) -> Amount:
        """Return what orders under way may yet take."""
        return sum(QuotaEntry.reserved(self.tenant_id).values(), NONE)

    def as_json(self) -> dict[str, Any]:
        """Return the quota as clients see it: the master spec's names."""
        return {
            "tenantId": self.tenant_id,
            **{to_camel(name): getattr(self, name) for name in (*LIMITS, *USED)},
            **{to_camel(name): value for name, value in zip(RESERVED, self.reserved().values(), strict=True)},
            "followsPlan": self.follows_plan,
            "createdAt": db.iso(self.created_at),
            "updatedAt": db.iso(self.updated_at),
        }
