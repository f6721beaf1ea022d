"""What must hold once the faults are over and the jobs ended: a function each, which yields what is wrong in words."""

from __future__ import annotations

import contextlib
import json
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import psutil

from tests.chaos.node import DRILLS_FROM
from tests.chaos.world import World

# The last event of a job, by type: when it succeeded, and when it did not.
ENDS: dict[str, tuple[set[str], set[str]]] = {
    "CREATE": ({"CREATED"}, {"CREATE_FAILED"}),
    "DESTROY": ({"DESTROYED"}, {"DESTROY_FAILED", "DESTROY_NOT_BEGUN"}),
    "BACKUP": ({"BACKED_UP"}, {"BACKUP_FAILED"}),
    "RESTORE": ({"RESTORED"}, {"RESTORE_FAILED"}),
    "RESTORE_DRILL": ({"RESTORE_DRILL_PASSED"}, {"RESTORE_DRILL_FAILED"}),
    "SCALE": ({"SCALED"}, {"SCALE_FAILED"}),
    "POWER": ({"POWER_CHANGED"}, {"POWER_FAILED"}),
    "SNAPSHOT": ({"SNAPSHOT_CREATE", "SNAPSHOT_ROLLBACK", "SNAPSHOT_DELETE"}, {"SNAPSHOT_FAILED"}),
    "ADOPT": ({"ADOPTED"}, {"ADOPT_FAILED"}),
    "HEALTH_CHECK": ({"HEALTH_CHECKED"}, {"HEALTH_CHECK_FAILED"}),
}
REHEARSED = ({"DRY_RUN"}, {"DRY_RUN_FAILED"})
EVERY_END = set().union(*(ended | failed for ended, failed in [*ENDS.values(), REHEARSED]))
# How long what a look by the clock started may take to go.
GONE_S = 60.0
# Steps on a job's way, which nobody may tell of once it is over.
STEPS = {"queued", "progress", "retry", "wait", "look"}
# What a script says in the node's log when it changed something.
EFFECTS = {
    "created",
    "destroyed",
    "backed_up",
    "restored",
    "adopted",
    "scaled",
    "started",
    "stopped",
    "restarted",
    "snapshotted",
    "rolled_back",
    "snapshot_deleted",
}


@dataclass(frozen=True)
class Job:
    """A job's row, and the actions of its events in order."""

    id: str
    type: str
    status: str
    pod: str | None
    dry_run: bool
    payload: dict[str, Any]
    failure: dict[str, Any] | None
    retry_of: str | None
    after: str | None
    actions: tuple[str, ...]

    @property
    def left(self) -> str:
        """Return what it says that it left."""
        return str((self.failure or {}).get("left_behind", "nothing"))


@dataclass(frozen=True)
class Pod:
    """A pod's row."""

    id: str
    tenant: str
    vmid: int
    ip: str
    status: str
    power_state: str
    size: tuple[int, int, int]
    error: str | None


class Found:
    """What the database and the node have, read once."""

    def __init__(self, world: World) -> None:
        self.world, self.node = world, world.node
        self.jobs = {row[0]: Job(*row[:9], tuple(row[9] or ())) for row in world.database(_JOBS)}
        self.pods = {row[0]: Pod(*row[:6], tuple(row[6:9]), row[9]) for row in world.database(_PODS)}
        self.containers = self.node.containers()


_JOBS = """
SELECT j.id, j.type, j.status, j.cloud_pod_id, j.dry_run, j.payload, j.failure, j.retry_of, j.after_job_id,
       (SELECT array_agg(e.data->>'action' ORDER BY e.seq) FROM cloud_pod_events e WHERE e.job_id = j.id)
FROM cloud_pod_jobs j ORDER BY j.created_at
"""
_PODS = """
SELECT id, tenant_id, vmid, ip, status, power_state, cores, memory_mb, swap_mb, error FROM cloud_pods ORDER BY created_at
"""


def every_order_is_one_job(found: Found) -> Iterator[str]:
    """What was taken is there, once; what was refused is not."""
    # A retry has its order's mark, and so has the backup that it orders to come first.
    anew = {each for job in found.jobs.values() if job.retry_of for each in (job.id, job.after)}
    marks = Counter((_mark(job), job.type) for job in found.jobs.values() if job.id not in anew)
    for order in found.world.given:
        for job in _answered(order.answer):
            if job not in found.jobs:
                yield f"{order.kind}: job {job} was answered, and is not there"
        counts = {type: count for (mark, type), count in marks.items() if mark == order.mark}
        if any(count > 1 for count in counts.values()):
            yield f"{order.kind}: {order.mark} was given once and became {counts}"
        if order.status not in (200, 202) and counts:
            yield f"{order.kind}: {order.mark} was refused ({order.status}), and became {counts}"


