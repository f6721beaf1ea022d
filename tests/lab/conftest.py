"""Real containers behind a real sshd and sudo: `make test-lab`. They change this machine, so they want to be asked for."""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.real_node import INVENTORY, REPOSITORY, RealNode, run
from tests.lab.site import ZONE, NameServer

FOLDER = Path(__file__).parent
NAME_SERVER = 99690


def _why_not() -> str:
    """Return why the lab cannot be laid here; empty when it can."""
    if os.environ.get("CLOUDPODS_TEST_LAB") != "1":
        return "changes this machine (bridge, user, containers): set CLOUDPODS_TEST_LAB=1, as make test-lab does"
    if os.geteuid() != 0 or "\nID=debian\n" not in Path("/etc/os-release").read_text():
        return "real containers need root on Debian"
    if "PYTEST_XDIST_WORKER" in os.environ:
        return "there is one node, and it is this machine: run them with -n 0"
    return ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip this folder's tests, with the reason, where the lab cannot be."""
    if reason := _why_not():
        for item in items:
            if FOLDER in item.path.parents:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def lab() -> RealNode:
    """Return the node, laid as this checkout lays it: one that was left may be of another."""
    node = RealNode()
    node.playbook("lab")
    return node


@pytest.fixture
def vmid(lab: RealNode, request: pytest.FixtureRequest) -> Iterator[int]:
    """Return a vmid nobody has; what stands there after the test is removed."""
    taken = {int(path.stem) for path in (lab.dir / "etc/pve/lxc").glob("*.conf")}
    free = next(number for number in range(99101, 99999) if number not in taken)
    yield free
    if (lab.dir / f"etc/pve/lxc/{free}.conf").exists():
        lab.pct("unlock", free)
        lab.pct("destroy", free, "--force", 1)
        run(lab.dir / "sbin/cloudpod-destroy.sh", free)


@pytest.fixture(scope="module")
def names(lab: RealNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NameServer]:
    """Make a pod with a real BIND, for as long as the file's tests take."""
    key = base64.b64encode(secrets.token_bytes(32)).decode()
    reverse = ".".join(reversed(lab.host()["gateway"].split(".")[:3])) + ".in-addr.arpa"
    said = tmp_path_factory.mktemp("names") / "said.json"
    said.touch(0o600)
    told = {"vmid": NAME_SERVER, "zone": ZONE, "reverse_zone": reverse, "key": key}
    said.write_text(json.dumps({f"name_server_{name}": value for name, value in told.items()}))
    try:
        done = run("ansible-playbook", "-i", INVENTORY, REPOSITORY / "tests/lab/name_server_pod.yml", "-e", f"@{said}")
        assert done.returncode == 0, done.stdout + done.stderr
        address = re.search(rf"^([0-9.]+) {NAME_SERVER} ", lab.ipam(), re.MULTILINE)
        assert address is not None
        yield NameServer(address[1], reverse, key)
    finally:
        if (lab.dir / f"etc/pve/lxc/{NAME_SERVER}.conf").exists():
            run(lab.dir / "sbin/cloudpod-destroy.sh", NAME_SERVER)
