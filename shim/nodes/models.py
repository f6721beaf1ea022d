"""Nodes, allocations and address pools (seed 001)."""

import ipaddress
from collections.abc import Iterable, Iterator
from typing import Any

import peewee
from playhouse.postgres_ext import BinaryJSONField

from shim import db
from shim.db import Model, new_id
from shim.errors import Invalid, NotFound
from shim.tenants.models import CHANGING, KEEPING


class AddressPool(Model):
    """The addresses of one L2 segment; nodes that share a bridge share a pool."""

    id = peewee.TextField(primary_key=True, default=new_id)
    name = peewee.TextField(unique=True)
    first_ip = peewee.TextField()
    last_ip = peewee.TextField()
    gateway = peewee.TextField()
    last_given = peewee.TextField(null=True)
    created_at = peewee.DateTimeField()
    updated_at = peewee.DateTimeField()

    class Meta:
        table_name = "address_pools"

    @classmethod
    def find(cls, name: str) -> "AddressPool":
        """Return the pool of this name. Raises NotFound."""
        return cls._one(cls.select(), name)

    @classmethod
    def hold(cls, name: str) -> "AddressPool":
        """Return the pool as `find` does, its row locked to the end of the transaction, also against nodes that would join."""
        return cls._one(cls.select().for_update(), name)

    @classmethod
    def chosen(cls, name: str) -> "AddressPool":
        """Return the pool that a node is to have, kept from being deleted meanwhile. Raises Invalid."""
        found: AddressPool | None = cls.select().where(cls.name == name).for_update(KEEPING).first()
        if found is None:
            raise Invalid.field("addressPool", f"there is no address pool {name!r}", code="unknown_pool")
        return found

    @classmethod
    def _one(cls, query: Any, name: str) -> "AddressPool":
        found: AddressPool | None = query.where(cls.name == name).first() if "\x00" not in name else None
        if found is None:
            raise NotFound(f"there is no address pool {name!r}", code="pool_not_found")
        return found

    def bounds(self) -> tuple[ipaddress.IPv4Address, ipaddress.IPv4Address, ipaddress.IPv4Address]:
        """Return the first and the last address, and the gateway's."""
        first, last, gateway = (ipaddress.IPv4Address(_bare(a)) for a in (self.first_ip, self.last_ip, self.gateway))
        return first, last, gateway

    def refusal(self, ip: str) -> str | None:
        """Return the rule that an address breaks as one of this pool's, or None when it may be used."""
        first, last, gateway = self.bounds()
        address = ipaddress.IPv4Address(ip)
        if not first <= address <= last:
            return f"outside the node's address pool {first} to {last}"
        if address == gateway:
            return "is the gateway's address"
        return None

    def is_shared(self) -> bool:
        """Return whether several nodes have it."""
        there = (CloudPodNode.address_pool == self.id) & CloudPodNode.deleted_at.is_null()
        return bool(CloudPodNode.select().where(there).count() > 1)

    def in_turn(self) -> Iterator[str]:
        """Yield all addresses but the gateway's, from the one given last on and then from the beginning."""
        first, last, gateway = (ipaddress.IPv4Address(_bare(a)) for a in (self.first_ip, self.last_ip, self.gateway))
        size = int(last) - int(first) + 1
        begin = int(ipaddress.IPv4Address(_bare(self.last_given))) + 1 - int(first) if self.last_given else 0
        for step in range(size):
            address = first + (begin + step) % size
            if address != gateway:
                yield str(address)

    def given(self, ip: str) -> None:
        """Note that this address was given: the search for the next goes on behind it."""
        AddressPool.update(last_given=ip).where(AddressPool.id == self.id).execute()

    @classmethod
    def overlapping(cls, first: str, last: str, *, but: str) -> str | None:
        """Return the name of a pool other than `but` that shares addresses with this range."""
        found = db.rows(
            "SELECT name FROM address_pools WHERE name <> %s AND first_ip <= %s::inet AND last_ip >= %s::inet LIMIT 1",
            (but, last, first),
        )
        return found[0][0] if found else None


