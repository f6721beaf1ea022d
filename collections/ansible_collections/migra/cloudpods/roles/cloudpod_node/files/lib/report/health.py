"""cloudpod-health.sh: how each pod is doing, from cgroup and conf files alone, with a verdict and its reasons."""

from __future__ import annotations

from cgroup import Cgroup
from confs import Conf
from info import DEFAULT_MEMORY_MB
from node import Node, OutsidePool, wanted

MEMORY_WARNING_PERCENT = 85
MEMORY_CRITICAL_PERCENT = 95
VERDICTS = ("ok", "warning", "critical")  # in rising order

Reason = tuple[str, str]


def rows(node: Node, vmids: list[int] | None) -> list[dict]:
    """Return one row per vmid; with ``vmids`` None those of the pool on this node and the unfinished ones.

    Raises OutsidePool when a vmid is asked for that is not in the pool.
    """
    found = ((vmid, row(node, vmid)) for vmid in wanted(node, vmids))
    shown = []
    for vmid, each in found:
        if each is not None:
            shown.append(each)
        elif vmids is not None:
            raise OutsidePool(f"container {vmid} is not in pool {node.pool}")
    return shown


def row(node: Node, vmid: int) -> dict | None:
    """Return one vmid's row, or None when it is a guest outside the pool."""
    conf = node.conf(vmid)
    if conf is None:
        return {"vmid": vmid, "exists": False, "verdict": "critical", "reasons": ["no such container"]}
    busy = node.busy(vmid)
    unfinished = node.is_unfinished(vmid, conf, busy)
    if not node.in_pool(vmid) and not unfinished:
        return None
    measured = measure(node, vmid, conf)
    reasons = [("critical", "unfinished: a create was killed")] if unfinished else judge(node, vmid, conf, measured, busy)
    verdict = max((level for level, _ in reasons), key=VERDICTS.index, default="ok")
    return {"vmid": vmid, "exists": True, **measured, "verdict": verdict, "reasons": [words for _, words in reasons]}


def measure(node: Node, vmid: int, conf: Conf) -> dict:
    """Return the figures of one container; all zero when it is not running here."""
    status = node.status(vmid)
    configured_mb = conf.number("memory", DEFAULT_MEMORY_MB)
    figures = {"status": status, "uptime_s": 0, "cpu_usage_s": 0.0, "cores": conf.number("cores")}
    if status != "running":
        return {**figures, "memory": {"used_mb": 0, "limit_mb": configured_mb, "oom_kills": 0}, "pids": 0}
    cgroup = Cgroup(node.cgroup_dir, vmid)
    return {
        **figures,
        "uptime_s": cgroup.uptime_s(),
        "cpu_usage_s": round(cgroup.field("cpu.stat", "usage_usec") / 1_000_000, 3),
        "memory": {
            "used_mb": cgroup.used_memory_mb(),
            "limit_mb": cgroup.memory_limit_mb() or configured_mb,
            "oom_kills": cgroup.field("memory.events", "oom_kill"),
        },
        "pids": cgroup.number("pids.current") or 0,
    }


def judge(node: Node, vmid: int, conf: Conf, measured: dict, busy: dict | None) -> list[Reason]:
    """Return level and words of everything worth saying about a container's figures."""
    if measured["status"] == "unknown":
        return [("warning", f"on node {node.guests[vmid].node}, not looked at from {node.name}")]
    if busy:
        # A create has not started it yet, a backup may stop it for a while: that is no illness.
        return [("ok", f"busy: {busy['script'] or 'a script'} is at work")]
    if measured["status"] == "stopped":
        return [("critical", "stopped while onboot is set")] if conf.flag("onboot") else []
    return judge_memory(measured["memory"])


def judge_memory(memory: dict) -> list[Reason]:
    """Return level and words about memory: its share of the limit, and kills for want of it."""
    reasons: list[Reason] = []
    percent = 100 * memory["used_mb"] / memory["limit_mb"] if memory["limit_mb"] else 0
    for level, threshold in (("critical", MEMORY_CRITICAL_PERCENT), ("warning", MEMORY_WARNING_PERCENT)):
        if percent >= threshold:
            words = f"memory {percent:.0f} % of {memory['limit_mb']} MB is at or above {threshold} %"
            reasons.append((level, words))
            break
    if memory["oom_kills"]:
        reasons.append(("warning", f"{memory['oom_kills']} processes killed for want of memory (threshold 1)"))
    return reasons
