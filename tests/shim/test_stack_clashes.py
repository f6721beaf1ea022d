"""Containers made by hand where a new pod was to go, end to end: over a whole running stack whose two nodes share a bridge."""

from __future__ import annotations

import ipaddress
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab_node import TEMPLATE
from tests.stack import OTHER_TENANT, TENANT, Stack


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """Return a running stack with two tenants and two nodes, one of which is laid."""
    home = Path(tempfile.mkdtemp(prefix="cloudpods-clashes-"))
    home.chmod(0o711)
    running = Stack(home)
    try:
        running.lay_lab()
        running.start()
        running.seed()
        # Of the same addresses, so that the shim itself picks those of new pods.
        running.cloudpods("seed", "--tenant", OTHER_TENANT, "--owner", "b@example.com", "--node", "lab2")
        yield running
    finally:
        running.stop()
        shutil.rmtree(home, ignore_errors=True)


def by_hand(stack, vmid, ip="10.1.99.9"):
    """Make a container that is none of ours."""
    net0 = f"name=eth0,bridge=vmbr0,ip={ip}/24"
    command = [stack.lab / "bin/pct", "create", str(vmid), TEMPLATE, "--rootfs", "clients-main:8", "--net0", net0]
    subprocess.run(command, check=True, capture_output=True)
    return (stack.lab / f"etc/pve/lxc/{vmid}.conf").read_text()


def made(stack, **order):
    """Order a pod on the laid node; return its finished job and the pod."""
    answer = stack.create(node="lab1", **order)
    job = stack.finished(answer["job"]["id"])
    return job, stack.get(f"/internal/cloudpods/{answer['cloudPod']['id']}")


def changes(stack, job):
    events = stack.get(f"/internal/jobs/{job['id']}/events")["items"]
    found = [event["data"] for event in events if event["data"]["action"].endswith("_CHANGED")]
    return [(data["action"], data["before"], data["after"]) for data in found]


def assert_stands_once(stack, pod):
    """Fail unless the pod stands where its row says, and nowhere else."""
    confs = [path.stem for path in (stack.lab / "etc/pve/lxc").glob("*.conf") if f"pod={pod['id']}" in path.read_text()]
    assert confs == [str(pod["vmid"])]
    words = [line.split() for line in (stack.lab / "etc/migra/ipam-cloudpods.txt").read_text().splitlines()]
    assert [line[0] for line in words if line[2:3] == [pod["hostname"]]] == [pod["ip"]]
    assert Counter(line["vmid"] for line in stack.node_log() if line["outcome"] in ("created", "restored"))[pod["vmid"]] == 1


def test_a_vmid_that_was_picked_goes_on_to_the_next_that_is_free(stack):
    _, first = made(stack, hostname="first")
    theirs = {vmid: by_hand(stack, vmid) for vmid in (first["vmid"] + 1, first["vmid"] + 2)}
    job, pod = made(stack, hostname="second")
    assert (job["status"], job["tries"], job["error"]) == ("success", 1, None)
    assert (pod["status"], pod["vmid"], job["payload"]["vmid"]) == ("active", first["vmid"] + 3, first["vmid"] + 3)
    here = first["vmid"]
    assert changes(stack, job) == [("VMID_CHANGED", here + 1, here + 2), ("VMID_CHANGED", here + 2, here + 3)]
    assert_stands_once(stack, pod)
    assert {vmid: (stack.lab / f"etc/pve/lxc/{vmid}.conf").read_text() for vmid in theirs} == theirs
    quota = stack.get(f"/internal/tenants/{TENANT}/quota")
    assert quota["usedCloudPods"] == len(stack.get("/internal/cloudpods", tenantId=TENANT)["items"])


def test_a_vmid_that_was_asked_for_fails_and_says_why(stack):
    before = by_hand(stack, 9300)
    job, pod = made(stack, hostname="asked", vmid=9300)
    assert (job["status"], job["tries"], job["failure"]["taken"], pod["status"]) == ("failed", 1, "vmid", "failed")
    assert "9300" in job["error"]
    assert changes(stack, job) == []
    assert (stack.lab / "etc/pve/lxc/9300.conf").read_text() == before
    assert "asked" not in (stack.lab / "etc/migra/ipam-cloudpods.txt").read_text()


def test_an_address_that_was_picked_goes_on_to_the_next_that_is_free(stack):
    _, first = made(stack, hostname="near")
    taken = str(ipaddress.IPv4Address(first["ip"]) + 1)
    by_hand(stack, 9301, taken)
    job, pod = made(stack, hostname="next")
    free = str(ipaddress.IPv4Address(taken) + 1)
    assert (job["status"], job["tries"], pod["status"], pod["ip"]) == ("success", 1, "active", free)
    assert changes(stack, job) == [("IP_CHANGED", taken, free)]
    assert_stands_once(stack, pod)

    asked, failed = made(stack, hostname="wanted", ip=taken)
    assert (asked["status"], asked["failure"]["taken"], failed["status"]) == ("failed", "ip", "failed")


def test_a_pod_restored_as_a_new_one_goes_on_too(stack):
    _, source = made(stack, hostname="source")
    at = f"/internal/cloudpods/{source['id']}"
    assert stack.done(f"{at}/backup", tenantId=TENANT)["status"] == "success"
    by_hand(stack, source["vmid"] + 1)
    answer = stack.post(f"{at}/restore", tenantId=TENANT, asNew=True, hostname="copy").json()
    job = stack.finished(answer["job"]["id"])
    pod = stack.get(f"/internal/cloudpods/{answer['cloudPod']['id']}")
    assert (job["status"], job["tries"]) == ("success", 1), job["error"]
    assert (pod["vmid"], changes(stack, job)) == (
        source["vmid"] + 2,
        [("VMID_CHANGED", source["vmid"] + 1, source["vmid"] + 2)],
    )
    assert_stands_once(stack, pod)
