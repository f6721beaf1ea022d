"""The kinds of orders: each looks at the world and returns what to send, or None when it cannot be ordered just now."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from typing import Any

from tests.chaos.world import Request, World
from tests.lab_node import TEMPLATE

Kind = Callable[[World, str], "Request | None"]

# So many jobs wait or run at a time: enough for faults to hit something, few enough for orders to find pods at rest.
UNFINISHED = 10
FEWEST_PODS, MOST_PODS = 4, 14
POWER = ("start", "shutdown", "stop", "reboot")


def create(world: World, mark: str, **further: object) -> Request | None:
    """Order a pod, unless there are many."""
    if len(world.pods()) >= MOST_PODS:
        return None
    return Request("POST", "/internal/cloudpods", {**_new(world, mark), **further})


def create_three(world: World, mark: str) -> Request | None:
    """Order three pods at once."""
    if len(world.pods()) + 3 > MOST_PODS:
        return None
    tenant = world.dice.choice(world.tenants)
    items = [{"action": "create", **_new(world, f"{mark}-{number}"), "tenantId": tenant} for number in range(3)]
    return Request("POST", "/internal/cloudpods/bulk", {"tenantId": tenant, "items": items}, jobs=3)


def create_rehearsed(world: World, mark: str) -> Request | None:
    """Have a pod's order rehearsed."""
    return Request("POST", "/internal/cloudpods?dryRun=1", _new(world, mark))


def destroy(world: World, mark: str) -> Request | None:
    """Order a pod's end, while there are enough others."""
    return _change(world, mark, "destroy", at_least=FEWEST_PODS + 1)


def destroy_after_backup(world: World, mark: str) -> Request | None:
    """Order a pod's end after a backup."""
    return _change(world, mark, "destroy", at_least=FEWEST_PODS + 1, jobs=2, backupFirst=True)


def backup(world: World, mark: str) -> Request | None:
    """Order a backup."""
    return _change(world, mark, "backup", mode=world.dice.choice(["snapshot", "suspend", "stop"]))


def restore_in_place(world: World, mark: str) -> Request | None:
    """Order a pod back to its archive."""
    pod = _backed_up(world)
    return pod and Request("POST", f"/internal/cloudpods/{pod['id']}/restore", {**_by(pod, mark), "force": True})


def restore_as_new(world: World, mark: str) -> Request | None:
    """Order a second pod from an archive."""
    pod = _backed_up(world)
    if pod is None or len(world.pods()) >= MOST_PODS:
        return None
    body = {**_by(pod, mark), "asNew": True, "hostname": mark}
    return Request("POST", f"/internal/cloudpods/{pod['id']}/restore", body)


def drill(world: World, mark: str) -> Request | None:
    """Order a restore drill."""
    pod = _backed_up(world)
    return pod and Request("POST", f"/internal/cloudpods/{pod['id']}/restore-drill", _by(pod, mark))


def scale(world: World, mark: str) -> Request | None:
    """Order another size."""
    return _change(world, mark, "scale", **_size(world))


def scale_after_backup(world: World, mark: str) -> Request | None:
    """Order another size after a backup."""
    return _change(world, mark, "scale", jobs=2, backupFirst=True, **_size(world))


def scale_rehearsed(world: World, mark: str) -> Request | None:
    """Have another size rehearsed."""
    return _change(world, mark, "scale?dryRun=1", **_size(world))


def power(world: World, mark: str) -> Request | None:
    """Order a start, a stop or a restart."""
    pod = _active(world)
    body = pod and {**_by(pod, mark), "action": world.dice.choice(POWER), "shutdownTimeoutS": 20}
    return pod and Request("POST", f"/api/cloudpods/{pod['id']}/actions", body)


def snapshot(world: World, mark: str) -> Request | None:
    """Order a snapshot."""
    return _change(world, mark, "snapshots", name=mark)


def rollback(world: World, mark: str) -> Request | None:
    """Order a pod back to its newest snapshot."""
    found = _with_snapshot(world)
    return found and Request("POST", f"{found[1]}/rollback", _by(found[0], mark))


