"""The whole way: orders by HTTP, workers, SSH and sudo, real containers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from tests.lab.control_plane import control_plane
from tests.lab.real_node import RealNode, run
from tests.lab.test_pod import guest
from tests.stack import OTHER_TENANT, TENANT, Stack

pytestmark = pytest.mark.timeout(600)
AT_ONCE = 20


@pytest.fixture(scope="module")
def stack(lab: RealNode) -> Iterator[Stack]:
    """Return a running stack over the node with real containers."""
    with control_plane(lab) as running:
        yield running


def done(stack: Stack, path: str, **body: object) -> dict:
    """Order a change and wait for it, which must succeed; return the job."""
    job = stack.done(path, **body)
    assert job["status"] == "success", job["error"]
    return job


def test_a_pod_from_its_order_to_its_restore_and_end(lab: RealNode, stack: Stack) -> None:
    order = stack.create(hostname="whole-way", cores=1, memoryMb=256, swapMb=64)
    assert stack.finished(order["job"]["id"])["status"] == "success"
    pod = stack.get(f"/internal/cloudpods/{order['cloudPod']['id']}")
    vmid, here = pod["vmid"], f"/internal/cloudpods/{pod['vmid']}"
    assert guest(lab, pod["ip"], "hostname") == "whole-way\n"
    assert (lab.memory_mb(vmid), lab.cpus(vmid)) == (256, 1)

    done(stack, f"{here}/scale", tenantId=TENANT, newCores=2, newMemoryMb=512)
    assert lab.memory_mb(vmid) == 512

    guest(lab, pod["ip"], "sh", "-c", "'echo kept >/root/marker'")
    done(stack, f"{here}/snapshots", tenantId=TENANT, name="before")
    guest(lab, pod["ip"], "rm", "/root/marker", "/usr/bin/free")
    done(stack, f"{here}/snapshots/before/rollback", tenantId=TENANT)
    assert guest(lab, pod["ip"], "sh", "-c", "'cat /root/marker; ls /usr/bin/free'") == "kept\n/usr/bin/free\n"

    done(stack, f"{here}/backup", tenantId=TENANT, mode="snapshot")
    (backup,) = stack.get(f"{here}/backups")["items"]
    done(stack, f"{here}/restore-drill", tenantId=TENANT)
    assert stack.get(f"{here}/backups")["items"][0]["drillPassed"] is True
    assert lab.traces(900000000 + vmid) == []

    done(stack, f"{here}/destroy", tenantId=TENANT)
    assert lab.traces(vmid) == []
    there = f"/internal/cloudpods/{pod['id']}"
    refused = stack.post(f"{there}/restore", tenantId=OTHER_TENANT, asNew=True, hostname="thief")
    assert (refused.status_code, refused.json()["code"]) == (404, "cloudpod_not_found")
    answer = stack.post(f"{there}/restore", tenantId=TENANT, asNew=True, hostname="came-back", backupId=backup["id"])
    assert answer.status_code == 202, answer.text
    assert stack.finished(answer.json()["job"]["id"])["status"] == "success"
    new = stack.get(f"/internal/cloudpods/{answer.json()['cloudPod']['id']}")
    assert new["vmid"] != vmid
    assert guest(lab, new["ip"], "cat", "/root/marker", "/etc/hostname") == "kept\ncame-back\n"
    done(stack, f"/internal/cloudpods/{new['vmid']}/destroy", tenantId=TENANT)
    assert lab.traces(new["vmid"]) == []
    lab.ok("pvesm", "free", backup["volid"])


def test_twenty_by_http_and_twenty_by_playbook_at_once(lab: RealNode, stack: Stack, tmp_path: Path) -> None:
    by_hand = range(99701, 99701 + AT_ONCE)
    inventory = tmp_path / "hosts.yml"
    connection = {**lab.hostvars, "lab_node_dir": str(lab.dir)}
    hosts = {f"pod{vmid}": {**connection, "vmid": vmid} for vmid in by_hand}
    inventory.write_text(yaml.safe_dump({"all": {"hosts": hosts}}))
    play = {"hosts": "all", "gather_facts": False, "tasks": [{"name": "Create", "migra.cloudpods.cloudpod_create": _order()}]}
    (tmp_path / "create.yml").write_text(yaml.safe_dump([play]))
    with ThreadPoolExecutor(AT_ONCE + 1) as pool:
        typed = pool.submit(run, "ansible-playbook", "-i", inventory, "--forks", AT_ONCE, tmp_path / "create.yml")
        orders = list(pool.map(lambda number: stack.create(hostname=f"http-{number}", memoryMb=256), range(AT_ONCE)))
    assert typed.result().returncode == 0, typed.result().stdout
    jobs = [stack.finished(order["job"]["id"]) for order in orders]
    assert Counter(job["status"] for job in jobs) == {"success": AT_ONCE}, [job["error"] for job in jobs]

    by_http = [order["cloudPod"]["vmid"] for order in orders]
    lines = [line.split() for line in lab.ipam().splitlines() if line and not line.startswith("#")]
    made = [line for line in lines if int(line[1]) in {*by_hand, *by_http}]
    assert {line[4] for line in made} == {"active"}
    assert len({line[0] for line in made}) == len({line[1] for line in made}) == 2 * AT_ONCE
    with ThreadPoolExecutor(8) as pool:
        gone = pool.map(lambda vmid: run(lab.dir / "sbin/cloudpod-destroy.sh", vmid).returncode, by_hand)
        assert set(gone) == {0}
        ended = pool.map(lambda vmid: stack.done(f"/internal/cloudpods/{vmid}/destroy", tenantId=TENANT)["status"], by_http)
        assert set(ended) == {"success"}
    assert [trace for vmid in (*by_hand, *by_http) for trace in lab.traces(vmid)] == []


def _order() -> dict:
    """Return the parameters of a create whose vmid the inventory gives."""
    size = {"cores": 1, "memory_mb": 256, "swap_mb": 0, "auto_ip": True}
    where = {"script_dir": "{{ cloudpod_script_dir }}", "sudo": "{{ cloudpod_sudo }}"}
    return {"vmid": "{{ vmid }}", "hostname": "pod-{{ vmid }}", "tenant_id": TENANT, **size, **where}