def jobs_are_told_of(found: Found) -> Iterator[str]:
    """Each job is told of when it is queued and, once, when it ended; afterwards nothing of its way."""
    for job in found.jobs.values():
        if job.type not in ENDS:
            continue
        ended, failed = REHEARSED if job.dry_run else ENDS[job.type]
        expected = {"success": ended, "failed": failed, "cancelled": {f"{job.type}_CANCELLED"}}[job.status]
        told = [action for action in job.actions if action in EVERY_END or action.endswith("_CANCELLED")]
        if len(told) != 1 or told[0] not in expected:
            yield f"{_name(job)} is told to have ended as {told}"
        elif late := STEPS.intersection(job.actions[job.actions.index(told[0]) :]):
            yield f"{_name(job)} goes on after its end: {late}"
        if job.actions.count("queued") != 1 or job.actions[0] != "queued":
            yield f"{_name(job)} is told to be queued {job.actions.count('queued')} times"


def pods_are_what_the_node_has(found: Found) -> Iterator[str]:
    """A pod that is there stands on the node as its row says; one that is not does not."""
    for pod in found.pods.values():
        container = found.containers.get(pod.vmid)
        container = container if container is not None and container.pod == pod.id else None
        if pod.status == "active":
            yield from _differences(pod, container)
        elif pod.status in ("provisioning", "deleting"):
            yield f"{_title(pod)}, and no job is at work on it"
        elif container is not None:
            yield f"{_title(pod)}, and its container stands"


def containers_are_pods(found: Found) -> Iterator[str]:
    """No container says to be a pod that is not there, and no drill's is left."""
    for vmid, container in found.containers.items():
        pod = found.pods.get(container.pod)
        if vmid >= DRILLS_FROM:
            if not any(job.type == "RESTORE_DRILL" and str(vmid) in job.left for job in found.jobs.values()):
                yield f"container {vmid} of a drill is left"
        elif pod is None:
            yield f"container {vmid} is of pod {container.pod}, which is not known"
        elif pod.vmid != vmid:
            yield f"container {vmid} is of pod {pod.id}, whose vmid is {pod.vmid}"


def addresses_are_pods(found: Found) -> Iterator[str]:
    """Each line of the IPAM file is a pod's, each pod has one."""
    lines: dict[int, list[tuple[str, str]]] = defaultdict(list)
    for ip, vmid, state in found.node.addresses():
        lines[vmid].append((ip, state))
    for pod in found.pods.values():
        if pod.status == "active" and lines.get(pod.vmid) != [(pod.ip, "active")]:
            yield f"{_title(pod)} at {pod.ip}, and the IPAM file has {lines.get(pod.vmid)}"
    yield from (f"the IPAM file has {lines[vmid]} for {vmid}, no container" for vmid in lines.keys() - set(found.containers))


def each_effect_happened_once(found: Found) -> Iterator[str]:
    """By the node's own log no job changed anything twice. A drill's container is no pod, and may be made anew."""
    effects: Counter[tuple[str, str]] = Counter()
    for line in found.node.log():
        job = found.jobs.get(str(line["run"] or "").split(".")[0])
        if line["outcome"] in EFFECTS and job is None and line["run"]:
            yield f"the node changed something for a job that is not there: {line}"
        if line["outcome"] in EFFECTS and job is not None and job.type != "RESTORE_DRILL":
            effects[job.id, line["outcome"]] += 1
            if job.dry_run:
                yield f"{_name(job)} is a dry run: {line}"
    for (job_id, outcome), count in effects.items():
        if count > 1:
            yield f"{_name(found.jobs[job_id])}: {outcome} {count} times"


def archives_and_snapshots_are_explained(found: Found) -> Iterator[str]:
    """Each archive and snapshot of the node is one that its pod has, and the other way round."""
    rows = found.world.database("SELECT volid, cloud_pod_id FROM cloud_pod_backups WHERE status = 'ready'")
    known, there = dict(rows), found.node.archives()
    for volid, (pod, job) in there.items():
        if volid not in known and not (job in found.jobs and found.jobs[job].left != "nothing"):
            yield f"archive {volid} of pod {pod} by job {job} is on the node, and no backup of ours"
    yield from (f"archive {volid} of pod {pod} is not on the node" for volid, pod in known.items() if volid not in there)
    yield from (f"{name} is left of a backup" for name in found.node.unfinished_archives())
    yield from _snapshots(found)


