"""A whole stack whose nodes are reached by a real SSH: a pod's way, and the way cut in the middle of it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.sshd import Nodes, nodes_over_ssh, skip_without_sshd, why_not
from tests.stack import OTHER_TENANT, TENANT, Stack, wait_until


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """Return a folder for the stack."""
    skip_without_sshd()
    folder = Path(tempfile.mkdtemp(prefix="cloudpods-ssh-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def nodes(home) -> Iterator[Nodes]:
    """Return the node lab1 behind an sshd."""
    with nodes_over_ssh(home, "lab1") as running:
        yield running


@pytest.fixture(scope="module")
def stack(home, nodes) -> Iterator[Stack]:
    """Return a running stack that reaches its node by SSH."""
    running = Stack(home, inventory=str(nodes.inventory))
    try:
        running.lay_lab()
        running.start()
        running.seed()
        yield running
    finally:
        running.stop()


def _command_line(process):
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def test_a_pod_comes_and_goes_by_ssh(stack, nodes):
    order = stack.create(hostname="by-ssh")
    job = stack.finished(order["job"]["id"])
    assert job["status"] == "success", job
    vmid = order["cloudPod"]["vmid"]
    assert stack.runs(vmid)
    assert (nodes.sshds["lab1"].home / "log").read_text().count("Accepted publickey") >= 1
    assert stack.done(f"/internal/cloudpods/{vmid}/destroy", tenantId=TENANT)["status"] == "success"
    assert not stack.runs(vmid)


def test_a_create_whose_ssh_is_cut_is_found_done_by_the_next_look(stack, nodes):
    stack.switch("delay", "pct create", 15)
    try:
        order = stack.create(hostname="cut-off", tenantId=OTHER_TENANT)
        vmid = order["cloudPod"]["vmid"]
        wait_until(lambda: any(f"--vmid {vmid}" in _command_line(process) for process in nodes.running()), "the script runs")
        nodes.cut("lab1")
        assert nodes.running(), "a cut lets what runs on the node go on"
        wait_until(lambda: not nodes.running(), "the script ends")
    finally:
        stack.switch("reset")
        nodes.mend("lab1")
    job = stack.finished(order["job"]["id"])
    assert job["status"] == "success", job
    assert stack.runs(vmid)
    assert [line["outcome"] for line in stack.node_log() if line["vmid"] == vmid] == ["created"]


def test_who_has_no_ssh_is_told_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "install openssh-server" in str(why_not())
