"""Sweeps, adoption and the inventory of pods end to end, over a whole running stack that sweeps every second."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stack import REPOSITORY, TENANT, Stack, wait_until


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """Return a running stack with two tenants."""
    home = Path(tempfile.mkdtemp(prefix="cloudpods-sweep-"))
    home.chmod(0o711)
    running = Stack(home)
    running.environment["CLOUDPODS_HEALTH_SWEEP_S"] = "1"
    try:
        running.lay_lab()
        running.start()
        running.seed()
        yield running
    finally:
        running.stop()
        shutil.rmtree(home, ignore_errors=True)


def on_node(stack, *words):
    subprocess.run([stack.lab / "bin" / words[0], *words[1:]], check=True, capture_output=True)


def health(stack, vmid):
    pod = stack.get(f"/internal/cloudpods/{vmid}")
    return pod["lastHealthStatus"], pod["powerState"]


def test_a_sweep_sees_what_nobody_ordered_and_lets_be_what_was(stack):
    stack.finished(stack.create(vmid=9101)["job"]["id"])
    wait_until(lambda: health(stack, 9101) == ("ok", "running"), "the first sweep")
    on_node(stack, "pct", "stop", "9101")
    wait_until(lambda: health(stack, 9101) == ("critical", "stopped"), "a sweep sees the pod stopped")
    assert stack.done("/api/cloudpods/9101/actions", action="start")["status"] == "success"
    wait_until(lambda: health(stack, 9101) == ("ok", "running"), "a sweep sees the pod run again")
    assert stack.done("/api/cloudpods/9101/actions", action="stop")["status"] == "success"
    wait_until(lambda: health(stack, 9101) == ("ok", "stopped"), "a sweep finds the pod stopped as ordered")


def test_a_container_made_by_hand_is_adopted(stack):
    template = "local:vztmpl/debian-12-standard_12.7-1_amd64.tar.zst"
    net = "name=eth0,bridge=vmbr0,ip=10.1.10.77/24,gw=10.1.10.1"
    size = ("--cores", "2", "--memory", "1024", "--swap", "256", "--rootfs", "clients-main:4")
    on_node(
        stack,
        "pct",
        "create",
        "5001",
        template,
        "--hostname",
        "legacy",
        "--pool",
        "ClientPods",
        "--unprivileged",
        "1",
        *size,
        "--net0",
        net,
    )
    on_node(stack, "pct", "start", "5001")
    (seen,) = json.loads(stack.cloudpods("adopt", "--node", "lab1", "--json"))
    assert (seen["vmid"], seen["hostname"], seen["owner"]) == (5001, "legacy", None)
    assert "is pod " in stack.cloudpods("adopt", "--node", "lab1", "--vmid", "5001", "--tenant", TENANT)
    pod = stack.get("/internal/cloudpods/5001")
    expected = {
        "status": "active",
        "powerState": "running",
        "ip": "10.1.10.77",
        "memoryMb": 1024,
        "diskGb": 4,
        "tenantId": TENANT,
    }
    assert pod.items() >= expected.items()
    assert "10.1.10.77 5001 legacy TENANT-123 active" in (stack.lab / "etc/migra/ipam-cloudpods.txt").read_text()
    assert json.loads(stack.cloudpods("adopt", "--node", "lab1", "--json")) == []
    assert stack.done("/internal/cloudpods/5001/destroy", tenantId=TENANT)["status"] == "success"


def test_the_inventory_lists_what_the_api_knows(stack, tmp_path):
    stack.finished(stack.create(vmid=9109, hostname="listed")["job"]["id"])
    (tmp_path / "token").write_text(str(stack.session.headers["Authorization"]).split()[1])
    source = {"plugin": "migra.cloudpods.cloudpods", "api": {"url": stack.url, "token_file": str(tmp_path / "token")}}
    (tmp_path / "a.cloudpods.yml").write_text(json.dumps(source))
    command = [
        Path(sys.executable).with_name("ansible-inventory"),
        "-i",
        tmp_path / "a.cloudpods.yml",
        "--graph",
        "tenant_TENANT_123",
    ]
    environ = {**os.environ, "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"), "ANSIBLE_LOCAL_TEMP": str(tmp_path / "tmp")}
    drawn = subprocess.run(command, cwd=REPOSITORY, env=environ, capture_output=True, text=True, check=True).stdout
    assert "|--listed" in drawn
