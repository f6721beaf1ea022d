"""The ledger: what a job will take of its tenant's quota is reserved with its order and settled, exactly once, with its end.

| function | when | writes |
|---|---|---|
| `check` | before the order is written, or instead of it | nothing; the quota's row stays locked |
| `reserve` | in the transaction of the order | an open entry |
| `book` | the same, when `check` has looked already | an open entry |
| `settle` | in the transaction of the outcome: the pod is this large now | the job's entry, committed |
| `give_back` | the same, when nothing of the pod is left | the job's entry, committed with minus what the pod had |
| `commit`, `release` | the same: what was reserved came to be, or did not | the job's entry |

Sizes are given as what the pod will have, or has, as a whole; the ledger keeps the difference to what the pod had. Every
function locks the tenant's quota row, after the pod's and before placement's and the vmids' locks; tenants never wait for
each other. Each change is an event.
"""

from dataclasses import dataclass
from typing import Any

from shim.errors import QuotaExceeded
from shim.events.models import CloudPodEvent
from shim.quotas.amount import NAMES, NONE, Amount
from shim.quotas.ledger_models import QuotaEntry
from shim.quotas.models import TenantQuota

__all__ = ["NONE", "Amount", "Room", "book", "check", "commit", "give_back", "release", "reserve", "settle"]


@dataclass(frozen=True)
class Room:
    """What a tenant may have more of; true as long as the transaction that looked holds the quota's row."""

    tenant_id: str
    difference: Amount
    used: Amount


def check(tenant_id: str, size: Amount, cloud_pod_id: str | None = None) -> Room:
    """Raise QuotaExceeded if the tenant may not have this pod, a new one without an id, become this large."""
    limits, used = TenantQuota.balance(tenant_id)
    difference = _difference(cloud_pod_id, size)
    _require(tenant_id, limits, used, difference, cloud_pod_id)
    return Room(tenant_id, difference, used)


def reserve(tenant_id: str, job_id: str, cloud_pod_id: str, size: Amount) -> None:
    """Reserve what a job will take when it makes the pod this large. Raises QuotaExceeded; then nothing was written."""
    book(check(tenant_id, size, cloud_pod_id), job_id, cloud_pod_id)


def book(room: Room, job_id: str, cloud_pod_id: str) -> None:
    """Reserve what `check` found room for in this very transaction, which has reserved nothing since."""
    # Also nothing is an entry: an earlier change of the pod may yet make it something.
    if QuotaEntry.enter(room.tenant_id, job_id, cloud_pod_id, room.difference, state="reserved", reason="order"):
        about = {"tenant_id": room.tenant_id, "cloud_pod_id": cloud_pod_id, "job_id": job_id}
        _record("QUOTA_RESERVED", room.difference, room.used, **about)


def book_all(room: Room, booked: list[tuple[str, str, Amount]]) -> None:
    """Reserve for jobs and their new pods, each of this size, what `check` found room for as a whole."""
    QuotaEntry.reserve_all(room.tenant_id, booked)
    CloudPodEvent.record_all(
        [
            {
                "type": "INFO",
                "message": f"Quota reserved: {size}",
                "tenant_id": room.tenant_id,
                "cloud_pod_id": pod_id,
                "job_id": job_id,
                "data": {"action": "QUOTA_RESERVED", **size.as_json(), "used": room.used.as_json()},
            }
            for job_id, pod_id, size in booked
        ]
    )


def settle(tenant_id: str, job_id: str, cloud_pod_id: str, size: Amount) -> None:
    """Commit that the job left its pod this large, whatever it reserved: what is real counts, even above the limit."""
    _, used = TenantQuota.balance(tenant_id)
    difference = _difference(cloud_pod_id, size)
    reserved = QuotaEntry.open(job_id)
    if reserved is not None:
        _end(job_id, "committed" if difference else "released", difference or reserved[2], reserved, used)
    elif difference and QuotaEntry.enter(tenant_id, job_id, cloud_pod_id, difference, state="committed", reason="outcome"):
        _count(difference, tenant_id=tenant_id, cloud_pod_id=cloud_pod_id, job_id=job_id)


def give_back(tenant_id: str, job_id: str, cloud_pod_id: str) -> None:
    """Commit that nothing of the job's pod is left."""
    settle(tenant_id, job_id, cloud_pod_id, NONE)


def commit(job_id: str) -> None:
    """Commit what the job reserved, if that is still open."""
    _end_as(job_id, "committed")


def release(job_id: str) -> None:
    """Release what the job reserved, if that is still open."""
    _end_as(job_id, "released")


def _end_as(job_id: str, state: str) -> None:
    found = QuotaEntry.open(job_id)
    if found is None:
        return
    _, used = TenantQuota.balance(found[0])
    # Under the lock: until then another change of the pod may have moved what it comes to.
    reserved = QuotaEntry.open(job_id)
    if reserved is not None:
        _end(job_id, state, reserved[2], reserved, used)


def _end(job_id: str, state: str, amount: Amount, reserved: tuple[str, str, Amount], used: Amount) -> None:
    tenant_id, cloud_pod_id, _ = reserved
    if not QuotaEntry.end(job_id, state, amount):
        return
    about = {"tenant_id": tenant_id, "cloud_pod_id": cloud_pod_id, "job_id": job_id}
    if state == "committed":
        _count(amount, **about)
    else:
        _record("QUOTA_RELEASED", amount, used, **about)


def _count(difference: Amount, *, tenant_id: str, cloud_pod_id: str, job_id: str) -> None:
    QuotaEntry.rebase(cloud_pod_id, difference)
    used = TenantQuota.use(tenant_id, difference)
    _record("QUOTA_COMMITTED", difference, used, tenant_id=tenant_id, cloud_pod_id=cloud_pod_id, job_id=job_id)


def _difference(cloud_pod_id: str | None, size: Amount) -> Amount:
    return size - QuotaEntry.committed(cloud_pod_id) if cloud_pod_id else size


def _require(tenant_id: str, limits: Amount, used: Amount, asked: Amount, cloud_pod_id: str | None) -> None:
    """Raise QuotaExceeded if used, reserved and asked are more than the limit of something of which more is asked."""
    others = QuotaEntry.reserved(tenant_id)
    own = others.pop(cloud_pod_id or "", NONE)
    reserved = sum(others.values(), NONE)
    grown = own.or_more(asked)
    over = [
        name
        for name in NAMES
        if getattr(grown, name) > getattr(own, name) and getattr(used + reserved + grown, name) > getattr(limits, name)
    ]
    if over:
        said = {"limit": limits, "used": used, "reserved": reserved + own, "asked": asked}
        named: dict[str, Any] = {word: {NAMES[name]: getattr(amount, name) for name in over} for word, amount in said.items()}
        raise QuotaExceeded(f"the quota of tenant {tenant_id} is exceeded: {_sentence(named)}", **named)


def _sentence(named: dict[str, Any]) -> str:
    return "; ".join(
        f"{name}: {named['asked'][name]} asked, limit {limit}, {named['used'][name]} used, {named['reserved'][name]} reserved"
        for name, limit in named["limit"].items()
    )


def _record(action: str, amount: Amount, used: Amount, *, tenant_id: str, cloud_pod_id: str, job_id: str | None) -> None:
    CloudPodEvent.record(
        "INFO",
        f"Quota {action.removeprefix('QUOTA_').lower()}: {amount}",
        tenant_id=tenant_id,
        cloud_pod_id=cloud_pod_id,
        job_id=job_id,
        action=action,
        **amount.as_json(),
        used=used.as_json(),
    )
