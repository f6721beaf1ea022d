"""Regions: which vmids their pods have. The vmids that the shim picks come from a counter that only grows."""

from dataclasses import dataclass
from typing import Any

import peewee

from shim import db
from shim.config import Settings
from shim.db import Model
from shim.errors import NotFound


@dataclass(frozen=True)
class Vmids:
    """The vmids of a region: those a request may name begin with `first`, those that are picked with `auto_first`."""

    first: int
    auto_first: int
    last: int


class Region(Model):
    """A region, from when it is first used. Without a range of its own it has the settings'."""

    name = peewee.TextField(primary_key=True)
    vmid_first = peewee.IntegerField(null=True)
    vmid_auto_first = peewee.IntegerField(null=True)
    vmid_last = peewee.IntegerField(null=True)
    next_vmid = peewee.IntegerField(default=0)
    created_at = peewee.DateTimeField()
    updated_at = peewee.DateTimeField()

    class Meta:
        table_name = "regions"

    @classmethod
    def ensure(cls, name: str) -> None:
        """Make the region unless it is there."""
        cls.insert(name=name).on_conflict_ignore().execute()

    @classmethod
    def find(cls, name: str) -> "Region":
        """Return the region. Raises NotFound."""
        return cls._one(cls.select(), name)

    @classmethod
    def hold(cls, name: str) -> "Region":
        """Return the region as `find` does, its row locked to the end of the transaction."""
        return cls._one(cls.select().for_update(), name)

    @classmethod
    def _one(cls, query: Any, name: str) -> "Region":
        found: Region | None = query.where(cls.name == name).first() if "\x00" not in name else None
        if found is None:
            raise NotFound(f"there is no region {name!r}; one is there once a node is in it", code="region_not_found")
        return found

    def vmids(self, settings: Settings) -> Vmids:
        """Return its vmids."""
        if self.vmid_first is None or self.vmid_auto_first is None or self.vmid_last is None:
            return Vmids(settings.vmid_first, settings.vmid_auto_first, settings.vmid_last)
        return Vmids(self.vmid_first, self.vmid_auto_first, self.vmid_last)

    def given(self, vmid: int) -> None:
        """Note that this vmid was picked: the next one is higher."""
        Region.update(next_vmid=vmid + 1).where(Region.name == self.name).execute()

    def as_json(self, settings: Settings) -> dict[str, Any]:
        """Return the region as clients see it."""
        vmids = self.vmids(settings)
        return {
            "name": self.name,
            "vmidFirst": vmids.first,
            "vmidAutoFirst": vmids.auto_first,
            "vmidLast": vmids.last,
            "nextVmid": max(self.next_vmid, vmids.auto_first),
            "createdAt": db.iso(self.created_at),
            "updatedAt": db.iso(self.updated_at),
        }
