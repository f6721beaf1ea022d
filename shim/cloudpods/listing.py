"""Pods of one tenant or of all, filtered."""

from dataclasses import dataclass
from typing import Any

import peewee

from shim import caller
from shim.cloudpods.models import CloudPod
from shim.nodes.models import Allocation, CloudPodNode
from shim.tenants.models import Tenant
from shim.web import paging

_BLUEPRINTS: Any = peewee.Table("blueprints", ("id", "slug"))


@dataclass(frozen=True)
class Filters:
    """Which pods; None means any (of `status`: any but deleted)."""

    tenant_id: str | None
    status: str | None
    region: str | None
    node: str | None
    hostname: str | None


def list_pods(filters: Filters, page: paging.Page) -> tuple[list[Any], str | None]:
    """Return a page of pods, newest first, and the cursor of the next. Raises NotFound for no such tenant.

    Each has, beside its own, what other tables say of it: `role` in its stack, and `blueprint`, that one's slug.
    """
    if filters.tenant_id is not None:
        Tenant.known(filters.tenant_id)
    role = Allocation.select(Allocation.role).where(Allocation.cloud_pod_id == CloudPod.id).alias("role")
    slug = _BLUEPRINTS.select(_BLUEPRINTS.slug).where(_BLUEPRINTS.id == CloudPod.blueprint_id).alias("blueprint")
    query = CloudPod.select(CloudPod, CloudPodNode, role, slug).join(CloudPodNode)
    for condition in _conditions(filters):
        query = query.where(condition)
    return paging.newest_first(query, CloudPod, page)


def _conditions(filters: Filters) -> list[peewee.Expression]:
    conditions = [CloudPod.status == filters.status if filters.status else CloudPod.status != "deleted"]
    tenant_id = filters.tenant_id or caller.only_tenant()
    if tenant_id is not None:
        conditions.append(CloudPod.tenant == tenant_id)
    if filters.region is not None:
        conditions.append(CloudPod.region == filters.region)
    if filters.node is not None:
        conditions.append(CloudPodNode.name == filters.node)
    if filters.hostname is not None:
        conditions.append(CloudPod.hostname == filters.hostname)
    return conditions