class CloudPodNode(Model):
    """A Proxmox host. `name` is the host's name in the Ansible inventory."""

    id = peewee.TextField(primary_key=True, default=new_id)
    name = peewee.TextField(unique=True)
    provider = peewee.TextField(default="proxmox")
    api_url = peewee.TextField(null=True)
    node_name = peewee.TextField(null=True)
    region = peewee.TextField(default="migra-us-east-1")
    status = peewee.TextField(default="active")
    total_cpu_cores = peewee.IntegerField(default=0)
    total_memory_mb = peewee.IntegerField(default=0)
    total_disk_gb = peewee.IntegerField(default=0)
    cpu_overcommit = peewee.DecimalField(max_digits=6, decimal_places=3, default=4)
    memory_overcommit = peewee.DecimalField(max_digits=6, decimal_places=3, default=1)
    disk_overcommit = peewee.DecimalField(max_digits=6, decimal_places=3, default=1)
    storages = BinaryJSONField(null=True, index=False)
    max_running_jobs = peewee.IntegerField(default=4)
    address_pool_id: str | None
    address_pool = peewee.ForeignKeyField(AddressPool, column_name="address_pool_id", null=True)
    synced_at = peewee.DateTimeField(null=True)
    created_at = peewee.DateTimeField()
    updated_at = peewee.DateTimeField()
    # A removed node keeps its row, for what was there.
    deleted_at = peewee.DateTimeField(null=True)

    class Meta:
        table_name = "cloud_pod_nodes"

    @classmethod
    def named(cls, name: str) -> "CloudPodNode":
        """Return the node of this name. Raises NotFound."""
        return cls._one(cls.select(), name)

    @classmethod
    def hold(cls, name: str) -> "CloudPodNode":
        """Return the node as `named` does, its row locked to the end of the transaction."""
        return cls._one(cls.select().for_update(CHANGING), name)

    @classmethod
    def keep(cls, name: str) -> "CloudPodNode":
        """Return the node as `named` does, kept from being deleted to the end of the transaction, which gives it something."""
        return cls._one(cls.select().for_update(KEEPING), name)

    @classmethod
    def names(cls, node_ids: Iterable[str]) -> dict[str, str]:
        """Return the names of these nodes, also of deleted ones."""
        return {node.id: node.name for node in cls.select(cls.id, cls.name).where(cls.id.in_(list(node_ids)))}

    @classmethod
    def listed(cls, **filters: str) -> Any:
        """Return the nodes that have these values in these columns."""
        chosen = [getattr(cls, name) == value for name, value in filters.items()]
        return cls.select().where(cls.deleted_at.is_null(), *chosen)

    @classmethod
    def make(cls, name: str, columns: dict[str, Any]) -> bool:
        """Write a new node, in the row of a removed one of its name if there was one; return whether the name was free."""
        again = {"deleted_at": None, "updated_at": db.now(), **columns}
        made = cls.insert(id=new_id(), name=name, **columns).on_conflict(
            conflict_target=[cls.name], update=again, where=cls.deleted_at.is_null(False)
        )
        return bool(list(made.returning(cls.id).execute()))

    def change(self, **columns: Any) -> None:
        """Write these columns."""
        CloudPodNode.update(updated_at=db.now(), **columns).where(CloudPodNode.id == self.id).execute()

    @classmethod
    def _one(cls, query: Any, name: str) -> "CloudPodNode":
        there = (cls.name == name) & cls.deleted_at.is_null()
        found: CloudPodNode | None = query.where(there).first() if "\x00" not in name else None
        if found is None:
            raise NotFound(f"there is no node {name!r}", code="node_not_found")
        return found


class Allocation(Model):
    """What a pod takes of its node; a row per pod."""

    id = peewee.TextField(primary_key=True, default=new_id)
    node = peewee.ForeignKeyField(CloudPodNode, column_name="node_id")
    cloud_pod_id = peewee.TextField(null=True, unique=True)
    tenant_id = peewee.TextField(null=True)
    role = peewee.TextField(null=True)
    used_cpu_cores = peewee.IntegerField(default=0)
    used_memory_mb = peewee.IntegerField(default=0)
    used_disk_gb = peewee.IntegerField(default=0)
    updated_at = peewee.DateTimeField(default=db.now)

    class Meta:
        table_name = "cloud_pod_allocations"

    @classmethod
    def take(
        cls,
        node: CloudPodNode,
        cloud_pod_id: str,
        tenant_id: str,
        cores: int,
        memory_mb: int,
        disk_gb: int,
        *,
        role: str | None = None,
    ) -> None:
        """Book a pod's share of a node."""
        cls.insert(
            id=new_id(),
            node=node,
            cloud_pod_id=cloud_pod_id,
            tenant_id=tenant_id,
            role=role,
            used_cpu_cores=cores,
            used_memory_mb=memory_mb,
            used_disk_gb=disk_gb,
        ).execute()

    @classmethod
    def resize(cls, cloud_pod_id: str, cores: int, memory_mb: int, disk_gb: int | None = None) -> None:
        """Book a pod's new size; its disk's, if given."""
        disk = {} if disk_gb is None else {"used_disk_gb": disk_gb}
        size = cls.update(used_cpu_cores=cores, used_memory_mb=memory_mb, **disk)
        size.where(cls.cloud_pod_id == cloud_pod_id).execute()

    @classmethod
    def move(cls, cloud_pod_ids: list[str], node_id: str) -> None:
        """Book pods' shares on another node."""
        cls.update(node=node_id, updated_at=db.now()).where(cls.cloud_pod_id.in_(cloud_pod_ids)).execute()

    @classmethod
    def of_pod(cls, cloud_pod_id: str) -> "Allocation | None":
        """Return a pod's share, None when it has none."""
        return cls.get_or_none(cls.cloud_pod_id == cloud_pod_id)

    @classmethod
    def release(cls, cloud_pod_id: str) -> None:
        """Give a pod's share back."""
        cls.delete().where(cls.cloud_pod_id == cloud_pod_id).execute()


def _bare(address: Any) -> str:
    # PostgreSQL prints inet host addresses without a prefix; be right even when one was stored with it.
    return str(address).split("/", 1)[0]
