"""A first tenant, plan, quota and node: what a panel would create by HTTP, for a fresh database."""

import ipaddress
from collections.abc import Iterator
from typing import Any

from shim.db import database
from shim.errors import Invalid
from shim.nodes.models import AddressPool, CloudPodNode
from shim.quotas.models import TenantQuota
from shim.tenants import slug
from shim.tenants.models import Plan, Tenant, User


def seed(
    *, tenant: str, plan: str, owner: str, node: str, region: str, pool: str, gateway: str, max_jobs: int
) -> Iterator[str]:
    """Make what is missing, in one transaction; yield a line about each thing."""
    with database.atomic():
        limits = {"max_cloud_pods": 500, "max_cpu_cores": 2000, "max_ram_mb": 4_000_000, "max_disk_gb": 40_000}
        plan_row, made = _ensure(Plan, id=plan, defaults={"name": plan, "slug": plan, **limits})
        yield _line("plan", plan, made)
        user, made = _ensure(User, email=owner, defaults={"name": owner.split("@", maxsplit=1)[0]})
        yield _line("user", owner, made)
        values = {"name": tenant, "slug": slug.of(tenant), "owner_user": user, "plan": plan_row, "region": region}
        tenant_row, made = _ensure(Tenant, id=tenant, defaults=values)
        TenantQuota.ensure(tenant_row, tenant_row.plan)
        yield _line("tenant", tenant, made)
        pool_row = _pool(node, pool, gateway)
        defaults = {"node_name": node, "region": region, "address_pool": pool_row, "max_running_jobs": max_jobs}
        _, made = _ensure(CloudPodNode, name=node, defaults=defaults)
        yield _line("node", node, made)


def _pool(node: str, span: str, gateway: str) -> AddressPool:
    first, _, last = (part.strip() for part in span.partition("-"))
    if not (_is_address(first) and _is_address(last)) or ipaddress.IPv4Address(first) > ipaddress.IPv4Address(last):
        raise Invalid.field("pool", "must be <first address>-<last address>, IPv4, the first not above the last")
    if not _is_address(gateway):
        raise Invalid.field("gateway", "must be an IPv4 address")
    name = f"{node}-pool"
    same = AddressPool.get_or_none(AddressPool.first_ip == first, AddressPool.last_ip == last, AddressPool.gateway == gateway)
    if same is not None:
        # Another node on the same bridge.
        return same
    other = AddressPool.overlapping(first, last, but=name)
    if other is not None:
        raise Invalid.field(
            "pool", f"overlaps with the address pool {other}; nodes on one bridge share a pool", code="pool_overlap"
        )
    row: AddressPool
    row, _ = _ensure(AddressPool, name=name, defaults={"first_ip": first, "last_ip": last, "gateway": gateway})
    return row


def _is_address(text: str) -> bool:
    try:
        return bool(ipaddress.IPv4Address(text))
    except ValueError:
        return False


def _ensure(model: Any, *, defaults: dict[str, Any], **key: Any) -> tuple[Any, bool]:
    """Return the row with this key, and whether it was made now."""
    return model.get_or_create(**key, defaults=defaults)  # type: ignore[no-any-return]


def _line(kind: str, name: str, made: bool) -> str:
    return f"{kind} {name}: {'made' if made else 'was there'}"
