"""The tables of pods (the master spec's section 1.2) and of their snapshots, and their queries."""

import itertools
from collections.abc import Collection, Iterator
from functools import cache
from typing import Any

import peewee
from playhouse.postgres_ext import BinaryJSONField

from shim import caller, db, faults
from shim.db import Model, Prepared, new_id, slot
from shim.errors import Conflict, NotFound
from shim.nodes.models import AddressPool, CloudPodNode
from shim.tenants.models import Tenant

GONE = ("deleted", "failed")

# A pod that failed and left something on its node, whose share it still has, may still answer at its address.
_HELD_IPS = """
SELECT p.ip FROM unnest(%(ips)s::text[]) c (ip) JOIN cloud_pods p ON p.ip = c.ip
WHERE p.ip <> '' AND p.status NOT IN ('deleted', 'failed')
UNION ALL
SELECT f.ip FROM unnest(%(ips)s::text[]) c (ip) JOIN cloud_pods f ON f.ip = c.ip
JOIN cloud_pod_allocations a ON a.cloud_pod_id = f.id WHERE f.ip <> '' AND f.status = 'failed'
"""

_TAKEN = """
SELECT EXISTS (SELECT 1 FROM cloud_pods l WHERE l.{what} = %s AND l.id <> %s AND l.status NOT IN ('deleted', 'failed'))
    OR EXISTS (SELECT 1 FROM cloud_pods f JOIN cloud_pod_allocations a ON a.cloud_pod_id = f.id
               WHERE f.{what} = %s AND f.id <> %s AND f.status = 'failed')
"""

# Of a failed one something may be left: then it has its share of the node still.
_REMAINING = """
SELECT p.{shown} FROM cloud_pods p WHERE {which}
  AND (p.status NOT IN ('deleted', 'failed') OR p.status = 'failed'
       AND EXISTS (SELECT 1 FROM cloud_pod_allocations a WHERE a.cloud_pod_id = p.id))
ORDER BY p.created_at DESC, p.id DESC
"""


