"""cloudpod-health.sh: how each pod is doing, from cgroup and conf files, and what else was asked for, with a verdict."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property

import disk
import guest
import reach
from cgroup import Cgroup
from confs import Conf, Note, size_in_gb
from info import DEFAULT_MEMORY_MB, DEFAULT_SWAP_MB
from judge import Reason, Thresholds, judge_disk, judge_running, verdict
from node import Node, OutsidePool, wanted

BYTES_PER_MB = 1024 * 1024
MB_PER_GB = 1024
GUEST_TIMEOUT_S = 5


@dataclass
class Pod:
    """One container that is shown: its conf and what is known of it without measuring."""

    vmid: int
    conf: Conf
    status: str
    busy: dict | None
    unfinished: bool

    @property
    def asked(self) -> bool:
        """Whether it can be expected to answer."""
        return self.status == "running" and not self.busy and not self.unfinished

    @cached_property
    def volume(self) -> str:
        """Its root disk, as ``storage:volume``."""
        return self.conf.options("rootfs").get("volume", "")

    @cached_property
    def ip(self) -> str | None:
        """Its address; None where it has none of its own choosing (DHCP)."""
        address, slash, _ = self.conf.options("net0").get("ip", "").partition("/")
        return address if slash else None

    @property
    def connected(self) -> bool:
        """Whether its link is up, which it is not in a restore drill."""
        return self.ip is not None and self.conf.options("net0").get("link_down") != "1"


class Answers:
    """What was found out for all pods at once: disks, who is reachable, what guests say."""

    def __init__(self, node: Node, pods: list[Pod], environment: dict[str, str]) -> None:
        asked = [pod for pod in pods if pod.asked]
        storages = disk.parse_storages(node.storage_text)
        self.disks = disk.zfs_disks(storages, {pod.volume for pod in pods if pod.status != "unknown"})
        self.reachable: dict[str, bool | None] = {}
        self.guests: dict[int, str | None] = {}
        # Pods whose sockets are not in the kernel's own list are simulated, and have no network.
        if environment.get("REACH") and node.is_kernels:
            self.reachable = reach.reachable(pod.ip for pod in asked if pod.ip and pod.connected)
        if environment.get("IN_GUEST"):
            timeout_s = int(environment.get("GUEST_TIMEOUT") or GUEST_TIMEOUT_S)
            self.guests = guest.states([pod.vmid for pod in asked], timeout_s)


def document(node: Node, vmids: list[int] | None) -> dict:
    """Return the answer: a row per vmid."""
    return {"node": node.name, "pods": rows(node, vmids)}


def rows(node: Node, vmids: list[int] | None) -> list[dict]:
    """Return one row per vmid; with ``vmids`` None those of the pool on this node and the unfinished ones.

    Raises OutsidePool when a vmid is asked for that is not in the pool.
    """
    environment = dict(os.environ)
    thresholds = Thresholds.read(environment)
    confs = {vmid: node.conf(vmid) for vmid in wanted(node, vmids)}
    pods = {vmid: pod for vmid, conf in confs.items() if conf and (pod := find(node, vmid, conf))}
    outside = [vmid for vmid, conf in confs.items() if conf and vmid not in pods]
    if outside and vmids is not None:
        raise OutsidePool(f"container {outside[0]} is not in pool {node.pool}")
    answers = Answers(node, list(pods.values()), environment)
    return [
        row(node, pods[vmid], answers, thresholds) if vmid in pods else missing(node, vmid)
        for vmid, conf in confs.items()
        if vmid in pods or conf is None
    ]


def find(node: Node, vmid: int, conf: Conf) -> Pod | None:
    """Return one container, or None when it is a guest outside the pool."""
    busy = node.busy(vmid)
    unfinished = node.is_unfinished(vmid, conf, busy)
    if not node.in_pool(vmid) and not unfinished:
        return None
    return Pod(vmid, conf, node.status(vmid), busy, unfinished)


def missing(node: Node, vmid: int) -> dict:
    """Return the row of a vmid that no container has."""
    note = node.restoring(vmid, None)
    words = unfinished_restore(note) if note else "no such container"
    return {"vmid": vmid, "exists": False, **verdict([("critical", words)])}


def unfinished_restore(note: Note) -> str:
    """Return what is to say about a pod whose restore was ended."""
    return f"unfinished: a restore in place was ended, restore it again from {note.archive}"


def row(node: Node, pod: Pod, answers: Answers, thresholds: Thresholds) -> dict:
    """Return one pod's row."""
    measured = measure(node, pod, answers)
    return {"vmid": pod.vmid, "exists": True, **measured, **verdict(judge(node, pod, measured, thresholds))}


