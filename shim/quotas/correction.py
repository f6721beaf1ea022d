"""What a recount mends: entries of no job, each with its event. The quota's row is locked by whoever counted."""

from typing import Any

from shim.events.models import CloudPodEvent
from shim.quotas import ledger
from shim.quotas.amount import NONE, Amount
from shim.quotas.ledger_models import QuotaEntry
from shim.quotas.models import TenantQuota


def use(tenant_id: str, total: Amount, used: Amount) -> None:
    """Write what a tenant uses by its ledger, if the quota says otherwise."""
    if total != used:
        TenantQuota.set_used(tenant_id, total)
        _record(tenant_id, None, total - used, total)


def release(job_ids: list[str]) -> None:
    """Release what these jobs, which are over, still reserve."""
    for job_id in job_ids:
        ledger.release(job_id)


def correct(tenant_id: str, differences: dict[str, Amount], made: set[str]) -> None:
    """Commit to each of these pods what it has more, or less, than its entries say; `made` are those that a job is making."""
    total = QuotaEntry.total(tenant_id) + sum(differences.values(), NONE)
    for cloud_pod_id, difference in differences.items():
        QuotaEntry.enter(tenant_id, None, cloud_pod_id, difference, state="committed", reason="recount")
        if cloud_pod_id not in made:
            QuotaEntry.rebase(cloud_pod_id, difference)
        _record(tenant_id, cloud_pod_id, difference, total)
    if differences:
        # At once: entry by entry what is used might be below nothing in between.
        TenantQuota.set_used(tenant_id, total)


def _record(tenant_id: str, cloud_pod_id: str | None, difference: Amount, used: Amount) -> None:
    about = {"tenant_id": tenant_id, "cloud_pod_id": cloud_pod_id}
    data: dict[str, Any] = {**difference.as_json(), "used": used.as_json()}
    CloudPodEvent.record("WARN", f"Quota recounted: {difference}", **about, action="QUOTA_RECOUNTED", **data)
