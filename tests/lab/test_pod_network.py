"""A pod sends only as itself, and a link that is down is down."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.real_node import RealNode, run

TENANT = "TENANT-LAB"
MAC = "bc:24:11:66:66:66"


@pytest.fixture
def pod(lab: RealNode, vmid: int) -> Iterator[tuple[int, str]]:
    """Return vmid and address of a running pod."""
    wanted = {"hostname": "lab-pod", "tenant_id": TENANT, "cores": 1, "memory_mb": 256, "auto_ip": True}
    result = lab.playbook("cloudpod_create", vmid=vmid, **wanted)["result"]
    yield vmid, result["ip"]
    lab.ok("pct", "destroy", vmid, "--force", 1)
    assert str(vmid) not in run("nft", "list", "tables").stdout


def reaches(lab: RealNode, vmid: int, *options: str) -> bool:
    """Return whether the gateway answers a ping from inside the pod."""
    done = lab.pct("exec", vmid, "--", "ping", "-c1", "-W1", *options, lab.host()["gateway"])
    assert "Cannot assign" not in done.stderr, done.stderr
    return done.returncode == 0


def neighbour(lab: RealNode) -> str:
    return f"{lab.host()['gateway'].rpartition('.')[0]}.240"


@pytest.mark.lab_smoke
def test_another_address_reaches_nothing(lab: RealNode, pod: tuple[int, str]) -> None:
    vmid, own = pod
    assert reaches(lab, vmid)
    lab.ok("pct", "exec", vmid, "--", "ip", "address", "add", f"{neighbour(lab)}/24", "dev", "eth0")
    # The node must not even learn where that address is supposed to be.
    run("ip", "neigh", "flush", "to", neighbour(lab))
    assert not reaches(lab, vmid, "-I", neighbour(lab))
    assert "lladdr" not in run("ip", "neigh", "show", "to", neighbour(lab)).stdout
    assert reaches(lab, vmid, "-I", own)


def test_without_the_filter_it_would_reach(lab: RealNode, pod: tuple[int, str]) -> None:
    vmid, _ = pod
    (lab.dir / f"etc/pve/firewall/{vmid}.fw").write_text("[OPTIONS]\nenable: 0\n")
    lab.ok("pct", "stop", vmid)
    lab.ok("pct", "start", vmid)
    lab.ok("pct", "exec", vmid, "--", "ip", "address", "add", f"{neighbour(lab)}/24", "dev", "eth0")
    assert reaches(lab, vmid, "-I", neighbour(lab))


def test_another_mac_reaches_nothing(lab: RealNode, pod: tuple[int, str]) -> None:
    vmid, _ = pod
    lab.ok("pct", "exec", vmid, "--", "ip", "link", "set", "eth0", "address", MAC)
    assert not reaches(lab, vmid)


@pytest.mark.lab_smoke
def test_a_link_is_down_at_once_and_after_a_start(lab: RealNode, pod: tuple[int, str]) -> None:
    vmid, address = pod
    net0 = next(line for line in lab.ok("pct", "config", vmid).splitlines() if line.startswith("net0: "))
    net0 = net0.removeprefix("net0: ")
    lab.ok("pct", "set", vmid, "--net0", f"{net0},link_down=1")
    assert not reaches(lab, vmid)
    assert run("ping", "-c1", "-W1", address).returncode != 0
    lab.ok("pct", "stop", vmid)
    lab.ok("pct", "start", vmid)
    assert not reaches(lab, vmid)
    assert lab.ok("pct", "exec", vmid, "--", "cat", "/sys/class/net/eth0/carrier") == "0\n"
    lab.ok("pct", "set", vmid, "--net0", net0)
    assert reaches(lab, vmid)
