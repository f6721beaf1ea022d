"""The table of drift reports, and its queries."""

from typing import Any

import peewee
from playhouse.postgres_ext import BinaryJSONField

from shim import db
from shim.db import Model, new_id
from shim.nodes.models import CloudPodNode

# A day of looks at the default interval.
KEEP = 96

_NEWEST = """
SELECT n.id, r.id FROM cloud_pod_nodes n
CROSS JOIN LATERAL (SELECT id FROM drift_reports d WHERE d.node_id = n.id ORDER BY d.created_at DESC, d.id DESC LIMIT 1) r
WHERE n.deleted_at IS NULL
"""
_FORGET = """
DELETE FROM drift_reports WHERE id IN (
    SELECT id FROM drift_reports WHERE node_id = %s ORDER BY created_at DESC, id DESC OFFSET %s)
"""
# Which nodes' newest looks showed a container of these pods beside the pod's own.
_COPIES = f"""
SELECT item ->> 'cloudPodId', d.node_id FROM ({_NEWEST}) newest (node_id, report_id)
JOIN drift_reports d ON d.id = newest.report_id
CROSS JOIN jsonb_array_elements(d.items) item
WHERE item ->> 'kind' = 'duplicate' AND item ->> 'cloudPodId' = ANY(%s)
"""  # noqa: S608


class DriftReport(Model):
    """What one look at a node found. Items are findings as `compare.Finding.as_json` gives them."""

    id = peewee.TextField(primary_key=True, default=new_id)
    node_id: str
    node = peewee.ForeignKeyField(CloudPodNode, column_name="node_id")
    job_id = peewee.TextField()
    seen_as = peewee.TextField(null=True)
    cluster = BinaryJSONField(null=True, index=False)
    checked = peewee.IntegerField()
    counts = BinaryJSONField(default=dict, index=False)
    items = BinaryJSONField(default=list, index=False)
    # Kinds of findings that are still to be mended by orders.
    mends = BinaryJSONField(default=list, index=False)
    looked_at = peewee.DateTimeField()
    created_at = peewee.DateTimeField()

    class Meta:
        table_name = "drift_reports"

    @classmethod
    def newest(cls, node_id: str) -> "DriftReport | None":
        """Return a node's newest report."""
        found: DriftReport | None = (
            cls.select().where(cls.node == node_id).order_by(cls.created_at.desc(), cls.id.desc()).first()
        )
        return found

    @classmethod
    def to_mend(cls) -> list["DriftReport"]:
        """Return the reports of which something is still to be mended, oldest first."""
        return list(cls.select().where(peewee.SQL("mends <> '[]'::jsonb")).order_by(cls.created_at))

    def mended(self) -> None:
        """Keep what came of the mends; none are left to do."""
        type(self).update(items=self.items, mends=[]).where(type(self).id == self.id).execute()

    @classmethod
    def newest_of_each(cls, after_name: str | None, node: str | None, limit: int) -> list["DriftReport"]:
        """Return the newest report of each node behind this name, by the nodes' names."""
        conditions = [cls.id.in_(peewee.SQL(f"(SELECT r.id FROM ({_NEWEST}) r (node_id, id))"))]  # noqa: S608
        if after_name is not None:
            conditions.append(CloudPodNode.name > after_name)
        if node is not None:
            conditions.append(CloudPodNode.name == node)
        query = cls.select(cls, CloudPodNode).join(CloudPodNode).where(*conditions)
        return list(query.order_by(CloudPodNode.name).limit(limit))

    @classmethod
    def history(cls, node: str | None) -> Any:
        """Return the query of all reports, of one node if given."""
        query = cls.select(cls, CloudPodNode).join(CloudPodNode)
        return query if node is None else query.where(CloudPodNode.name == node)

    @classmethod
    def nodes_seen_as(cls, names: list[str]) -> set[str]:
        """Return those of these names, the nodes' own, under which nodes of ours were seen or are known."""
        query = (
            f"SELECT coalesce(d.seen_as, n.node_name, n.name) FROM cloud_pod_nodes n LEFT JOIN ({_NEWEST}) r (node_id, id)"  # noqa: S608
            " ON r.node_id = n.id LEFT JOIN drift_reports d ON d.id = r.id"
            " WHERE coalesce(d.seen_as, n.node_name, n.name) = ANY(%s)"
        )
        return {name for (name,) in db.rows(query, (names,))} if names else set()

    @classmethod
    def copies(cls, pod_ids: list[str]) -> dict[str, list[str]]:
        """Return, for each of these pods that nodes other than its own showed a container of, the ids of those nodes."""
        found: dict[str, list[str]] = {}
        for pod_id, node_id in db.rows(_COPIES, (pod_ids,)):
            found.setdefault(pod_id, []).append(node_id)
        return found

    @classmethod
    def forget_old(cls, node_id: str) -> None:
        """Drop a node's reports but for the newest."""
        db.database.execute_sql(_FORGET, (node_id, KEEP))

    @classmethod
    def keep(cls, **columns: Any) -> None:
        """Store a report and drop the oldest of its node."""
        cls.insert(id=new_id(), **columns).execute()
        cls.forget_old(columns["node"])

    def as_json(self, *, kind: str | None = None, tenant_id: str | None = None) -> dict[str, Any]:
        """Return the report as clients see it, with the items of this kind and tenant only, if given."""
        items = [item for item in self.items if kind in (None, item["kind"]) and tenant_id in (None, item["tenantId"])]
        return {
            "id": self.id,
            "node": self.node.name,
            "jobId": self.job_id,
            "lookedAt": db.iso(self.looked_at),
            "createdAt": db.iso(self.created_at),
            "checked": self.checked,
            "counts": self.counts,
            "items": items,
        }
