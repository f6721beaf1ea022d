"""Counting anew what a tenant uses: pods, ledger, quota and shares of nodes side by side; what differs is mended by an entry.

| kind | what must be equal |
|---|---|
| `reservation` | open entries, and unfinished jobs: one of a job that is over is released |
| `pod` | what a pod has by the ledger, and its size by its row |
| `used` | the quota's `used_*`, and the sum of the committed entries |
| `share` | a pod's allocation on its node, and its size by its row, or what it is ordered to grow to |

By its row a pod has its size while it is provisioning or active, and when it failed or is deleting and its allocation was kept,
since something of it may be on the node; else it has nothing. By the ledger it has its committed entries, and what the
unfinished job that makes it has reserved.

One transaction per tenant, under the lock of the tenant's quota: every change of a pod's size or end commits under it together
with its entry, so that what is read then belongs together. Orders and outcomes of that tenant wait for it, others do not.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from shim import db
from shim.db import database
from shim.events.models import CloudPodEvent
from shim.nodes.models import Allocation, CloudPodNode
from shim.quotas import correction
from shim.quotas.amount import NONE, Amount
from shim.quotas.ledger_models import QuotaEntry
from shim.quotas.models import TenantQuota

TENANTS_AT_ONCE = 500

_PODS = """
SELECT p.id, p.vmid, p.node_id, p.status = 'deleted' OR (p.status IN ('failed', 'deleting') AND a.id IS NULL),
       p.cores, p.memory_mb, p.disk_gb, a.id, a.used_cpu_cores, a.used_memory_mb, a.used_disk_gb,
       h.pods, h.cpu_cores, h.ram_mb, h.disk_gb, h.making,
       greatest(p.cores, s.cores), greatest(p.memory_mb, s.memory_mb)
FROM cloud_pods p
LEFT JOIN cloud_pod_allocations a ON a.cloud_pod_id = p.id
CROSS JOIN LATERAL (
    SELECT coalesce(sum(e.pods), 0) AS pods, coalesce(sum(e.cpu_cores), 0) AS cpu_cores,
           coalesce(sum(e.ram_mb), 0) AS ram_mb, coalesce(sum(e.disk_gb), 0) AS disk_gb,
           coalesce(bool_or(e.state = 'reserved'), false) AS making
    FROM quota_entries e LEFT JOIN cloud_pod_jobs j ON j.id = e.job_id
    WHERE e.cloud_pod_id = p.id AND (e.state = 'committed' OR (
        e.state = 'reserved' AND j.status IN ('queued', 'running') AND (
            j.type IN ('CREATE', 'ADOPT') OR (j.type = 'RESTORE' AND j.payload @> '{"asNew": true}'))))
) h
CROSS JOIN LATERAL (
    SELECT h.cpu_cores + max(e.cpu_cores) AS cores, h.ram_mb + max(e.ram_mb) AS memory_mb
    FROM quota_entries e JOIN cloud_pod_jobs j ON j.id = e.job_id
    WHERE e.cloud_pod_id = p.id AND e.state = 'reserved' AND j.status IN ('queued', 'running') AND NOT h.making
) s
WHERE p.tenant_id = %s ORDER BY p.created_at, p.id
"""
_STALE = """
SELECT e.job_id, e.cloud_pod_id, e.pods, e.cpu_cores, e.ram_mb, e.disk_gb
FROM quota_entries e JOIN cloud_pod_jobs j ON j.id = e.job_id
WHERE e.tenant_id = %s AND e.state = 'reserved' AND j.status NOT IN ('queued', 'running') ORDER BY e.id
"""


@dataclass(frozen=True)
class Difference:
    """Something that is not what it should be."""

    kind: str
    tenant_id: str
    cloud_pod_id: str | None
    vmid: int | None
    expected: Amount
    found: Amount

    def as_json(self) -> dict[str, Any]:
        """Return it as programs read it."""
        amounts = {"expected": self.expected.as_json(), "found": self.found.as_json()}
        return {"kind": self.kind, "tenantId": self.tenant_id, "cloudPodId": self.cloud_pod_id, "vmid": self.vmid, **amounts}


@dataclass(frozen=True)
class _Pod:
    """A pod as its row, its share of a node and the ledger have it."""

    id: str
    vmid: int
    node_id: str
    size: Amount
    booked: Amount
    share: Amount
    has_share: bool
    has: Amount
    making: bool


@dataclass(frozen=True)
class _Stale:
    """An open entry of a job that is over."""

    job_id: str
    cloud_pod_id: str
    amount: Amount


@dataclass(frozen=True)
class _Count:
    """What a tenant has by its ledger, and its pods."""

    total: Amount
    stale: list[_Stale]
    pods: list[_Pod]

    def wrong(self) -> set[str]:
        """Return the ids of the pods with something that is not as it should be."""
        differing = {pod.id for pod in self.pods if pod.size != pod.has or _share_differs(pod)}
        return differing | {row.cloud_pod_id for row in self.stale}

    def differences(self, tenant_id: str, used: Amount) -> list[Difference]:
        """Return what is not as it should be; `used` is what the quota says."""
        shares = [pod for pod in self.pods if _share_differs(pod)]
        return [
            *([Difference("used", tenant_id, None, None, self.total, used)] if self.total != used else []),
            *(Difference("reservation", tenant_id, row.cloud_pod_id, None, NONE, row.amount) for row in self.stale),
            *(Difference("pod", tenant_id, pod.id, pod.vmid, pod.size, pod.has) for pod in self.pods if pod.size != pod.has),
            *(Difference("share", tenant_id, pod.id, pod.vmid, pod.booked, pod.share) for pod in shares),
        ]


def tenants() -> Iterator[str]:
    """Yield the ids of all tenants, deleted ones too: what they had must have been given back."""
    after = ""
    while page := db.rows("SELECT id FROM tenants WHERE id > %s ORDER BY id LIMIT %s", (after, TENANTS_AT_ONCE)):
        yield from (id for (id,) in page)
        after = page[-1][0]


def recount(tenant_id: str, *, mend: bool) -> list[Difference]:
    """Return what is not as it should be of a tenant's quota, mended if asked."""
    with database.atomic():
        # Pods before the quota, as every order locks them: what is written of a pod needs its row.
        held = _hold(_count(tenant_id).wrong()) if mend else set()
        _, used = TenantQuota.balance(tenant_id)
        counted = _count(tenant_id)
        if mend:
            _mend(tenant_id, counted, used, held)
        return counted.differences(tenant_id, used)


