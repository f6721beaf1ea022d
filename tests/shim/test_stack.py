"""The main job end to end, over a whole running stack: orders by HTTP, effects on the node."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.stack import OTHER_TENANT, TENANT, Stack, wait_until

# One stack for all of them: xdist gives a file's tests to one process, one after the other.


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """Return a running stack with two tenants."""
    home = Path(tempfile.mkdtemp(prefix="cloudpods-stack-"))
    home.chmod(0o711)
    running = Stack(home)
    try:
        running.lay_lab()
        running.start()
        running.seed()
        # More pods than its disk would bear, if each of them used up what it may.
        ratio = running.session.put(f"{running.url}/internal/nodes/lab1", json={"diskOvercommit": 10}, timeout=20)
        assert ratio.status_code == 200, ratio.text
        yield running
        assert running.stop() == []
    finally:
        running.stop()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(autouse=True)
def no_switches(stack: Stack) -> None:
    """Begin each test on a node that works."""
    stack.switch("reset")


def test_a_pod_lives_and_ends(stack):
    order = stack.create(vmid=9101, cores=2, memoryMb=2048)
    job = stack.finished(order["job"]["id"])
    assert (job["status"], job["tries"]) == ("success", 1)
    pod = stack.get("/internal/cloudpods/9101")
    assert (pod["status"], pod["powerState"]) == ("active", "running")
    conf = (stack.lab / "etc/pve/lxc/9101.conf").read_text()
    assert f"ip={pod['ip']}/24" in conf
    assert "memory: 2048" in conf

    scaled = stack.done("/internal/cloudpods/9101/scale", tenantId=TENANT, newCores=4, newMemoryMb=4096)
    assert scaled["status"] == "success"
    assert "memory: 4096" in (stack.lab / "etc/pve/lxc/9101.conf").read_text()
    assert stack.get("/internal/cloudpods/9101")["cores"] == 4

    backup = stack.done("/api/cloudpods/9101/actions", action="backup", mode="snapshot")
    assert backup["status"] == "success"
    assert "vzdump-lxc-9101-" in backup["result"]["archive"]["volid"]
    assert stack.get("/internal/cloudpods/9101")["lastBackupAt"]

    health = stack.get("/internal/cloudpods/9101/health", refresh=1)
    assert stack.finished(health["job"]["id"])["status"] == "success"
    assert stack.get("/internal/cloudpods/9101/health")["lastHealthStatus"] == "ok"

    destroyed = stack.done("/internal/cloudpods/9101/destroy", tenantId=TENANT, reason="user request")
    assert destroyed["status"] == "success"
    assert stack.get("/internal/cloudpods/9101")["status"] == "deleted"
    assert not (stack.lab / "etc/pve/lxc/9101.conf").exists()
    assert pod["ip"] not in (stack.lab / "etc/migra/ipam-cloudpods.txt").read_text()


def test_power_and_snapshots(stack):
    stack.finished(stack.create(vmid=9105)["job"]["id"])
    assert stack.done("/internal/cloudpods/9105/snapshots", tenantId=TENANT, name="before")["status"] == "success"
    assert "[before]" in (stack.lab / "etc/pve/lxc/9105.conf").read_text()
    for action, power in (("shutdown", "stopped"), ("start", "running"), ("reboot", "running"), ("stop", "stopped")):
        assert stack.done("/api/cloudpods/9105/actions", action=action)["status"] == "success"
        assert stack.get("/internal/cloudpods/9105")["powerState"] == power
        assert stack.runs(9105) is (power == "running")
    back = stack.done("/internal/cloudpods/9105/snapshots/before/rollback", tenantId=TENANT)
    assert back["status"] == "success", back["error"]
    dropped = stack.delete("/internal/cloudpods/9105/snapshots/before", tenantId=TENANT)
    assert stack.finished(dropped["job"]["id"])["status"] == "success"
    assert stack.get("/internal/cloudpods/9105/snapshots")["items"] == []
    assert "[before]" not in (stack.lab / "etc/pve/lxc/9105.conf").read_text()


def test_a_backup_is_restored_beside_its_pod_over_it_and_in_a_drill(stack):
    stack.finished(stack.create(vmid=9106, hostname="shop")["job"]["id"])
    stack.done("/internal/cloudpods/9106/backup", tenantId=TENANT)
    (kept,) = stack.get("/internal/cloudpods/9106/backups")["items"]
    assert kept["sizeBytes"] > 0
    address = _net0(stack, 9106)

    copy = stack.done("/internal/cloudpods/9106/restore", tenantId=TENANT, asNew=True, vmid=9107, hostname="shop-before")
    assert copy["status"] == "success", copy["error"]
    source, made = (stack.get(f"/internal/cloudpods/{vmid}") for vmid in (9106, 9107))
    assert (made["status"], made["hostname"], made["powerState"]) == ("active", "shop-before", "running")
    assert made["ip"] != source["ip"]
    assert stack.runs(9107)

    stack.done("/internal/cloudpods/9106/scale", tenantId=TENANT, newCores=4, newMemoryMb=4096)
    assert stack.post("/internal/cloudpods/9106/restore", tenantId=TENANT).json()["code"] == "restore_needs_force"
    back = stack.done("/api/cloudpods/9106/actions", action="restore", force=True)
    assert back["status"] == "success", back["error"]
    assert back["result"]["cloudpod"]["restored"] == {"job": back["id"], "archive": kept["volid"]}
    pod = stack.get("/internal/cloudpods/9106")
    assert (pod["cores"], pod["memoryMb"], pod["ip"], pod["powerState"]) == (4, 4096, source["ip"], "running")
    assert _net0(stack, 9106) == address

    drill = stack.done("/internal/cloudpods/9106/restore-drill", tenantId=TENANT)
    assert drill["status"] == "success", drill["error"]
    assert stack.get("/internal/cloudpods/9106/backups")["items"][0]["drillPassed"] is True
    last = stack.get(f"/internal/jobs/{drill['id']}/events")["items"][-1]
    assert (last["type"], last["data"]["action"]) == ("BACKUP", "RESTORE_DRILL_PASSED")
    assert not (stack.lab / "etc/pve/lxc/900009106.conf").exists()


def _net0(stack, vmid):
    conf = (stack.lab / f"etc/pve/lxc/{vmid}.conf").read_text()
    return next(line for line in conf.splitlines() if line.startswith("net0"))


def test_progress_events_tell_the_run(stack):
    order = stack.create(hostname="progress")
    stack.finished(order["job"]["id"])
    events = stack.get(f"/internal/jobs/{order['job']['id']}/events")["items"]
    actions = [event["data"]["action"] for event in events]
    assert actions[0] == "queued"
    assert actions[-1] == "CREATED"
    assert "progress" in actions


def test_a_failed_create_leaves_nothing_and_frees_the_vmid(stack):
    stack.switch("fail", "pct start", "--vmid", 9102, "--message", "startup for container '9102' failed", "--times", 1)
    job = stack.finished(stack.create(vmid=9102)["job"]["id"])
    assert job["status"] == "failed"
    assert "startup for container '9102' failed" in job["error"]
    assert stack.get("/internal/cloudpods/9102")["status"] == "failed"
    assert not (stack.lab / "etc/pve/lxc/9102.conf").exists()
    assert " 9102 " not in (stack.lab / "etc/migra/ipam-cloudpods.txt").read_text()
    assert stack.finished(stack.create(vmid=9102)["job"]["id"])["status"] == "success"


def test_destroy_ordered_during_create_wins_in_the_end(stack):
    stack.switch("delay", "pct create", 0.5)
    stack.create(vmid=9103)
    assert stack.done("/internal/cloudpods/9103/destroy", tenantId=TENANT)["status"] == "success"
    assert stack.get("/internal/cloudpods/9103")["status"] == "deleted"
    assert not (stack.lab / "etc/pve/lxc/9103.conf").exists()


def test_another_tenants_pod_is_not_there(stack):
    stack.finished(stack.create(vmid=9104)["job"]["id"])
    answer = stack.post("/internal/cloudpods/9104/destroy", tenantId=OTHER_TENANT)
    assert (answer.status_code, answer.json()["code"]) == (404, "cloudpod_not_found")
    assert (stack.lab / "etc/pve/lxc/9104.conf").exists()


def test_fifty_at_once_get_fifty_vmids_and_addresses(stack):
    with ThreadPoolExecutor(16) as pool:
        orders = list(pool.map(lambda number: stack.create(hostname=f"many-{number}"), range(50)))
    jobs = [stack.finished(order["job"]["id"]) for order in orders]
    assert Counter(job["status"] for job in jobs) == {"success": 50}
    pods = [stack.get(f"/internal/cloudpods/{order['cloudPod']['id']}") for order in orders]
    assert len({pod["vmid"] for pod in pods}) == 50
    assert len({pod["ip"] for pod in pods}) == 50


@pytest.mark.parametrize("victim", ["worker", "api", "redis-server", "ansible-playbook", "scheduler", "cloudpod-create.sh"])
def test_twenty_creates_survive_a_kill(stack, victim):
    stack.switch("delay", "pct create", 0.2)
    orders = [stack.create(hostname=f"kill-{number}") for number in range(20)]
    vmids = {order["cloudPod"]["vmid"] for order in orders}
    for round_ in range(3):
        wait_until(lambda: stack.processes(of="cloudpod-create.sh"), "a create is under way")
        stack.kill(victim)
        time.sleep(0.5 * round_)  # another moment of a run each round
    wait_until(stack.healthy, "the stack is well again")
    jobs = [stack.finished(order["job"]["id"]) for order in orders]
    assert Counter(job["status"] for job in jobs) == {"success": 20}, [job["error"] for job in jobs if job["error"]]
    for order in orders:
        assert stack.get(f"/internal/cloudpods/{order['cloudPod']['id']}")["status"] == "active"
    created = Counter(line["vmid"] for line in stack.node_log() if line["outcome"] == "created" and line["vmid"] in vmids)
    assert created == dict.fromkeys(vmids, 1)
    wait_until(lambda: not stack.processes(of="cloudpod-"), "no script is left running")
    wait_until(lambda: not stack.playbooks(), "no playbook is left running")
