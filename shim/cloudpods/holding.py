"""The rows that orders lock, in the one order that everybody keeps, so that no two requests ever wait for each other:

pods (by id), tenant, plans (by id), quota; then the locks of all: "placement", "vmid"; at the commit the stream of events.

An order by itself takes them in this order as it comes to them. What would come back to an earlier one, a batch with its next
item or a dry run after it took its trial back, holds all of them first: to let a lock go and ask for it again is to queue
behind those who wait for something else of ours.
"""

from collections.abc import Iterable

from shim import caller, db
from shim.cloudpods.schemas import ChangePod, CreatePod
from shim.quotas.models import TenantQuota

_PODS = "SELECT id FROM cloud_pods WHERE tenant_id = %s AND (id = ANY(%s) OR vmid = ANY(%s)) ORDER BY id FOR UPDATE"
_TENANT = "SELECT id FROM tenants WHERE id = %s AND deleted_at IS NULL FOR SHARE"
_PLANS = "SELECT id FROM plans WHERE id = ANY(%s) OR id = (SELECT plan_id FROM tenants WHERE id = %s) ORDER BY id FOR SHARE"


def hold_for(asked: CreatePod | ChangePod, reference: str | None) -> None:
    """Lock what this order will, of the pod with this reference or of a new one."""
    plans = [asked.plan_id] if isinstance(asked, CreatePod) and asked.plan_id is not None else []
    hold(asked.tenant_id, [reference] if reference else [], plans)


def hold(tenant_id: str, references: Iterable[str], plan_ids: Iterable[str] = ()) -> None:
    """Lock a tenant's pods, itself, its plan and these, and its quota. What is not there is the order's to say."""
    if not caller.sees(tenant_id):
        return
    named = [reference for reference in references if "\x00" not in reference]
    vmids = [int(name) for name in named if name.isascii() and name.isdigit() and len(name) < 10]
    if named:
        db.rows(_PODS, (tenant_id, named, vmids))
    if db.rows(_TENANT, (tenant_id,)):
        db.rows(_PLANS, (list(plan_ids), tenant_id))
        TenantQuota.balance(tenant_id)