def _count(tenant_id: str) -> _Count:
    stale = [_Stale(row[0], row[1], Amount(*row[2:])) for row in db.rows(_STALE, (tenant_id,))]
    pods = [_pod(row) for row in db.rows(_PODS, (tenant_id,))]
    return _Count(QuotaEntry.total(tenant_id), stale, pods)


def _hold(cloud_pod_ids: set[str]) -> set[str]:
    """Lock these pods' rows, in one order; return which they are."""
    found = db.rows("SELECT id FROM cloud_pods WHERE id = ANY(%s) ORDER BY id FOR UPDATE", (list(cloud_pod_ids),))
    return {id for (id,) in found}


def _mend(tenant_id: str, counted: _Count, used: Amount, held: set[str]) -> None:
    """Mend what differs; of a pod only if it is held. One that began to differ since is the next recount's."""
    # What is used first: what is mended after it is added to it.
    correction.use(tenant_id, counted.total, used)
    correction.release([row.job_id for row in counted.stale if row.cloud_pod_id in held])
    pods = [pod for pod in counted.pods if pod.id in held]
    wrong = [pod for pod in pods if pod.size != pod.has]
    made = {pod.id for pod in wrong if pod.making}
    correction.correct(tenant_id, {pod.id: pod.size - pod.has for pod in wrong}, made)
    for pod in filter(_share_differs, pods):
        _mend_share(tenant_id, pod)


def _share_differs(pod: _Pod) -> bool:
    return pod.has_share != bool(pod.booked) or pod.share != pod.booked


def _mend_share(tenant_id: str, pod: _Pod) -> None:
    if not pod.booked:
        Allocation.release(pod.id)
    elif pod.has_share:
        Allocation.resize(pod.id, pod.booked.cores, pod.booked.ram_mb, pod.booked.disk_gb)
    else:
        node = CloudPodNode.get_by_id(pod.node_id)
        Allocation.take(node, pod.id, tenant_id, pod.booked.cores, pod.booked.ram_mb, pod.booked.disk_gb)
    CloudPodEvent.record(
        "WARN",
        f"Share of the node recounted: {pod.booked}",
        tenant_id=tenant_id,
        cloud_pod_id=pod.id,
        action="SHARE_RECOUNTED",
        before=pod.share.as_json(),
        after=pod.booked.as_json(),
    )


def _pod(row: tuple[Any, ...]) -> _Pod:
    id, vmid, node_id, gone, cores, memory_mb, disk_gb, allocation = row[:8]
    has_share = allocation is not None
    return _Pod(
        id=id,
        vmid=vmid,
        node_id=node_id,
        size=NONE if gone else Amount.of_pod(cores, memory_mb, disk_gb),
        booked=NONE if gone else Amount.of_pod(row[16], row[17], disk_gb),
        share=Amount.of_pod(*row[8:11]) if has_share else NONE,
        has_share=has_share,
        has=Amount(*row[11:15]),
        making=row[15],
    )