def drop_snapshot(world: World, mark: str) -> Request | None:
    """Order a snapshot's end."""
    found = _with_snapshot(world)
    return found and Request("DELETE", f"{found[1]}?tenantId={found[0]['tenantId']}")


def scan(world: World, mark: str) -> Request | None:
    """Make a container by hand and order a look for such."""
    vmid, net = 5000 + len(world.given), "name=eth0,bridge=vmbr0,gw=10.1.10.1,ip=10.1.10."
    size = ["--cores", "1", "--memory", "512", "--swap", "128", "--rootfs", "clients-main:4"]
    place = ["--hostname", f"by-hand-{vmid}", "--pool", "ClientPods", "--unprivileged", "1"]
    command = [world.stack.lab / "bin/pct", "create", str(vmid), TEMPLATE, *place, *size, "--net0"]
    # Those end of the range that the shim's own choices do not reach.
    subprocess.run([*command, f"{net}{249 - len(world.given) % 50}/24"], check=False, capture_output=True)
    return Request("GET", f"/internal/nodes/{world.stack.node}/foreign?refresh=1")


def adopt(world: World, mark: str) -> Request | None:
    """Order that a container which a look saw becomes a pod."""
    items = world.look(f"/internal/nodes/{world.stack.node}/foreign")["items"]
    found = [item for item in items if item["vmid"] < 9000 and not item.get("owner")]
    if not found:
        return None
    body = {"tenantId": world.dice.choice(world.tenants), "vmid": found[0]["vmid"]}
    return Request("POST", f"/internal/nodes/{world.stack.node}/adopt", body)


def check_health(world: World, mark: str) -> Request | None:
    """Order a health check."""
    pod = _active(world)
    return pod and Request("GET", f"/internal/cloudpods/{pod['id']}/health?refresh=1")


def reconcile(world: World, mark: str) -> Request | None:
    """Order a comparison of node and table."""
    return Request("POST", f"/internal/nodes/{world.stack.node}/reconcile", {})


def sync(world: World, mark: str) -> Request | None:
    """Order a look at what the node has."""
    return Request("POST", f"/internal/nodes/{world.stack.node}/sync", {})


def cancel(world: World, mark: str) -> Request | None:
    """Ask for the end of a job that is not over."""
    return _of_job(world, "cancel", "queued", "running", jobs=0)


def retry(world: World, mark: str) -> Request | None:
    """Order anew what a job was to do that came to nothing."""
    return _of_job(world, "retry", "failed", "cancelled")


# The pods of which a job says that it left something.
LEFT = "SELECT DISTINCT cloud_pod_id FROM cloud_pod_jobs WHERE coalesce(failure->>'left_behind', 'nothing') <> 'nothing'"
# What others begin with.
NEEDED: tuple[Kind, ...] = (create, backup, snapshot)
# How many of each are in a deck.
DECK: dict[Kind, int] = {
    create: 6,
    create_three: 1,
    create_rehearsed: 1,
    destroy: 3,
    destroy_after_backup: 1,
    backup: 6,
    restore_in_place: 2,
    restore_as_new: 2,
    drill: 2,
    scale: 4,
    scale_after_backup: 1,
    scale_rehearsed: 1,
    power: 6,
    snapshot: 5,
    rollback: 2,
    drop_snapshot: 2,
    scan: 2,
    adopt: 1,
    check_health: 2,
    reconcile: 1,
    sync: 1,
    cancel: 5,
    retry: 3,
}


def give_all(world: World, jobs: int, within_s: float) -> None:
    """Give orders of all kinds in a random order until that many jobs were ordered, and each kind once."""
    deadline = time.monotonic() + within_s
    deck = [create] * 5
    while (missing := [kind for kind in DECK if kind.__name__ not in world.kinds()]) or world.jobs < jobs:
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {jobs} jobs of all kinds; there are {world.kinds()}"
        if len(deck) < len(DECK):
            deck += world.dice.sample([kind for kind, count in DECK.items() for _ in range(count)], sum(DECK.values()))
        wanted = deck if world.jobs < jobs else missing
        if world.unfinished() >= UNFINISHED:
            time.sleep(0.5)
        elif not _give_one(world, wanted):
            # What is missing makes pods, of which there are many, failed ones too; or it needs an archive or a snapshot of one.
            _give_one(world, [destroy] if len(world.pods()) + 3 > MOST_PODS else [world.dice.choice(NEEDED)])
            time.sleep(0.5)


