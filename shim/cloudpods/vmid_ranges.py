"""Which vmids a region's pods have. Whoever chooses one holds the lock "vmid" until it is taken, and so does a change."""

from typing import Any

from shim import db
from shim.cloudpods.models import CloudPod
from shim.config import Settings
from shim.db import database
from shim.errors import Conflict, Invalid
from shim.events.models import CloudPodEvent
from shim.nodes.regions import Region
from shim.nodes.schemas import ChangeRegion
from shim.tenants.users import Check


def show(name: str, settings: Settings) -> Region:
    """Return a region. Raises NotFound for one in which there never was a node."""
    Region.ensure_all(settings)
    return Region.find(name)


def change(name: str, request: ChangeRegion, settings: Settings, check: Check) -> Region:
    """Write what the request names and an event; `check` raises when the row is not as the client knows it.

    Raises Conflict when pods would be outside, or the counter would go back.
    """
    with database.atomic():
        db.lock("vmid")
        Region.ensure_all(settings)
        before = Region.hold(name)
        check(before.updated_at)
        columns = {column: value for column, value in request.columns().items() if value != _now(before, column)}
        if not columns:
            return before
        _require_order({**before.__data__, **columns})
        _require_growth(before, columns.get("next_vmid"))
        _require_pods_inside(before, {**before.__data__, **columns})
        Region.update(updated_at=db.now(), **columns).where(Region.name == name).execute()
        after = Region.find(name)
        old, new = before.settings(), after.settings()
        CloudPodEvent.record("INFO", f"region {name} changed", action="REGION_CHANGED", region=name, before=old, after=new)
        return after


def _now(region: Region, column: str) -> int:
    return region.upcoming() if column == "next_vmid" else int(getattr(region, column))


def _require_order(wanted: dict[str, Any]) -> None:
    if not wanted["vmid_first"] <= wanted["vmid_auto_first"] <= wanted["vmid_last"]:
        raise Invalid.field("vmidAutoFirst", "must be from vmidFirst to vmidLast")


def _require_growth(before: Region, next_vmid: int | None) -> None:
    if next_vmid is not None and next_vmid < before.upcoming():
        raise Conflict(
            f"the next vmid is {before.upcoming()} already; those below were given, and are not given twice",
            code="vmid_given",
            nextVmid=before.upcoming(),
        )


def _require_pods_inside(before: Region, wanted: dict[str, Any]) -> None:
    """Raise Conflict when pods would be outside that are not now; adopted ones may always have been."""
    lost = CloudPod.between(before.name, before.vmid_first, wanted["vmid_first"] - 1)
    lost += CloudPod.between(before.name, wanted["vmid_last"] + 1, before.vmid_last)
    if lost:
        raise Conflict(
            f"pods have vmids that would be outside: {', '.join(map(str, lost[:10]))}", code="vmids_in_use", vmids=lost[:10]
        )
