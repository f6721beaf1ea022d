"""pct snapshot, rollback, delsnapshot, clone, template."""

from __future__ import annotations

import os
import time

from . import pools, storage, volumes
from .cli import Call, uninterrupted
from .conf import Conf, Section
from .errors import PveError
from .files import remove_tree
from .formats import split_properties
from .lab import Lab, check_lock
from .normalise import with_new_addresses

RESERVED = ("current", "vzdump", "pending")
NOT_IN_SNAPSHOT = ("lock", "parent", "snaptime", "description")


def snapshot(call: Call) -> None:
    """Keep a container's volumes and configuration under a name."""
    name = call.parameters["snapname"]
    if name in RESERVED:
        raise PveError(f"unable to use snapshot name '{name}' (reserved name)")
    with call.lab.locked(call.vmid):
        conf = call.lab.load(call.vmid)
        check_lock(conf)
        if name in conf.snapshots:
            raise PveError(f"snapshot name '{name}' already used")
        paths = _snapshot_paths(call.lab, conf, name)
        call.switches.middle()
        for source, target in paths:
            call.lab.backend.copy(source, target)
        conf.snapshots[name] = _kept(conf, call.parameters.get("description", ""))
        conf.main["parent"] = name
        call.lab.save(call.vmid, conf)


def _kept(conf: Conf, description: str) -> Section:
    """Return the section a snapshot keeps of the present configuration."""
    section = Section({key: value for key, value in conf.main.items() if key not in NOT_IN_SNAPSHOT})
    section.raw = list(conf.main.raw)
    section["snaptime"] = str(int(time.time()))
    if "parent" in conf.main:
        section["parent"] = conf.main["parent"]
    if description:
        section["description"] = description.rstrip("\n") + "\n"
    return section


def _snapshot_paths(lab: Lab, conf: Conf, name: str) -> list[tuple[str, str]]:
    """Return (volume, snapshot directory) of each volume; only ZFS volumes can have snapshots."""
    pairs = []
    for volid in volumes.volids(conf.main):
        if storage.usable(lab, volid.partition(":")[0]).kind != "zfspool":
            raise PveError("snapshot feature is not available")
        path = storage.path_of(lab, volid)
        pairs.append((path, os.path.join(path, ".zfs/snapshot", name)))
    return pairs


def rollback(call: Call) -> None:
    """Return a container to a snapshot; a running one is stopped first."""
    with call.lab.locked(call.vmid):
        conf, name = call.lab.load(call.vmid), call.parameters["snapname"]
        check_lock(conf)
        kept = _existing(conf, name)
        _check_most_recent(conf, name)
        if call.lab.backend.is_running(call.vmid):
            call.lab.backend.stop(call.vmid)
        call.switches.middle()
        for path, copy in _snapshot_paths(call.lab, conf, name):
            call.lab.backend.replace(path, copy)
        description = conf.main.get("description")
        conf.main = Section({key: value for key, value in kept.items() if key not in NOT_IN_SNAPSHOT})
        conf.main.raw = list(kept.raw)
        conf.main["parent"] = name
        if description:
            conf.main["description"] = description
        conf.pending = Section()
        call.lab.save(call.vmid, conf)
        if call.flag("start"):
            call.lab.backend.start(call.vmid, conf.main)


def _existing(conf: Conf, name: str) -> Section:
    """Return a snapshot's section."""
    if name not in conf.snapshots:
        raise PveError(f"snapshot '{name}' does not exist")
    return conf.snapshots[name]


def _check_most_recent(conf: Conf, name: str) -> None:
    """Refuse an older snapshot: ZFS would have to destroy the newer ones."""
    if conf.main.get("parent") != name:
        volid = split_properties(conf.main["rootfs"], "volume")["volume"]
        raise PveError(f"can't rollback, '{name}' is not most recent snapshot on '{volid}'")


