"""Restore, restore drill and adopt as somebody at a terminal runs them, on the lab."""

from __future__ import annotations

import pytest

POD = {"hostname": "client-portal", "cores": 2, "memory_mb": 2048}


@pytest.fixture
def owned(run, node, vmid):
    """Return the variables that name a pod, which stands on the lab node."""
    whose = {"node": "lab1", "vmid": vmid, "tenant_id": "TENANT-123", "pod_id": "p1"}
    made = run("create", **whose, **POD)
    assert made.rc == 0, made.text
    return whose


def test_a_pod_is_backed_up_drilled_restored_and_restored_beside_itself(run, node, vmid, owned):
    """Each is tried before, done, and for the same job not done again; what a drill makes is gone afterwards."""
    archive = run("backup", **owned, retention={"keep_last": 1}).result["archive"]["volid"]
    copied = {**owned, "vmid": vmid + 10000, "pod_id": "p2", "from_vmid": vmid, "from_pod_id": "p1", "hostname": "copy"}
    in_place = {**owned, "force": True, "run_id": "job2.1"}
    for verb, asked, changes in [("drill", owned, False), ("restore", in_place, True), ("restore", copied, True)]:
        before = node.state()
        planned = run(verb, "--check --diff", **asked)
        assert (planned.rc, planned.result["changed"]) == (0, changes), planned.text
        assert node.state() == before
        done = run(verb, **asked)
        assert (done.rc, done.result["changed"], done.result["archive"]["volid"]) == (0, changes, archive), done.text
        again = run(verb, **asked)
        assert (again.rc, again.result["changed"]) == (0, False), again.text
        check_restored(verb, node, done.result)
    assert run("info", node="lab1", vmids=[vmid], backups=True).result["lab1"]["pods"][0]["backups"][0]["volid"] == archive


def check_restored(verb: str, node, result: dict) -> None:
    """What the shim reads of a result."""
    if verb == "drill":
        told = {"node", "vmid", "drill_vmid", "archive", "passed", "verdict", "reasons", "duration_s", "changed"}
        assert (set(result), result["passed"]) == (told, True)
        assert node.conf(result["drill_vmid"]) is None
        return
    assert set(result) == {"node", "vmid", "changed", "cloudpod", "ip", "archive"}
    assert result["cloudpod"]["restored"]["archive"] == result["archive"]["volid"]
    assert (result["cloudpod"]["status"], result["cloudpod"]["ip"]) == ("running", result["ip"])


def test_a_drill_that_does_not_pass_is_one_failure_and_leaves_nothing(run, node, vmid, owned):
    archive = run("backup", **owned).result["archive"]["volid"]
    before = {name: text for name, text in node.state().items() if not name.startswith("log/")}
    node.switch("fail", "pct start", "--vmid", str(vmid + 900000000), "--message", "startup failed", "--times", "1")
    failed = run("drill", **owned)
    assert (failed.rc != 0, failed.result) == (True, None)
    (failure,) = failed.failures
    assert failure["msg"].startswith(f"archive {archive} did not restore: cloudpod-restore.sh: ")
    assert "startup failed" in failure["msg"]
    assert (failure["retryable"], failure["left_behind"], failure["passed"]) == (False, "nothing", False)
    assert {name: text for name, text in node.state().items() if not name.startswith("log/")} == before


def test_a_protected_pod_is_drilled_too(run, node, vmid, owned):
    """The archive holds the protection; the copy must not, or it could not be removed."""
    node.edit_conf(vmid, lambda text: text + "protection: 1\n")
    assert run("backup", **owned).rc == 0
    done = run("drill", **owned)
    assert done.rc == 0, done.text
    assert node.conf(vmid + 900000000) is None


def test_a_container_made_by_hand_is_adopted(run, node, vmid, owned):
    node.edit_conf(vmid, lambda text: "\n".join(line for line in text.splitlines() if not line.startswith("#")) + "\n")
    ipam = node.dir / "etc/migra/ipam-cloudpods.txt"
    ipam.write_text("".join(line for line in ipam.read_text().splitlines(True) if f" {vmid} " not in line))
    before = node.state()
    planned = run("adopt", "--check --diff", **owned)
    assert (planned.rc, planned.result["changed"]) == (0, True), planned.text
    assert node.state() == before
    done = run("adopt", **owned)
    assert (done.rc, done.result["changed"]) == (0, True), done.text
    assert set(done.result) == {"node", "vmid", "changed", "cloudpod"}
    assert done.result["cloudpod"]["owner"] == {"tenant": "TENANT-123", "pod": "p1"}
    assert f" {vmid} client-portal TENANT-123 active" in ipam.read_text()
    assert run("adopt", **owned).result["changed"] is False
