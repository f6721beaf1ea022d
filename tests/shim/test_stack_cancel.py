"""Cancelling each action in each phase of its run, over a running stack: afterwards node and tables agree, and nothing is left
that the job does not tell of.

| phase | cancelled |
|---|---|
| queued | while no worker takes anything |
| claimed | as soon as a worker has it |
| middle | while its script works at the pod: a command of the node's takes long |
| end | when its script is through, and its worker may have written that or not |
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from tests.lab_node import TEMPLATE
from tests.stack import OVER, TENANT, Stack, wait_until

# What an action's script spends its time in, and what others need to clean up after themselves is shorter.
LONG_S, SHORT_S = 60, 3
DELAYS = {
    "pct create": LONG_S,
    "pct restore": LONG_S,
    "vzdump": LONG_S,
    "pct set": LONG_S,
    "pct snapshot": LONG_S,
    "pct rollback": LONG_S,
    "pct shutdown": LONG_S,
    "pct delsnapshot": SHORT_S,
    "pct destroy": SHORT_S,
}
PODS = range(9501, 9512)
SNAPSHOT, ARCHIVE = (9505, 9506), (9507, 9508)
NEW = {"hostname": "new", "cores": 1, "memoryMb": 512}
ORDERS = {
    "scale": ("/cloudpods/9501/scale", {"newCores": 2, "newMemoryMb": 1024}),
    "shutdown": ("/cloudpods/9502/actions", {"action": "shutdown"}),
    "backup": ("/cloudpods/9503/backup", {}),
    "snapshot": ("/cloudpods/9504/snapshots", {"name": "new"}),
    "rollback": ("/cloudpods/9505/snapshots/old/rollback", {}),
    "delete snapshot": ("/cloudpods/9506/snapshots/old", None),
    "restore": ("/cloudpods/9507/restore", {"force": True}),
    "restore as new": ("/cloudpods/9508/restore", {"asNew": True}),
    "drill": ("/cloudpods/9508/restore-drill", {}),
    "create": ("/cloudpods", NEW),
    "look": ("/nodes/lab1/reconcile", None),
    "destroy": ("/cloudpods/{vmid}/destroy", {}),
    "adopt": ("/nodes/lab1/adopt", {}),
}
# What may be done after all is another pod in each phase.
VMIDS = {
    "destroy": {"queued": 9509, "claimed": 9509, "middle": 9510, "end": 9511},
    "adopt": {"queued": 5001, "claimed": 5001, "middle": 5002, "end": 5003},
}
PHASES = {
    "queued": tuple(ORDERS),
    "claimed": ("scale", "snapshot", "restore", "create", "look", "destroy", "adopt"),
    "middle": tuple(name for name in ORDERS if name != "look"),
    "end": ("scale", "backup", "snapshot", "create", "destroy", "adopt"),
}
# What a cancelled job may tell it left; what is not here leaves nothing.
LEFT = {
    "shutdown": "container 9502, (stopped|running, whose guest may have been asked to shut down and may yet do so)",
    "rollback": "container 9505, (stopped|running; unknown whether it went back to old)|lock rollback on container 9505",
    "restore": "container 9507, (stopped|gone: restore it again|unfinished: restore it again)",
    "destroy": "container (9509|951.), (stopped|not whole)|perhaps the address of (9509|951.)",
    "adopt": "the marker of pod [0-9a-f-]+ on container 500., and its address; adopt it again",
}


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """Return a running stack with pods to cancel changes of, which looks at its node only when it is told to."""
    home = Path(tempfile.mkdtemp(prefix="cloudpods-cancel-"))
    home.chmod(0o711)
    running = Stack(home)
    running.environment |= {"CLOUDPODS_HEALTH_SWEEP_S": "0", "CLOUDPODS_RECONCILE_S": "0", "CLOUDPODS_NODE_SYNC_S": "0"}
    try:
        running.lay_lab()
        running.start(workers=4, said=home / "said")
        running.seed()
        room = running.session.put(
            f"{running.url}/internal/nodes/lab1", json={"diskOvercommit": 10, "maxRunningJobs": 8}, timeout=20
        )
        assert room.status_code == 200, room.text
        _fill(running)
        yield running
        assert running.stop() == []
    finally:
        running.stop()
        shutil.rmtree(home, ignore_errors=True)


def _fill(stack: Stack) -> None:
    made = [stack.create(vmid=vmid)["job"]["id"] for vmid in PODS]
    _succeed(stack, made)
    snapshots = [stack.post(f"/internal/cloudpods/{vmid}/snapshots", tenantId=TENANT, name="old") for vmid in SNAPSHOT]
    backups = [stack.post(f"/internal/cloudpods/{vmid}/backup", tenantId=TENANT) for vmid in ARCHIVE]
    _succeed(stack, [answer.json()["job"]["id"] for answer in (*snapshots, *backups)])
    for vmid in set(VMIDS["adopt"].values()):
        _make_by_hand(stack, vmid)
    scan = stack.get("/internal/nodes/lab1/foreign", refresh=1)
    _succeed(stack, [scan["job"]["id"]])


def _make_by_hand(stack: Stack, vmid: int) -> None:
    size = ["--cores", "1", "--memory", "512", "--swap", "128", "--rootfs", "clients-main:4"]
    net = f"name=eth0,bridge=vmbr0,gw=10.1.10.1,ip=10.1.10.{240 + vmid % 10}/24"
    place = ["--hostname", f"by-hand-{vmid}", "--pool", "ClientPods", "--unprivileged", "1", "--net0", net]
    subprocess.run([stack.lab / "bin/pct", "create", str(vmid), TEMPLATE, *place, *size], check=True, capture_output=True)


def _succeed(stack: Stack, jobs: list[str]) -> None:
    for job in jobs:
        ended = stack.finished(job)
        assert ended["status"] == "success", ended["error"]


@pytest.mark.parametrize("phase", PHASES)
def test_a_cancel_leaves_nothing_but_what_it_tells_of(stack, phase):
    stack.switch("reset")
    if phase == "middle":
        for command, seconds in DELAYS.items():
            stack.switch("delay", command, seconds)
    with _halted(stack) if phase == "queued" else nullcontext(), ThreadPoolExecutor(4) as pool:
        cases = [(name, pool.submit(_cancelled, stack, name, phase)) for name in PHASES[phase]]
        ended = {name: case.result() for name, case in cases}
    for name, job in ended.items():
        left = (job["failure"] or {}).get("left_behind", "nothing")
        assert left == "nothing" or re.fullmatch(LEFT.get(name, ""), left), f"{name}: {job['error']}"
        # What takes but a short time may be through before it is told.
        through = phase in ("claimed", "end") or (phase == "middle" and name in ("delete snapshot", "destroy"))
        assert job["status"] == "cancelled" or through, f"{name}: {job}"
        assert left == "nothing" or phase != "queued", f"{name}: {job}"
    stack.switch("reset")
    for name, job in ended.items():
        if (job["failure"] or {}).get("left_behind", "").endswith("restore it again"):
            path, body = ORDERS[name]
            _succeed(stack, [stack.done(f"/internal{path}", tenantId=TENANT, **body)["id"]])
    _require_agreement(stack)


@contextmanager
def _halted(stack: Stack) -> Iterator[None]:
    """Let no worker do anything."""
    workers = [process for process in stack.services() if "worker" in process.cmdline()]
    for worker in workers:
        worker.suspend()
    try:
        yield
    finally:
        for worker in workers:
            worker.resume()


def _cancelled(stack: Stack, name: str, phase: str) -> dict:
    """Order, wait for the phase, cancel; return the job when it is over."""
    path, body = ORDERS[name]
    if name in VMIDS:
        vmid = VMIDS[name][phase]
        path, body = path.format(vmid=vmid), ({"vmid": vmid} if name == "adopt" else {})
    if body is None and name != "look":
        job = stack.delete(f"/internal{path}", tenantId=TENANT)["job"]
    else:
        answer = stack.post(f"/internal{path}", **({} if body is None else {"tenantId": TENANT, **body}))
        assert answer.status_code == 202, answer.text
        job = answer.json()["job"]
    reached = {"queued": _is_queued, "claimed": _is_claimed, "middle": _is_at_work, "end": _is_through}[phase]
    wait_until(lambda: reached(stack, job), f"{name} is {phase}")
    answer = stack.post(f"/internal/jobs/{job['id']}/cancel")
    assert answer.status_code in (200, 202) or answer.json()["code"] == "job_over", answer.text
    return stack.finished(job["id"])


def _is_queued(stack: Stack, job: dict) -> bool:
    return stack.get(f"/internal/jobs/{job['id']}")["status"] == "queued"


def _is_claimed(stack: Stack, job: dict) -> bool:
    return stack.get(f"/internal/jobs/{job['id']}")["status"] != "queued"


def _is_at_work(stack: Stack, job: dict) -> bool:
    now = stack.get(f"/internal/jobs/{job['id']}")
    locks = (stack.lab / "run/lock/cloudpods").glob("[0-9]*")
    return now["status"] in OVER or any(job["id"] in lock.read_text() for lock in locks)


def _is_through(stack: Stack, job: dict) -> bool:
    return any(str(line["run"]).startswith(job["id"]) for line in stack.node_log())


def _require_agreement(stack: Stack) -> None:
    """Require that nothing is under way, and that pods, ledger, shares, addresses, snapshots and archives are the node's."""
    wait_until(lambda: not _unfinished(stack), "what cancelled jobs left is destroyed")
    stack.cloudpods("quota", "recount", "--dry-run")
    look = stack.done("/internal/nodes/lab1/reconcile")
    assert look["status"] == "success", look["error"]
    (report,) = stack.get("/internal/drift", node="lab1")["items"]
    # What was made by hand and nobody adopted is nobody's.
    assert [item for item in report["items"] if item["kind"] != "foreign"] == []
    pods = [pod for pod in stack.get("/internal/cloudpods", limit=100)["items"] if pod["status"] not in ("deleted", "failed")]
    assert {pod["status"] for pod in pods} == {"active"}
    lines = [line.split() for line in (stack.lab / "etc/migra/ipam-cloudpods.txt").read_text().splitlines()]
    ours = {(line[0], int(line[1]), line[4]) for line in lines if line and not line[0].startswith("#")}
    # What a cancelled adoption told that it left.
    ours = {line for line in ours if line[1] not in VMIDS["adopt"].values() or line[1] in {pod["vmid"] for pod in pods}}
    assert ours == {(pod["ip"], pod["vmid"], "active") for pod in pods}
    for pod in pods:
        _require_same(stack, pod)
    locks = (stack.lab / "run/lock/cloudpods").glob("[0-9]*")
    assert {lock.name: lock.read_text() for lock in locks if lock.read_text().strip()} == {}


def _require_same(stack: Stack, pod: dict) -> None:
    vmid = pod["vmid"]
    assert pod["powerState"] == ("running" if stack.runs(vmid) else "stopped"), pod
    conf = (stack.lab / f"etc/pve/lxc/{vmid}.conf").read_text()
    assert "lock:" not in conf
    snapshots = stack.get(f"/internal/cloudpods/{vmid}/snapshots")["items"]
    assert sorted(re.findall(r"^\[(\w+)\]", conf, re.MULTILINE)) == sorted(each["name"] for each in snapshots)
    assert all(each["status"] == "ready" for each in snapshots)
    known = {each["volid"].rpartition("/")[2] for each in stack.get(f"/internal/cloudpods/{vmid}/backups")["items"]}
    assert {path.name for path in stack.lab.rglob(f"vzdump-lxc-{vmid}-*.tar*") if not path.name.endswith(".notes")} == known


def _unfinished(stack: Stack) -> list[dict]:
    return [job for status in ("queued", "running") for job in stack.get("/internal/jobs", status=status)["items"]]
