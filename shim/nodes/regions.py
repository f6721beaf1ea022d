"""Regions: which vmids their pods have. The vmids that the shim picks come from a counter that only grows."""

from typing import Any

import peewee

from shim import db
from shim.config import Settings
from shim.db import Model
from shim.errors import NotFound

_WITHOUT_ROW = """
SELECT DISTINCT n.region FROM cloud_pod_nodes n
WHERE n.deleted_at IS NULL AND NOT EXISTS (SELECT 1 FROM regions r WHERE r.name = n.region AND r.vmid_first IS NOT NULL)
UNION SELECT r.name FROM regions r WHERE r.vmid_first IS NULL
"""
# A row that somebody wrote without vmids has none yet. One that has them is not locked.
_ENSURE = """
INSERT INTO regions AS r (name, vmid_first, vmid_auto_first, vmid_last)
SELECT %(name)s, %(first)s, %(auto_first)s, %(last)s
WHERE NOT EXISTS (SELECT 1 FROM regions WHERE name = %(name)s AND vmid_first IS NOT NULL)
ON CONFLICT (name) DO UPDATE SET vmid_first = excluded.vmid_first, vmid_auto_first = excluded.vmid_auto_first,
    vmid_last = excluded.vmid_last, updated_at = now() WHERE r.vmid_first IS NULL
"""


class Region(Model):
    """A region, from when it is first used, with the settings' vmids of that day until it is given others."""

    name = peewee.TextField(primary_key=True)
    vmid_first = peewee.IntegerField()
    vmid_auto_first = peewee.IntegerField()
    vmid_last = peewee.IntegerField()
    next_vmid = peewee.IntegerField(default=0)
    created_at = peewee.DateTimeField()
    updated_at = peewee.DateTimeField()

    class Meta:
        table_name = "regions"

    @classmethod
    def ensure(cls, name: str, settings: Settings) -> None:
        """Make the region unless it is there, and give it the settings' vmids unless it has its own."""
        vmids = {"first": settings.vmid_first, "auto_first": settings.vmid_auto_first, "last": settings.vmid_last}
        db.database.execute_sql(_ENSURE, {"name": name, **vmids})

    @classmethod
    def ensure_all(cls, settings: Settings) -> None:
        """Make the regions that nodes are in and that are not there, as of nodes that were written by plain SQL."""
        for (name,) in db.rows(_WITHOUT_ROW):
            cls.ensure(name, settings)

    @classmethod
    def behind(cls, name: str, limit: int) -> list["Region"]:
        """Return so many regions behind this name, by name."""
        return list(cls.select().where(cls.name > name).order_by(cls.name).limit(limit))

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

    def given(self, vmid: int) -> None:
        """Note that this vmid was picked: the next one is higher."""
        Region.update(next_vmid=vmid + 1).where(Region.name == self.name).execute()

    def upcoming(self) -> int:
        """Return the vmid that is picked next, or from which on the next free one is."""
        return max(self.next_vmid, self.vmid_auto_first)

    def settings(self) -> dict[str, int]:
        """Return what the operator says of the region."""
        return {
            "vmidFirst": self.vmid_first,
            "vmidAutoFirst": self.vmid_auto_first,
            "vmidLast": self.vmid_last,
            "nextVmid": self.upcoming(),
        }

    def as_json(self) -> dict[str, Any]:
        """Return the region as clients see it."""
        return {
            "name": self.name,
            **self.settings(),
            "createdAt": db.iso(self.created_at),
            "updatedAt": db.iso(self.updated_at),
        }
