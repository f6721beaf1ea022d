"""The module cloudpod_cancel and its playbook: what is ended, what only looks, and what the caller is told."""

from __future__ import annotations

import signal
import subprocess

import pytest

from tests.lab_node import LabNode
from tests.node_scripts import Scripts, create_arguments, finished, has_begun, wait_until

SLOW_S = 90  # longer than any deadline: only a signal ends it


@pytest.fixture
def creating(node, vmid):
    """Yield a create, run job1.1, that is in the middle of `pct create`."""
    node.switch("delay", "pct create", str(SLOW_S))
    process = Scripts(LabNode(node.dir)).start("create", *create_arguments(vmid))
    wait_until(lambda: node.conf(vmid) and has_begun(process, "create"), "pct create")
    yield process
    if process.poll() is None:
        # Its trap ends `pct create`, which a kill would leave to wait on.
        process.terminate()
        finished(process)


def holder(process: subprocess.Popen) -> dict:
    return {"pid": process.pid, "run": "job1.1", "script": "cloudpod-create"}


def test_the_playbook_ends_a_run_and_hands_over_what_it_was(run, node, vmid, creating):
    planned = run("cancel", "--check", node="lab1", vmid=vmid, run="job1")
    assert planned.result == {"vmid": vmid, "holder": holder(creating), "outcome": "ended", "changed": True}, planned.text
    assert creating.poll() is None and node.conf(vmid)
    done = run("cancel", node="lab1", vmid=vmid, run="job1", tenant_id="TENANT-123", wait_s=20)
    assert done.result == {"vmid": vmid, "holder": holder(creating), "outcome": "ended", "changed": True}, done.text
    assert finished(creating).returncode == 128 + signal.SIGTERM
    assert node.conf(vmid) is None
    again = run("cancel", node="lab1", vmid=vmid, run="job1")
    assert again.result == {"vmid": vmid, "holder": None, "outcome": "idle", "changed": False}


def test_check_mode_tells_whose_run_it_is_and_ends_none(run_module, node, vmid, creating):
    asked = {**node.access, "vmid": vmid}
    other = run_module("cloudpod_cancel", _check=True, run_id="job1.2", **asked)
    assert (other.outcome, other.holder, other.changed) == ("other", holder(creating), False)
    planned = run_module("cloudpod_cancel", _check=True, run_id="job1.1", for_good=True, **asked)
    assert (planned.outcome, planned.changed) == ("ended", True)
    absent = run_module("cloudpod_cancel", _check=True, run_id="job1", **node.access, vmid=vmid + 1000)
    assert (absent.outcome, absent.holder, absent.changed) == ("idle", None, False)
    assert creating.poll() is None
    assert not (node.dir / "run/lock/cloudpods/ended").exists()


def test_another_tenants_pod_is_refused(run_module, node, vmid, creating):
    refused = run_module("cloudpod_cancel", run_id="job1", tenant_id="TENANT-9", **node.access, vmid=vmid)
    assert refused.failed and (refused.rc, refused.retryable, refused.left_behind) == (77, False, "nothing")
    assert creating.poll() is None


def test_for_good_is_sent(run_module, node, vmid):
    vmid += 2000
    idle = run_module("cloudpod_cancel", run_id="late1", for_good=True, **node.access, vmid=vmid)
    assert (idle.outcome, idle.changed) == ("idle", False)
    late = Scripts(LabNode(node.dir)).create(vmid, run="late1.1")
    assert late.returncode == 77 and "ended for good" in late.stderr


SAID = {"VMID": "9101", "Pid": "4711", "Run": "job1.1", "Script": "cloudpod-backup"}


def test_a_run_that_does_not_end_is_a_result_with_a_warning(run_module, site):
    site.show({"vmid": 9101, "exists": False, "busy": None})
    lines = "\n".join(f"{key:<9}: {value}" for key, value in {**SAID, "Signalled": "4711", "Result": "stuck"}.items())
    site.write_ours("cancel", f"echo 'warning: vmid 9101 is still held by 4711 4712' >&2\ncat <<EOF\n{lines}\nEOF")
    stuck = run_module("cloudpod_cancel", run_id="job1", wait_s=5, pod_id="p1", **site.access, vmid=9101)
    found = {"vmid": 9101, "holder": {"pid": 4711, "run": "job1.1", "script": "cloudpod-backup"}, "outcome": "stuck"}
    assert {name: stuck.raw[name] for name in found} == found and stuck.changed
    assert "still held by 4711 4712" in stuck.warnings
    assert site.calls("cancel") == ["9101 --run job1 --wait 5 --pod p1"]


def test_an_answer_without_a_result_is_a_failure(run_module, site):
    site.show({"vmid": 9101, "exists": False, "busy": None})
    site.write_ours("cancel", "echo 'VMID     : 9101'")
    failed = run_module("cloudpod_cancel", run_id="job1", **site.access, vmid=9101)
    assert failed.failed and "did not say how the run ended" in failed.msg


def test_a_node_whose_scripts_are_older_is_told_which_role_to_run(run_module, site):
    site.show({"vmid": 9101, "exists": False, "busy": None})
    failed = run_module("cloudpod_cancel", run_id="job1", **site.access, vmid=9101)
    assert failed.failed and "install it with the role migra.cloudpods.cloudpod_node" in failed.msg
    assert (failed.retryable, failed.left_behind) == (False, "nothing")


@pytest.mark.parametrize(
    ("name", "value"), [("vmid", 99), ("run_id", "a b"), ("run_id", "-x"), ("wait_s", 0), ("wait_s", 601), ("timeout_s", 30)]
)
def test_bad_parameters_are_named(run_module, site, name, value):
    site.show({"vmid": 9101, "exists": False, "busy": None})
    refused = run_module("cloudpod_cancel", **{"vmid": 9101, "run_id": "job1", **site.access, name: value})
    assert refused.parameters == ["wait_s" if name == "timeout_s" else name]
    assert site.calls("cancel") == []