def measure(node: Node, pod: Pod, answers: Answers) -> dict:
    """Return the figures of one container; those of what runs are zero when it is not running here."""
    memory_mb, swap_mb = pod.conf.number("memory", DEFAULT_MEMORY_MB), pod.conf.number("swap", DEFAULT_SWAP_MB)
    cgroup = Cgroup(node.cgroup_dir, pod.vmid) if pod.status == "running" else None
    usage = cgroup.usage() if cgroup else None
    return {
        "status": pod.status,
        "uptime_s": cgroup.uptime_s() if cgroup else 0,
        "cpu_usage_s": usage.cpu_usage_s if usage else 0.0,
        "cores": pod.conf.number("cores"),
        "memory": {
            "used_mb": in_mb(usage.memory) if usage else 0,
            "limit_mb": (in_mb(usage.memory_limit) if usage else None) or memory_mb,
            "oom_kills": usage.oom_kills if usage else 0,
        },
        "swap": {
            "used_mb": in_mb(usage.swap) if usage else 0,
            "limit_mb": swap_mb if not usage or usage.swap_limit is None else in_mb(usage.swap_limit),
        },
        "pids": usage.pids if usage else 0,
        "disk": measure_disk(pod, answers, cgroup),
        "ip": pod.ip,
        "reachable": answers.reachable.get(pod.ip or "") if pod.asked and pod.connected else None,
        "guest": answers.guests.get(pod.vmid),
    }


def measure_disk(pod: Pod, answers: Answers, cgroup: Cgroup | None) -> dict:
    """Return use and size of the root disk; its use is null where only reading all its files could tell."""
    found = answers.disks.get(pod.volume) or (disk.mounted_disk(pod.volume, cgroup.first_pid()) if cgroup else None)
    size_gb = size_in_gb(pod.conf.options("rootfs").get("size", ""))
    return {
        "used_mb": in_mb(found.used) if found else None,
        "size_mb": (in_mb(found.size) if found else None) or (None if size_gb is None else int(size_gb * MB_PER_GB)),
    }


def in_mb(number: int | None) -> int | None:
    """Return bytes in whole MB."""
    return None if number is None else number // BYTES_PER_MB


def judge(node: Node, pod: Pod, measured: dict, thresholds: Thresholds) -> list[Reason]:
    """Return level and words of everything worth saying about a container."""
    if pod.unfinished:
        note = node.restoring(pod.vmid, pod.conf)
        return [("critical", unfinished_restore(note) if note else "unfinished: a create was killed")]
    if pod.status == "unknown":
        return [("warning", f"on node {node.guests[pod.vmid].node}, not looked at from {node.name}")]
    if pod.busy:
        # A create has not started it yet, a backup may stop it for a while: that is no illness.
        return [("ok", f"busy: {pod.busy['script'] or 'a script'} is at work")]
    if pod.status == "stopped":
        stopped = [("critical", "stopped while onboot is set")] if pod.conf.flag("onboot") else []
        return [*stopped, *judge_disk(measured["disk"], thresholds)]
    return judge_running(measured, thresholds)