def delete_snapshot(call: Call) -> None:
    """Forget a snapshot; those after it become its parent's."""
    with call.lab.locked(call.vmid):
        conf, name = call.lab.load(call.vmid), call.parameters["snapname"]
        check_lock(conf)
        gone = _existing(conf, name)
        call.switches.middle()
        for _, copy in _snapshot_paths(call.lab, conf, name):
            remove_tree(copy)
        del conf.snapshots[name]
        for section in (conf.main, *conf.snapshots.values()):
            if section.get("parent") == name:
                section.pop("parent")
                if "parent" in gone:
                    section["parent"] = gone["parent"]
        call.lab.save(call.vmid, conf)


def clone(call: Call) -> None:
    """Copy a stopped container, or a snapshot of one, to a new vmid."""
    lab, newid, name = call.lab, int(call.parameters["newid"]), call.parameters.get("snapname")
    pool = call.parameters.get("pool")
    if pool and not pools.pool_exists(lab, pool):
        raise PveError(f"403 Permission check failed (pool '{pool}' does not exist)")
    if owner := lab.owner_of(newid):
        raise PveError(f"{owner[0]} {newid} already exists on node '{owner[1]}'")
    source = None
    try:
        with uninterrupted():
            source = _take_locks(call, newid, name)
        _copy(call, source, newid, name)
        if pool:
            pools.join(lab, pool, newid)
    except PveError:
        if source:
            _undo_clone(lab, newid)
        raise
    finally:
        if source:
            lab.remove_lock(call.vmid, "disk")


def _take_locks(call: Call, newid: int, name: str | None) -> Section:
    """Put the container under `lock: disk` and the new vmid under `lock: create`; return what is to be copied."""
    lab = call.lab
    with lab.locked(call.vmid):
        conf = lab.load(call.vmid)
        check_lock(conf)
        if lab.backend.is_running(call.vmid) and not name:
            raise PveError(
                "Full clone of a running container is only possible from a snapshot. Disable 'running' or give a snapshot name"
            )
        source = _existing(conf, name) if name else conf.main
        lab.save(call.vmid, conf.under("disk"))
        lab.save(newid, Conf(Section(lock="create")))
    return source


def _copy(call: Call, source: Section, newid: int, name: str | None) -> None:
    """Copy volumes and configuration of a container."""
    print(f"creating a clone of container {call.vmid} with ID {newid}")
    section = with_new_addresses(source)
    for key in NOT_IN_SNAPSHOT:
        section.pop(key, None)
    for option in filter(volumes.is_volume_option, sorted(source)):
        volid = split_properties(source[option], "volume")["volume"]
        print(f"create full clone of mountpoint {option} ({volid})")
        path = storage.path_of(call.lab, volid)
        target = storage.for_containers(call.lab, call.parameters.get("storage", volid.partition(":")[0]))
        section[option] = source[option].replace(volid, target.allocate(newid, storage.refquota(path)), 1)
        call.switches.middle()
        copy = os.path.join(path, ".zfs/snapshot", name) if name else path
        call.lab.backend.copy(copy, storage.path_of(call.lab, split_properties(section[option], "volume")["volume"]))
    section["hostname"] = call.parameters.get("hostname", f"Copy-of-CT-{source.get('hostname', call.vmid)}")
    if description := call.parameters.get("description"):
        section["description"] = description.rstrip("\n") + "\n"
    call.lab.save(newid, Conf(section))


def _undo_clone(lab: Lab, newid: int) -> None:
    """Remove what a failed clone has made."""
    for volid in storage.subvolumes_of(lab, newid):
        storage.free(lab, volid)
    if os.path.exists(lab.conf_path(newid)):
        os.unlink(lab.conf_path(newid))


def make_template(call: Call) -> None:
    """Mark a stopped container as a template."""
    with call.lab.locked(call.vmid, rc=4):
        conf = call.lab.load(call.vmid, missing_rc=2)
        check_lock(conf)
        if call.lab.backend.is_running(call.vmid):
            raise PveError("you can't convert a running CT to template")
        conf.main["template"] = "1"
        call.lab.save(call.vmid, conf)
