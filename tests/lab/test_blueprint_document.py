"""docs/blueprints.md followed as it is written: a site's own role, in an empty folder, on a real pod."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.real_node import REPOSITORY, RealNode, run

VMID = 99720
PASSWORD = "only-for-this-store"


@pytest.fixture
def site(lab: RealNode, tmp_path: Path) -> Iterator[dict]:
    """Write the document's files into an empty folder; return the words of the command it names."""
    text = (REPOSITORY / "docs/blueprints.md").read_text()
    for name, content in re.findall(r"^```(?:yaml|json)\n# (\S+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    house = {"cloudpod_roles_dir": str(tmp_path / "roles"), "first_vmid": VMID}
    yield {"blueprint": str(tmp_path / "store.json"), "tenant_slug": "acme", "tenant_id": "TENANT-ACME", **house}
    if (lab.dir / f"etc/pve/lxc/{VMID}.conf").exists():
        run(lab.dir / "sbin/cloudpod-destroy.sh", VMID)


def test_a_role_of_ones_own(lab: RealNode, site: dict) -> None:
    forgotten = lab.playbook("blueprint_deploy", ok=False, **site)["output"]
    assert "it needs secrets.store_password, which nobody gave" in forgotten

    made = lab.playbook("blueprint_deploy", **site, secrets={"store_password": PASSWORD})
    (pod,) = made["result"]["pods"]
    assert made["result"]["outputs"] == {"store": f"rsync://keeper@{pod['ip']}/files/"}
    assert PASSWORD not in made["output"]
    lab.ok("pct", "exec", VMID, "--", "sh", "-c", "umask 077; cut -d: -f2 /etc/rsyncd.secrets >/root/word; echo kept >/root/a")
    copy = ("rsync", "--password-file=/root/word", "/root/a")
    lab.ok("pct", "exec", VMID, "--", *copy, f"keeper@{pod['ip']}::files/")
    assert lab.ok("pct", "exec", VMID, "--", "cat", "/srv/files/a") == "kept\n"
    refused = lab.pct("exec", VMID, "--", *copy, f"somebody@{pod['ip']}::files/")
    assert "auth failed" in refused.stdout + refused.stderr

    again = lab.playbook("blueprint_deploy", **site, secrets={"store_password": PASSWORD})["output"]
    assert not re.search(r"changed=[1-9]", again), again
    lab.playbook("blueprint_destroy", **site)
    assert lab.traces(VMID) == []