class CloudPod(Model):
    """A tenant's LXC container."""

    id = peewee.TextField(primary_key=True, default=new_id)
    tenant_id: str
    tenant = peewee.ForeignKeyField(Tenant, column_name="tenant_id")
    node_id: str
    node = peewee.ForeignKeyField(CloudPodNode, column_name="node_id")
    vmid = peewee.IntegerField()
    hostname = peewee.TextField()
    ip = peewee.TextField(default="")
    region = peewee.TextField(default="migra-us-east-1")
    status = peewee.TextField(default="provisioning")
    power_state = peewee.TextField(default="unknown")
    # What the last order asked for; `power_state` is what was seen.
    wanted_power = peewee.TextField(default="running")
    host_key = peewee.TextField(null=True)
    # Nobody may destroy it.
    protected = peewee.BooleanField(default=False)
    error = peewee.TextField(null=True)
    plan_snapshot = BinaryJSONField(null=True, index=False)
    cores = peewee.IntegerField()
    memory_mb = peewee.IntegerField()
    swap_mb = peewee.IntegerField(default=0)
    disk_gb = peewee.IntegerField(default=8)
    storage = peewee.TextField(default="clients-main")
    bridge = peewee.TextField(default="vmbr0")
    created_at = peewee.DateTimeField()
    updated_at = peewee.DateTimeField()
    deleted_at = peewee.DateTimeField(null=True)
    last_backup_at = peewee.DateTimeField(null=True)
    last_health_status = peewee.TextField(null=True)
    last_health_checked = peewee.DateTimeField(null=True)
    last_health = BinaryJSONField(null=True, index=False)
    blueprint_id = peewee.TextField(null=True)

    class Meta:
        table_name = "cloud_pods"

    @classmethod
    def find(cls, reference: str) -> "CloudPod":
        """Return the pod with this vmid (digits: the live one, else the last that had it) or id. Raises NotFound."""
        only = caller.only_tenant()
        by_vmid = reference.isascii() and reference.isdigit()
        # A NUL cannot be sent to PostgreSQL, nor can it be part of an id. Ten digits and more are no vmid, and would be out of
        # the column's range.
        wanted = (int(reference) if len(reference) < 10 else 0) if by_vmid else "" if "\x00" in reference else reference
        return cls._require(cls._finder(by_vmid, only is not None).first(wanted, only), reference)

    @classmethod
    def hold(cls, reference: str) -> "CloudPod":
        """Return the pod as `find` does, its row locked to the end of the transaction."""
        found = cls.find(reference)
        # Without its node's row: a pod that moved while this waited would match a join no more.
        held = cls._require(cls.select().where(cls.id == found.id).for_update().first(), reference)
        if held.node_id == found.node_id:
            held.node = found.node
        return held

    @classmethod
    @cache
    def _finder(cls, by_vmid: bool, of_tenant: bool) -> Prepared:
        query = cls.select(cls, CloudPodNode).join(CloudPodNode)
        if of_tenant:
            # Another tenant's pod is as good as none: whoever may not see it need not learn that it is there.
            query = query.where(cls.tenant == slot(1))
        if not by_vmid:
            return Prepared(query.where(cls.id == slot(0)))
        return Prepared(query.where(cls.vmid == slot(0)).order_by(cls.status.in_(GONE), cls.created_at.desc()).limit(1))

    @staticmethod
    def _require(pod: "CloudPod | None", reference: str) -> "CloudPod":
        if pod is None:
            kind = "vmid" if reference.isdigit() else "id"
            raise NotFound(f"there is no pod with {kind} {reference}", code="cloudpod_not_found")
        return pod

    @classmethod
    def live_vmid(cls, vmid: int, *, but: str = "") -> bool:
        """Return whether a pod of which something is there, another one than `but`, has this vmid."""
        return cls._taken("vmid", vmid, but)

    @classmethod
    def live_vmids(cls, vmids: list[int]) -> set[int]:
        """Return those of these vmids that live pods have."""
        found = db.rows("SELECT vmid FROM cloud_pods WHERE vmid = ANY(%s) AND status <> ALL(%s)", (vmids, list(GONE)))
        return {vmid for (vmid,) in found}

    @classmethod
    def live_ip(cls, ip: str, *, but: str = "") -> bool:
        """Return whether a pod of which something is there, another one than `but`, has this address."""
        return bool(ip) and cls._taken("ip", ip, but)

    @staticmethod
    def _taken(what: str, value: Any, but: str) -> bool:
        ((taken,),) = db.rows(_TAKEN.format(what=what), (value, but, value, but))
        return bool(taken)

    @classmethod
    def unused_vmid(cls, first: int) -> int:
        """Return the lowest vmid from here on that no pod ever had. It costs one step for each pod in between."""
        found = db.rows(
            "SELECT p.vmid + 1 FROM (SELECT vmid, lead(vmid) OVER (ORDER BY vmid) AS next FROM cloud_pods WHERE vmid >= %s) p"
            " WHERE EXISTS (SELECT 1 FROM cloud_pods f WHERE f.vmid = %s) AND (p.next IS NULL OR p.next > p.vmid + 1)"
            " ORDER BY p.vmid LIMIT 1",
            (first, first),
        )
        return int(found[0][0]) if found else first

    @classmethod
    def unused_ip(cls, pool: AddressPool, *, but: Collection[str] = ()) -> str | None:
        """Return the first address of a pool, in its turn, that no pod has and that is none of `but`; None without one."""
        return next(cls.unused_ips(pool, but=but), None)

    @classmethod
    def unused_ips(cls, pool: AddressPool, *, but: Collection[str] = ()) -> Iterator[str]:
        """Give one after the other of such addresses, as of when it is asked for them."""
        addresses = (ip for ip in pool.in_turn() if ip not in but)
        # Mostly one of the next is free; where thousands are taken, larger steps find out sooner.
        step = 64
        while some := list(itertools.islice(addresses, step)):
            # As rows: the planner weighs each value of an ANY, and takes longer over thousands than the search.
            given = {"ips": "{" + ",".join(some) + "}"}
            held = {ip for (ip,) in db.database.execute_sql(_HELD_IPS, given).fetchall()}
            yield from (ip for ip in some if ip not in held)
            step *= 4

    @classmethod
    def unused_vmids(cls, first: int, count: int) -> list[int]:
        """Return the so many lowest vmids from here on that no pod ever had."""
        found = db.rows(
            "SELECT v FROM generate_series(%s, %s + (SELECT count(*) FROM cloud_pods WHERE vmid >= %s)) v"
            " WHERE NOT EXISTS (SELECT 1 FROM cloud_pods p WHERE p.vmid = v) ORDER BY v LIMIT %s",
            (first, first + count, first, count),
        )
        return [vmid for (vmid,) in found]

    @classmethod
    def remaining(cls, tenant_id: str) -> list[int]:
        """Return the vmids, at most ten, of the tenant's pods of which something is there."""
        return cls._remaining("vmid", "p.tenant_id = %s", tenant_id, at_most=10)

    @classmethod
    def remaining_on(cls, node_id: str) -> list[int]:
        """Return the vmids, at most ten, of the pods of which something is on the node."""
        return cls._remaining("vmid", "p.node_id = %s", node_id, at_most=10)

    @classmethod
    def between(cls, region: str, first: int, last: int) -> list[int]:
        """Return the vmids, at most ten, of a region's pods of which something is there, from the first to the last."""
        return cls._remaining("vmid", "p.region = %s AND p.vmid BETWEEN %s AND %s", region, first, last, at_most=10)

    @classmethod
    def used_ips(cls, first: str, last: str) -> list[str]:
        """Return the addresses of pods of which something is there, from the first to the last."""
        # CASE, since nothing else keeps the cast from the empty ones.
        within = "CASE WHEN p.ip <> '' THEN p.ip::inet BETWEEN %s::inet AND %s::inet ELSE false END"
        return cls._remaining("ip", within, first, last)

    @classmethod
    def without_address(cls, node_ids: list[str]) -> list[int]:
        """Return the vmids, at most ten, of these nodes' pods whose address the node is still to choose."""
        waiting = cls.select(cls.vmid).where(cls.node.in_(node_ids), cls.status == "provisioning", cls.ip == "")
        return [pod.vmid for pod in waiting.order_by(cls.created_at).limit(10)]

    @staticmethod
    def _remaining(shown: str, which: str, *values: Any, at_most: int | None = None) -> list[Any]:
        return [value for (value,) in db.rows(_REMAINING.format(shown=shown, which=which) + "LIMIT %s", (*values, at_most))]

    @classmethod
    def yield_ip(cls, ip: str, *, to: "CloudPod") -> None:
        """Take an address from a pod that does not have it on its node, which arbitrates and gave it to this one: that pod only
        asked for it, or it is being destroyed and its node freed the address before anybody heard of that."""
        without = (cls.ip == ip) & (cls.id != to.id) & (cls.status << ("provisioning", "deleting"))
        cls.update(ip="", updated_at=db.now()).where(without).execute()

    def change(self, **columns: Any) -> None:
        """Write these columns."""
        CloudPod.update(updated_at=db.now(), **columns).where(CloudPod.id == self.id).execute()
        for name, value in columns.items():
            setattr(self, name, value)

    def as_json(self) -> dict[str, Any]:
        """Return the pod as clients see it: the master spec's names."""
        return {
            "id": self.id,
            "tenantId": self.tenant_id,
            "vmid": self.vmid,
            "hostname": self.hostname,
            "ip": self.ip,
            "region": self.region,
            "node": self.node.name,
            "status": self.status,
            "powerState": self.power_state,
            "wantedPower": self.wanted_power,
            "hostKey": self.host_key,
            "protected": self.protected,
            "error": self.error if caller.only_tenant() is None else faults.text(self.error),
            "planSnapshot": self.plan_snapshot,
            "cores": self.cores,
            "memoryMb": self.memory_mb,
            "swapMb": self.swap_mb,
            "diskGb": self.disk_gb,
            "storage": self.storage,
            "bridge": self.bridge,
            "createdAt": db.iso(self.created_at),
            "updatedAt": db.iso(self.updated_at),
            "deletedAt": db.iso(self.deleted_at),
            "lastBackupAt": db.iso(self.last_backup_at),
            "lastHealthStatus": self.last_health_status,
            "lastHealthChecked": db.iso(self.last_health_checked),
            "blueprintId": self.blueprint_id,
        }