def nothing_is_reserved(found: Found) -> Iterator[str]:
    """No job that is over holds quota."""
    for job_id, pod in found.world.database("SELECT job_id, cloud_pod_id FROM quota_entries WHERE state = 'reserved'"):
        yield f"job {job_id} still reserves quota for pod {pod}"


def ledger_and_nodes_agree(found: Found) -> Iterator[str]:
    """A recount of all tenants, with a look at the nodes, finds no difference."""
    said = json.loads(found.world.stack.cloudpods("quota", "recount", "--nodes", "--json"))
    yield from (f"recounted: {difference}" for difference in said["differences"])
    # What people made by hand and nobody adopted is theirs.
    yield from (f"recounted: {item}" for item in said["nodes"] if item["kind"] != "foreign" or item["vmid"] >= 9000)


def nothing_is_left_running(found: Found) -> Iterator[str]:
    """Of what runs here or on the node nothing stays, and no run lock is held. Looks by the clock come and go."""
    running = [*found.world.stack.playbooks(), *found.node.processes()]
    held = found.node.held_locks()
    for process in psutil.wait_procs(running, timeout=GONE_S)[1]:
        with contextlib.suppress(psutil.NoSuchProcess):
            yield f"{process.pid} is left: {' '.join(process.cmdline())}"
    yield from (f"the run lock of {name} is held: {text}" for name, text in held.items())


CHECKS: tuple[Callable[[Found], Iterator[str]], ...] = (
    every_order_is_one_job,
    jobs_are_told_of,
    pods_are_what_the_node_has,
    containers_are_pods,
    addresses_are_pods,
    each_effect_happened_once,
    archives_and_snapshots_are_explained,
    nothing_is_reserved,
    ledger_and_nodes_agree,
    nothing_is_left_running,
)


def wrong(world: World) -> list[str]:
    """Return all that is not as it must be."""
    found = Found(world)
    return [f"{check.__name__}: {text}" for check in CHECKS for text in _said(check, found)]


def _said(check: Callable[[Found], Iterator[str]], found: Found) -> Iterator[str]:
    """Yield what a check finds; one that cannot look is told beside what the others find, which nobody would see again."""
    try:
        yield from check(found)
    except Exception:
        yield f"cannot look: {traceback.format_exc()}"


def _differences(pod: Pod, container: Any) -> Iterator[str]:
    if container is None:
        yield f"{_title(pod)}, and there is no such container"
        return
    row = (pod.tenant, pod.size, pod.ip, pod.power_state)
    real = (container.tenant, container.size(), container.ip, "running" if container.runs else "stopped")
    if row != real:
        yield f"{_title(pod)} as {row}, and the node has {real}"
    if "lock" in container.values:
        yield f"{_title(pod)}, and locked on the node: {container.values['lock']}"


def _snapshots(found: Found) -> Iterator[str]:
    rows = found.world.database("SELECT cloud_pod_id, name, status FROM cloud_pod_snapshots")
    known = {(pod, name) for pod, name, status in rows if status == "ready"}
    yield from (f"snapshot {name} of pod {pod} is {status} for ever" for pod, name, status in rows if status != "ready")
    there = {(c.pod, name) for vmid, c in found.containers.items() if vmid < DRILLS_FROM for name in c.snapshots}
    left = "\n".join(job.left for job in found.jobs.values() if job.type == "SNAPSHOT")
    for pod, name in there ^ known:
        if (pod, name) in known or f"snapshot '{name}'" not in left:
            yield f"snapshot {name} of pod {pod} is {'on the node' if (pod, name) in there else 'known'} only"


def _answered(answer: dict[str, Any]) -> Iterator[str]:
    jobs = [answer.get("job"), *answer.get("items", ())]
    yield from (job.get("jobId") or job["id"] for job in jobs if job and (job.get("jobId") or job.get("id")))
    yield from filter(None, [answer.get("backupJobId")])


def _mark(job: Job) -> str:
    named = job.payload.get("reason") or job.payload.get("hostname") or ""
    return str(named)


def _name(job: Job) -> str:
    return f"{job.type} {job.id} of pod {job.pod} ({job.status}, left: {job.left})"


def _title(pod: Pod) -> str:
    return f"pod {pod.id} ({pod.vmid}) is {pod.status}"
