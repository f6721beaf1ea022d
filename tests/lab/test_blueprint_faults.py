"""What goes wrong between the control plane and a stack's pods or its name server: what the step says, and how soon.

The name server's pod is a stack of its own here: its SSH, its host key and its BIND are what fails.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import dns.reversename
import pytest

from tests.lab.conftest import NAME_SERVER
from tests.lab.real_node import NODE, RealNode
from tests.lab.site import ZONE, NameServer

WAIT_S = 5
NAMES = {"name": "create-dns-records", "role": "create_dns_records", "targets": []}


@contextmanager
def stopped(lab: RealNode, *units: str) -> Iterator[None]:
    """Have these units of the pod stopped meanwhile."""
    lab.ok("pct", "exec", NAME_SERVER, "--", "systemctl", "stop", *units)
    try:
        yield
    finally:
        lab.ok("pct", "exec", NAME_SERVER, "--", "systemctl", "start", *units)


def configure(
    lab: RealNode,
    names: NameServer,
    *,
    ok: bool = False,
    host_key: str = "",
    dns: dict | None = None,
    pod: dict | None = None,
    **more: object,
) -> str:
    """Play the step over the pod; return what was printed."""
    (found,) = lab.playbook("cloudpod_info", vmids=[NAME_SERVER])["result"][NODE]["pods"]
    stack = {
        "deployment": "deployment-1",
        "blueprint": "names",
        "tenant_id": "TENANT-HOUSE",
        "tenant_slug": "house",
        "parameters": {},
        "settings": {"dns": {**names.told(), **(dns or {})}, "pod_key_file": str(lab.dir / "ssh/id_ed25519")},
        "pods": [
            {
                "role": "ns",
                "index": 0,
                "hostname": "of-the-house",
                "vmid": NAME_SERVER,
                "ip": names.address,
                "node": NODE,
                "host_key": host_key or found["host_key"],
                "cores": 1,
                "memory_mb": 256,
                **(pod or {}),
            }
        ],
        "steps": [NAMES],
    }
    return str(lab.playbook("blueprint_configure", ok=ok, stack=stack, blueprint_wait_s=WAIT_S, **more)["output"])


def test_a_pod_whose_ssh_never_comes_up(lab: RealNode, names: NameServer) -> None:
    with stopped(lab, "ssh.service"):
        said = configure(lab, names)
    assert f"of-the-house ({names.address}) did not let us in by SSH within {WAIT_S} s" in said
    assert "Connection refused" in said
    assert names.ask(f"of-the-house.{ZONE}") == []


def test_a_pod_that_is_another_than_the_node_says(lab: RealNode, names: NameServer) -> None:
    other = " ".join((lab.dir / "ssh/id_ed25519.pub").read_text().split()[:2])
    said = configure(lab, names, host_key=other)
    assert "did not let us in by SSH" in said
    assert "Host key verification failed" in said


def test_a_name_server_that_is_down(lab: RealNode, names: NameServer) -> None:
    with stopped(lab, "named"):
        said = configure(lab, names)
    assert "step create-dns-records on localhost: See that the server has the zone" in said
    assert names.key not in said
    configure(lab, names, ok=True)
    assert names.ask(f"of-the-house.{ZONE}") == [names.address]
    with stopped(lab, "named"):
        assert "step create-dns-records on localhost" in configure(lab, names, undo=True)
    # Its pod is gone meanwhile, and nobody knows its address any more but the name server.
    configure(lab, names, ok=True, undo=True, pod={"there": False, "ip": None})
    assert names.ask(f"of-the-house.{ZONE}") == names.ask(f"_cloudpods.of-the-house.{ZONE}", "TXT") == []
    assert names.ask(dns.reversename.from_address(names.address), "PTR") == []


@pytest.mark.parametrize("kind", ["CNAME", "TXT"])
def test_what_answers_no_question_for_an_address_is_somebody_elses_all_the_same(
    lab: RealNode, names: NameServer, kind: str
) -> None:
    name, value = f"of-the-house.{ZONE}", f"nowhere.{ZONE}."
    taken = name if kind == "CNAME" else f"_cloudpods.{name}"
    names.write(taken, kind, value)
    try:
        assert f"not this stack's: {name}" in configure(lab, names)
        configure(lab, names, ok=True, undo=True)
        assert [each.strip('"') for each in names.ask(taken, kind)] == [value]
        assert names.ask(name) == []
    finally:
        names.write(taken, kind)


@pytest.mark.parametrize("undo", [False, True])
def test_a_name_server_that_does_not_take_the_key(lab: RealNode, names: NameServer, undo: bool) -> None:
    if undo:
        configure(lab, names, ok=True)
    said = configure(lab, names, undo=undo, dns={"key_secret": "c29tZWJvZHktZWxzZXMta2V5LXNvbWVib2R5LWVsc2U="})
    assert "step create-dns-records on localhost" in said
    assert "c29tZWJvZHktZWxzZXMta2V5LXNvbWVib2R5LWVsc2U=" not in said
    configure(lab, names, ok=True, undo=True)
    assert names.ask(f"of-the-house.{ZONE}") == []