class CloudPodSnapshot(Model):
    """A snapshot that a pod has, is getting or is losing."""

    id = peewee.TextField(primary_key=True, default=new_id)
    cloud_pod = peewee.ForeignKeyField(CloudPod, column_name="cloud_pod_id")
    name = peewee.TextField()
    status = peewee.TextField(default="creating")
    reason = peewee.TextField(null=True)
    # The pod's when it was made; NULL in rows that are older than these columns.
    cores = peewee.IntegerField(null=True)
    memory_mb = peewee.IntegerField(null=True)
    created_at = peewee.DateTimeField()

    class Meta:
        table_name = "cloud_pod_snapshots"

    @classmethod
    def of(cls, pod: CloudPod) -> list["CloudPodSnapshot"]:
        """Return a pod's snapshots, oldest first. Proxmox keeps few, so they are not paged."""
        return list(cls.select().where(cls.cloud_pod == pod.id).order_by(cls.created_at, cls.name))

    @classmethod
    def named(cls, pod: CloudPod, name: str) -> "CloudPodSnapshot | None":
        """Return a pod's snapshot of this name."""
        return cls.get_or_none(cls.cloud_pod == pod.id, cls.name == name)

    @classmethod
    def ready(cls, pod: CloudPod, name: str) -> "CloudPodSnapshot":
        """Return a pod's snapshot of this name. Raises NotFound, or Conflict while it is being made or deleted."""
        found = cls.named(pod, name) if "\x00" not in name else None
        if found is None:
            raise NotFound(f"pod {pod.vmid} has no snapshot {name!r}", code="snapshot_not_found")
        if found.status != "ready":
            raise Conflict(f"snapshot {name} is {found.status}", code="snapshot_not_ready", snapshotStatus=found.status)
        return found

    @classmethod
    def forget(cls, pod: CloudPod) -> None:
        """Drop the rows of a pod that is gone: its snapshots went with it."""
        cls.delete().where(cls.cloud_pod == pod.id).execute()

    @classmethod
    def forget_overwritten(cls, pod: CloudPod) -> None:
        """Drop the rows of a pod that an archive was put in the place of, save for snapshots that are still to be made."""
        cls.delete().where(cls.cloud_pod == pod.id, cls.status != "creating").execute()

    def become(self, status: str, **columns: Any) -> None:
        """Write a new status, and these columns."""
        CloudPodSnapshot.update(status=status, **columns).where(CloudPodSnapshot.id == self.id).execute()

    def as_json(self) -> dict[str, Any]:
        """Return the snapshot as clients see it."""
        return {"name": self.name, "status": self.status, "reason": self.reason, "createdAt": db.iso(self.created_at)}