def repair(world: World) -> bool:
    """Do what failed jobs say is to be done: what is not whole is restored once more, what should be gone is destroyed.

    Return whether there was any such.
    """
    left = {pod for (pod,) in world.database(LEFT)}
    # A failed pod that left nothing is over; what it was to adopt is nobody's still, and not ours to destroy.
    broken = [pod for pod in world.pods() if _is_broken(pod, left)]
    jobs = [_mended(world, pod) for pod in broken]
    for job in filter(None, jobs):
        ended = world.stack.finished(job)
        assert ended["status"] == "success", ended
    return bool(broken)


def _is_broken(pod: dict[str, Any], left: set[str]) -> bool:
    # What was to be destroyed is to be gone, whatever the job that gave up says that it left.
    return pod["status"] == "deleting" or (pod["id"] in left and (pod["error"] or pod["status"] != "active"))


def _mended(world: World, pod: dict[str, Any]) -> str | None:
    mark = world.mark()
    verb, further = ("restore", {"force": True}) if pod["status"] == "active" else ("destroy", {})
    path = f"/internal/cloudpods/{pod['id']}/{verb}"
    given = world.give(f"repair by {verb}", mark, Request("POST", path, {**_by(pod, mark), **further}))
    assert given.status == 202 or given.answer["code"] == "vmid_taken", given
    return given.answer["job"]["id"] if given.status == 202 else None


def _give_one(world: World, wanted: list[Kind]) -> bool:
    """Give the first of the next wanted orders that can be given now; return whether there was one."""
    for kind in dict.fromkeys(wanted[: len(DECK)]):
        mark = world.mark()
        request = kind(world, mark)
        if request is not None:
            wanted.remove(kind)
            world.give(kind.__name__, mark, request)
            return True
    return False


def _new(world: World, mark: str) -> dict[str, Any]:
    size = {"cores": world.dice.randint(1, 4), "memoryMb": 512 * world.dice.randint(1, 4), "diskGb": 8}
    return {"tenantId": world.dice.choice(world.tenants), "hostname": mark, **size}


def _size(world: World) -> dict[str, Any]:
    return {"newCores": world.dice.randint(1, 8), "newMemoryMb": 512 * world.dice.randint(1, 8), "force": True}


def _by(pod: dict[str, Any], mark: str) -> dict[str, Any]:
    return {"tenantId": pod["tenantId"], "reason": mark}


def _active(world: World, at_least: int = 1) -> dict[str, Any] | None:
    pods = [pod for pod in world.pods() if pod["status"] == "active"]
    return world.dice.choice(pods) if len(pods) >= at_least else None


def _change(world: World, mark: str, verb: str, *, at_least: int = 1, jobs: int = 1, **further: object) -> Request | None:
    pod = _active(world, at_least)
    return pod and Request("POST", f"/internal/cloudpods/{pod['id']}/{verb}", {**_by(pod, mark), **further}, jobs)


def _of_job(world: World, verb: str, *statuses: str, jobs: int = 1) -> Request | None:
    newest = world.look("/internal/jobs", limit=50)["items"]
    found = [job["id"] for job in newest if job["status"] in statuses and job["cloudPodId"]]
    return Request("POST", f"/internal/jobs/{world.dice.choice(found)}/{verb}", jobs=jobs) if found else None


def _backed_up(world: World) -> dict[str, Any] | None:
    pods = [pod for pod in world.pods() if pod["status"] == "active" and pod["lastBackupAt"]]
    return world.dice.choice(pods) if pods else None


def _with_snapshot(world: World) -> tuple[dict[str, Any], str] | None:
    """Return a pod and the path of its newest snapshot."""
    pods = [pod for pod in world.pods() if pod["status"] == "active"]
    for pod in world.dice.sample(pods, len(pods)):
        at = f"/internal/cloudpods/{pod['id']}/snapshots"
        ready = [row["name"] for row in world.look(at)["items"] if row["status"] == "ready"]
        if ready:
            return pod, f"{at}/{ready[-1]}"
    return None
