"""Many orders of one tenant at once: all of them are taken, or none."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from pydantic import BaseModel

from shim.cloudpods import create, create_many, holding
from shim.cloudpods.dry_run import Ordered, rehearse_all
from shim.cloudpods.schemas import BulkOrder, CreatePod
from shim.config import Settings
from shim.db import database
from shim.errors import CloudPodsError, FieldError, Invalid
from shim.jobs.batches import CloudPodBatch
from shim.jobs.models import CloudPodJob
from shim.quotas import ledger
from shim.quotas.amount import NONE, Amount
from shim.tenants.models import Tenant
from shim.web import body
from shim.web.rate_limit import Counted

# By name: the model of its fields, and what takes a pod's reference and these.
Changes = Mapping[str, tuple[type[BaseModel], Callable[..., Ordered]]]

_COUNTED: dict[str, Counted] = {"create": "create", "destroy": "destroy"}


@dataclass(frozen=True)
class Item:
    """One order of a batch, checked; `reference` is the pod's, None for a `new` one."""

    action: str
    reference: str | None
    order: Callable[[], Ordered]
    new: CreatePod | None = None


def parse(request: BulkOrder, changes: Changes, settings: Settings) -> list[Item]:
    """Return the items. Raises Invalid naming every field of each that breaks a rule."""
    items, wrong = [], []
    for index, document in enumerate(request.items):
        try:
            items.append(_item(dict(document), request, changes, settings))
        except Invalid as error:
            wrong += _at(index, error)
    if wrong:
        raise Invalid("; ".join(f"{e['field']}: {e['rule']}" for e in wrong[:5]), fields=wrong)
    return items


def counted(items: list[Item]) -> dict[Counted, int]:
    """Return how many orders count for each rate limit."""
    return dict(Counter(_COUNTED.get(item.action, "order") for item in items))


def require_room(tenant_id: str, items: list[Item]) -> None:
    """Raise QuotaExceeded if the tenant's quota has no room for the new pods."""
    sizes = [Amount.of_pod(new.cores, new.memory_mb, new.disk_gb) for item in items if (new := item.new)]
    if sizes:
        with database.atomic():
            ledger.check(Tenant.find(tenant_id, field="tenantId").id, sum(sizes, NONE))


def give(
    request: BulkOrder, items: list[Item], settings: Settings, *, dry_run: bool
) -> tuple[CloudPodBatch, list[dict[str, Any]], dict[str, Any]]:
    """Give all orders in one transaction; return the batch, what each item became, and for a dry run the quota of all."""
    with database.atomic():
        Tenant.find(request.tenant_id, field="tenantId")
        _hold(request.tenant_id, items)
        if dry_run:
            rehearsed, quota = rehearse_all(partial(_all, items, settings))
            jobs, told = [job for job, _, _ in rehearsed], [{"placement": placement} for _, _, placement in rehearsed]
            plan = {"quota": quota}
        else:
            ordered = _all(items, settings)
            jobs, told, plan = [job for job, _ in ordered], [{} for _ in ordered], {}
        first = [job.after_job_id for job in jobs if job.after_job_id]
        batch = CloudPodBatch.gather(request.tenant_id, [*first, *(job.id for job in jobs)], request.requested_by)
        became = [{**_became(index, job), **told[index]} for index, job in enumerate(jobs)]
        return batch, became, plan


def _item(document: dict[str, Any], request: BulkOrder, changes: Changes, settings: Settings) -> Item:
    action = document.pop("action", "create")
    if not isinstance(action, str) or action not in ("create", *changes):
        raise Invalid.field("action", "must be one of: " + ", ".join(("create", *changes)))
    if document.setdefault("tenantId", request.tenant_id) != request.tenant_id:
        raise Invalid.field("tenantId", f"must be the batch's, {request.tenant_id}")
    if request.requested_by is not None:
        document.setdefault("requestedBy", request.requested_by)
    if action == "create":
        asked = body.parse(CreatePod, document)
        return Item(action, None, partial(create.create, asked, settings), asked)
    reference = _reference(document)
    model, change = changes[action]
    return Item(action, reference, partial(change, reference, body.parse(model, document)))


def _reference(document: dict[str, Any]) -> str:
    vmid, pod_id = document.pop("vmid", None), document.pop("cloudPodId", None)
    if isinstance(vmid, int) and not isinstance(vmid, bool) and vmid > 0 and pod_id is None:
        return str(vmid)
    if isinstance(pod_id, str) and vmid is None and pod_id and not pod_id.isdigit():
        return pod_id
    raise Invalid.field("vmid", "one of vmid (a number) and cloudPodId (its id) is needed")


def _hold(tenant_id: str, items: list[Item]) -> None:
    references = [item.reference for item in items if item.reference is not None]
    holding.hold(tenant_id, references, {item.new.plan_id for item in items if item.new and item.new.plan_id})


def _all(items: list[Item], settings: Settings) -> list[Ordered]:
    """Give all orders, last the new pods that take what is next: what these hold, all others wait for."""
    plain = [(index, item.new) for index, item in enumerate(items) if item.new and create_many.is_plain(item.new)]
    together = {index for index, _ in plain}
    ordered: dict[int, Ordered] = {}
    for index, item in enumerate(items):
        if index not in together:
            with _named(index):
                ordered[index] = item.order()
    if plain:
        ordered.update(create_many.create_all(plain, settings, _named))
    return [ordered[index] for index in range(len(items))]


@contextmanager
def _named(index: int) -> Iterator[None]:
    """Name the item in what it raises."""
    try:
        yield
    except CloudPodsError as error:
        error.fields = _at(index, error)
        error.message = f"items.{index}: {error.message}"
        raise


def _at(index: int, error: CloudPodsError) -> list[FieldError]:
    """Return an error's fields with the item's index before them."""
    fields = error.fields or [{"field": "", "rule": error.message}]
    return [{"field": f"items.{index}.{e['field']}".rstrip("."), "rule": e["rule"]} for e in fields]


def _became(index: int, job: CloudPodJob) -> dict[str, Any]:
    first = {"backupJobId": job.after_job_id} if job.after_job_id else {}
    about = {"type": job.type, "jobId": job.id, "cloudPodId": job.cloud_pod_id, "vmid": job.payload.get("vmid")}
    return {"item": index, **about, **first}
