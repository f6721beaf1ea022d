"""How often a pod is backed up, how many archives stay, and how often one is tried: by its tenant's plan.

docs/backups.md shows the same as a table.
"""

from dataclasses import dataclass
from datetime import timedelta

from shim.tenants.models import Tenant


@dataclass(frozen=True)
class Policy:
    """What a plan's `backup_policy` means. `keep` is the playbook's `retention`; without `drill_every` nothing is drilled."""

    every: timedelta
    keep: dict[str, int]
    drill_every: timedelta | None = None


POLICIES: dict[str, Policy] = {
    "basic": Policy(timedelta(days=7), {"keep_last": 2}),
    "standard": Policy(timedelta(days=1), {"keep_last": 2, "keep_daily": 7, "keep_weekly": 4}, timedelta(days=30)),
    "enterprise": Policy(
        timedelta(hours=6),
        {"keep_last": 4, "keep_daily": 14, "keep_weekly": 8, "keep_monthly": 12},
        timedelta(days=7),
    ),
}


def of_tenant(tenant_id: str) -> Policy:
    """Return the policy of a tenant's plan, as it is now: a plan that was changed counts from the next backup on."""
    return POLICIES[Tenant.get_by_id(tenant_id).plan.backup_policy]
