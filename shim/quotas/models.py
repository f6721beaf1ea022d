"""The table of quotas (the master spec's section 1.3)."""

import peewee

from shim.db import Model, new_id
from shim.tenants.models import Plan, Tenant


class TenantQuota(Model):
    """A tenant's limits and what it uses of them; the limits begin as its plan's."""

    id = peewee.TextField(primary_key=True, default=new_id)
    tenant = peewee.ForeignKeyField(Tenant, column_name="tenant_id", unique=True)
    max_cloud_pods = peewee.IntegerField()
    max_cpu_cores = peewee.IntegerField()
    max_ram_mb = peewee.IntegerField()
    max_disk_gb = peewee.IntegerField()
    used_cloud_pods = peewee.IntegerField(default=0)
    used_cpu_cores = peewee.IntegerField(default=0)
    used_ram_mb = peewee.IntegerField(default=0)
    used_disk_gb = peewee.IntegerField(default=0)

    class Meta:
        table_name = "tenant_quotas"

    @classmethod
    def ensure(cls, tenant: Tenant, plan: Plan) -> None:
        """Give the tenant a quota with its plan's limits, unless it has one."""
        cls.insert(
            id=new_id(),
            tenant=tenant,
            max_cloud_pods=plan.max_cloud_pods,
            max_cpu_cores=plan.max_cpu_cores,
            max_ram_mb=plan.max_ram_mb,
            max_disk_gb=plan.max_disk_gb,
        ).on_conflict_ignore().execute()
