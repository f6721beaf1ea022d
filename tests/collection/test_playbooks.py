"""The playbooks as somebody at a terminal runs them, on the lab."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
MODULES = REPOSITORY / "collections/ansible_collections/migra/cloudpods/plugins/modules"
POD = {"hostname": "client-portal", "tenant_id": "TENANT-123", "cores": 2, "memory_mb": 2048}
CHANGING = ("create", "destroy", "scale", "power", "snapshot", "backup", "restore", "adopt", "drill", "cancel")
NEEDED = {
    "create": {"vmid": 9999, **POD},
    "destroy": {"vmid": 9999},
    "scale": {"vmid": 9999, "cores": 2, "memory_mb": 2048},
    "power": {"vmid": 9999, "state": "running"},
    "snapshot": {"vmid": 9999, "snapshot": "before", "state": "present"},
    "backup": {"vmid": 9999},
    "restore": {"vmid": 9999, "tenant_id": "TENANT-123", "pod_id": "p1"},
    "adopt": {"vmid": 9999, "tenant_id": "TENANT-123", "pod_id": "p1"},
    "drill": {"vmid": 9999, "tenant_id": "TENANT-123"},
    "cancel": {"vmid": 9999, "run": "job1"},
}


def test_a_pods_whole_life_with_each_step_done_twice_and_tried_before(run, node, vmid):
    """Create, scale, stop, snapshot, back up and destroy: a check changes nothing, a first run does, a second does not."""
    variables = {"node": "lab1", "vmid": vmid, "tenant_id": "TENANT-123"}
    steps = {
        "create": {**variables, **POD},
        "scale": {**variables, "cores": 4, "memory_mb": 4096},
        "power": {**variables, "state": "stopped", "shutdown_timeout_s": 5, "force": True, "run_id": "job3.1"},
        "snapshot": {**variables, "snapshot": "before", "state": "present", "run_id": "job4.1"},
        "backup": {**variables, "run_id": "nightly.1"},
        "destroy": variables,
    }
    for verb, asked in steps.items():
        before = node.state()
        planned = run(verb, "--check --diff", **asked)
        assert (planned.rc, planned.recap["changed"]) == (0, {"lab1": 1}), planned.text
        assert planned.result["changed"] is True
        assert node.state() == before
        done = run(verb, **asked)
        assert (done.rc, done.recap["changed"]) == (0, {"lab1": 1}), done.text
        assert (done.result["node"], done.result["vmid"], done.result["changed"]) == ("lab1", vmid, True)
        again = run(verb, **asked)
        assert (again.rc, again.recap["changed"]) == (0, {}), again.text
        check_shape(verb, done.result)


def check_shape(verb: str, result: dict) -> None:
    """What the shim reads of a result."""
    extra = {
        "create": {"ip"}, "scale": {"pending"}, "snapshot": {"snapshots"}, "backup": {"archive", "removed"}, "destroy": {"ip"},
    }  # fmt: skip
    assert set(result) == {"node", "vmid", "changed", "cloudpod", *extra.get(verb, ())}
    if verb == "create":
        assert re.fullmatch(r"10\.1\.10\.\d+", result["ip"])
        assert result["cloudpod"]["ip"] == result["ip"]
    if verb == "scale":
        assert (result["cloudpod"]["cores"], result["cloudpod"]["memory_mb"]) == (4, 4096)
    if verb == "power":
        assert result["cloudpod"]["status"] == "stopped"
    if verb == "snapshot":
        assert [(each["name"], each["job"]) for each in result["snapshots"]] == [("before", "job4")]
    if verb == "backup":
        assert result["archive"]["volid"].startswith("vzdump-backups:backup/")
    if verb == "destroy":
        assert result["cloudpod"]["exists"] is False


def test_a_rollback_and_a_delete_by_playbook(run, node, vmid):
    variables = {"node": "lab1", "vmid": vmid, "tenant_id": "TENANT-123", "snapshot": "before"}
    assert run("create", node="lab1", vmid=vmid, **POD).rc == 0
    missing = run("snapshot", state="rolled_back", **variables)
    assert [failure["msg"] for failure in missing.failures] == [f"vmid {vmid} has no snapshot before"]
    for state, changed, left in [("present", True, 1), ("rolled_back", True, 1), ("absent", True, 0), ("absent", False, 0)]:
        done = run("snapshot", state=state, **variables)
        assert (done.rc, done.result["changed"], len(done.result["snapshots"])) == (0, changed, left), done.text
        assert done.result["cloudpod"]["status"] == "running"


def test_a_diff_is_shown_to_a_person(playbook, vmid):
    words = " ".join(f"-e {key}={value}" for key, value in {"node": "lab1", "vmid": vmid, **POD}.items())
    shown = playbook("cloudpod_create.yml", *words.split(), "--check", "--diff").stdout
    assert "+    hostname: client-portal" in shown
    assert "changed=1" in shown


def test_a_sweep_has_an_entry_for_every_node(run, node):
    found = run("info")
    assert found.rc == 0
    assert set(found.result) == {"lab1", "lab2"}
    assert found.result["lab1"]["node"] == "lab1"
    assert isinstance(found.result["lab1"]["pods"], list)


@pytest.mark.parametrize("vmids", ["9998,9999", [9998, 9999], 9998])
def test_a_sweep_of_some_pods(run, vmids):
    found = run("health", node="lab1", vmids=vmids)
    rows = found.result["lab1"]["health"]
    assert [row["vmid"] for row in rows] == ([9998] if vmids == 9998 else [9998, 9999])
    assert {row["verdict"] for row in rows} == {"critical"}


def test_a_sweep_keeps_what_the_others_said_when_one_node_fails(run, lab_parent):
    script = lab_parent / "lab2/sbin/cloudpod-info.sh"
    aside = script.rename(script.with_suffix(".aside"))
    try:
        found = run("info")
    finally:
        aside.rename(script)
    assert found.rc != 0
    assert set(found.result) == {"lab1"}
    assert [failure["retryable"] for failure in found.failures] == [False]


@pytest.mark.parametrize("verb", CHANGING)
def test_two_targets_are_refused(run, lab_parent, verb):
    refused = run(verb, **NEEDED[verb])
    assert refused.rc != 0
    assert {failure["msg"] for failure in refused.failures} == {
        "exactly one node can be changed at a time, not lab1, lab2: give -e node=<name> or --limit <name>"
    }


def test_a_limit_chooses_the_target_too(run, node):
    assert run("destroy", "--limit lab1", vmid=9999).recap["ok"] == {"lab1": 3}


@pytest.mark.parametrize("verb", ["create", "info"])
def test_an_unknown_node_is_an_error(run, verb):
    refused = run(verb, node="nope", **NEEDED.get(verb, {}))
    assert refused.rc != 0
    assert "nope" in refused.text


@pytest.mark.parametrize("verb", CHANGING)
def test_missing_variables_are_named(run, verb):
    refused = run(verb, node="lab1")
    assert [failure["msg"] for failure in refused.failures] == [f"missing variable: {', '.join(NEEDED[verb])}"]


def test_a_failure_says_whether_to_try_again_and_what_is_left(run, node, vmid):
    node.switch("fail", "pct start", "--vmid", str(vmid), "--message", "startup failed", "--times", "1")
    failed = run("create", node="lab1", vmid=vmid, **POD)
    assert failed.rc != 0
    assert failed.result is None
    (failure,) = failed.failures
    assert "startup failed" in failure["msg"]
    assert (failure["retryable"], failure["left_behind"]) == (False, "nothing")


def test_bad_input_is_refused_by_the_module(run):
    refused = run("create", node="lab1", **{**NEEDED["create"], "hostname": "a;b", "cores": 0})
    (failure,) = refused.failures
    assert set(failure["parameters"]) == {"hostname", "cores"}


def test_a_value_marked_unsafe_is_never_a_template(run, tmp_path):
    """Ansible evaluates extra variables. A caller that passes on other people's values marks them, as the shim does."""
    trace = tmp_path / "trace"
    value = {"__ansible_unsafe": f"{{{{ lookup('pipe', 'touch {trace}') }}}}"}
    refused = run("create", node="lab1", **{**NEEDED["create"], "hostname": value, "tenant_id": value})
    (failure,) = refused.failures
    assert set(failure["parameters"]) == {"hostname", "tenant_id"}
    assert not trace.exists()


def test_the_examples_of_the_documentation_work_as_they_are(fresh_playbook, fresh_lab):
    """Run every example of every module in the order of a pod's life, on a node where no other test took an address."""
    tasks = []
    life = "create info health scale power snapshot adopt backup restore_drill restore cancel destroy"
    for name in life.split():
        text = (MODULES / f"cloudpod_{name}.yml").with_suffix(".py").read_text()
        tasks += yaml.safe_load(re.search(r'EXAMPLES = r"""\n(.*?)"""', text, re.DOTALL)[1])
    play = {
        "hosts": "lab1",
        "gather_facts": False,
        "module_defaults": {"group/migra.cloudpods.cloudpods": {"script_dir": str(fresh_lab / "lab1/sbin"), "sudo": False}},
        "tasks": tasks,
    }
    file = fresh_lab / "examples.yml"
    file.write_text(yaml.safe_dump([play], sort_keys=False))
    done = fresh_playbook(str(file))
    assert "failed=0" in done.stdout
    assert "vzdump-backups:backup/vzdump-lxc-9101" in done.stdout
