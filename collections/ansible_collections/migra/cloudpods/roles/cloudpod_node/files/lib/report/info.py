"""cloudpod-info.sh: config, status, owner, address and holder of each pod."""

from __future__ import annotations

import time

import backups
from confs import Conf, Snapshot, size_in_gb
from node import VZDUMP, Node, wanted

DEFAULT_MEMORY_MB = 512  # Proxmox's, where a conf is silent
DEFAULT_SWAP_MB = 512


def document(node: Node, vmids: list[int] | None) -> dict:
    """Return the answer: what the node is and a row per vmid; with ``vmids`` None also the pool's containers elsewhere."""
    elsewhere = {} if vmids else {"elsewhere": node.elsewhere()}
    return {**node.head(), **elsewhere, "pods": rows(node, vmids)}


def rows(node: Node, vmids: list[int] | None) -> list[dict]:
    """Return one row per vmid; with ``vmids`` None those of the pool on this node and the unfinished ones."""
    found = [row(node, vmid) for vmid in wanted(node, vmids)]
    if node.backup_storage:
        backups.add(found, backups.on_storage(node.backup_storage))
    # --all looks at containers that may be unfinished; those that are not are none of ours.
    return [each for each in found if vmids is not None or each.get("in_pool") or each["unfinished"]]


def row(node: Node, vmid: int) -> dict:
    """Return one vmid's row. A container that is neither in the pool nor unfinished shows no more than that."""
    busy = node.busy(vmid)
    conf = node.conf(vmid)
    if conf is None:
        note = None if busy else node.restoring(vmid, conf)
        return {
            "vmid": vmid,
            "exists": False,
            "busy": busy,
            "unfinished": bool(note),
            **({"owner": note.owner} if note else {}),
        }
    in_pool = node.in_pool(vmid)
    unfinished = node.is_unfinished(vmid, conf, busy)
    head = {"vmid": vmid, "exists": True, "in_pool": in_pool, "node": node.guests[vmid].node}
    if not in_pool and not unfinished:
        return {**head, "busy": busy, "unfinished": False}
    lock = {"lock": conf.current.get("lock"), "lock_stale": node.lock_is_stale(conf)}
    state = {"status": node.status(vmid), **lock, "unfinished": unfinished, "busy": busy}
    note = node.restoring(vmid, conf)
    owner = conf.owner() or (note.owner if note else None)
    restored = None if note else conf.restored()
    return {**head, **state, "owner": owner, "host_key": conf.host_key(), "restored": restored, **facts(conf)}


def facts(conf: Conf) -> dict:
    """Return what a conf says, under the contract's names."""
    net, rootfs = conf.options("net0"), conf.options("rootfs")
    address, _, prefix = net.get("ip", "").partition("/")
    has_address = prefix.isdecimal()
    return {
        "hostname": conf.current.get("hostname"),
        "ip": address if has_address else None,
        "prefix": int(prefix) if has_address else None,
        "gateway": net.get("gw"),
        "mac": net.get("hwaddr"),
        "bridge": net.get("bridge"),
        "storage": rootfs["volume"].partition(":")[0] if "volume" in rootfs else None,
        "disk_gb": size_in_gb(rootfs.get("size", "")),
        "cores": conf.number("cores"),
        "memory_mb": conf.number("memory", DEFAULT_MEMORY_MB),
        "swap_mb": conf.number("swap", DEFAULT_SWAP_MB),
        "onboot": conf.flag("onboot"),
        "protection": conf.flag("protection"),
        "unprivileged": conf.flag("unprivileged"),
        "pending": conf.pending,
        "snapshots": snapshots(conf),
        "config": {**conf.current, **({"description": "\n".join(conf.description)} if conf.description else {})},
    }


def snapshots(conf: Conf) -> list[dict]:
    """Return a row for each snapshot, the oldest first."""
    named = [(name, snapshot) for name, snapshot in conf.snapshots.items() if name != VZDUMP]
    return [snapshot_row(*each) for each in sorted(named, key=lambda each: (_taken_at(each[1]), each[0]))]


def snapshot_row(name: str, snapshot: Snapshot) -> dict:
    """Return one snapshot's row. One that Proxmox is at work on, or whose making was ended, is not complete."""
    taken = _taken_at(snapshot)
    return {
        "name": name,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(taken)) if taken else None,
        "parent": snapshot.keys.get("parent"),
        "job": snapshot.job(),
        "complete": "snapstate" not in snapshot.keys,
    }


def _taken_at(snapshot: Snapshot) -> int:
    value = snapshot.keys.get("snaptime", "")
    return int(value) if value.isdecimal() and len(value) < 12 else 0
