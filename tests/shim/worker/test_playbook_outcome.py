"""From ansible-runner's events to an outcome, without running anything."""

import json
import os
import stat

import pytest

from shim.worker import playbook
from shim.worker.failure import stopped
from shim.worker.playbook import Run, _Events, _outcome

STATS = {"event": "playbook_on_stats", "event_data": {"artifact_data": {"result": {"ip": "10.1.10.91"}}}}
RES = {
    "msg": "no space left",
    "retryable": True,
    "left_behind": "container 9101",
    "rc": 1,
    "stderr": "the end of it",
    "busy": "x",
    "differences": [{"parameter": "cores"}],
    "parameters": ["cores"],
}


def failed(res, **data):
    return {"event": "runner_on_failed", "event_data": {"host": "lab1", "res": res, **data}}


def unreachable(msg="Connection timed out"):
    return {"event": "runner_on_unreachable", "event_data": {"host": "lab1", "res": {"msg": msg}}}


def outcome_of(rc, *events):
    collected = _Events([].append)
    for event in events:
        assert collected(event) is False
    return _outcome(rc, collected)


def test_a_success_is_the_artifact():
    assert outcome_of(0, STATS).result == {"ip": "10.1.10.91"}
    assert outcome_of(0, STATS).failure is None


def test_a_rescued_failure_does_not_spoil_a_success():
    assert outcome_of(0, failed(RES), STATS).result == {"ip": "10.1.10.91"}


def test_an_artifact_of_a_run_that_failed_is_not_a_success():
    outcome = outcome_of(2, STATS, failed(RES))
    assert (outcome.result, outcome.failure["msg"]) == (None, "node lab1: no space left")


def test_a_failure_is_the_failed_tasks_own_result():
    assert outcome_of(2, failed({**RES, "changed": False, "invocation": {"secret": "x"}})).failure == {
        **RES,
        "msg": "node lab1: no space left",
    }


FAILURES = [
    ({}, {"msg": "node lab1: the task failed without a message", "retryable": False, "left_behind": "nothing"}),
    ({"msg": ""}, {"msg": "node lab1: the task failed without a message", "retryable": False, "left_behind": "nothing"}),
    ({"msg": "no", "changed": False}, {"msg": "node lab1: no", "retryable": False, "left_behind": "nothing"}),
    ({"msg": ["a", "b"]}, {"msg": "node lab1: ['a', 'b']", "retryable": False, "left_behind": "nothing"}),
    ({"msg": "no", "retryable": None}, {"msg": "node lab1: no", "retryable": False, "left_behind": "nothing"}),
    # A module that died says nothing of what it left.
    (
        {"msg": "MODULE FAILURE", "rc": 137},
        {"msg": "node lab1: MODULE FAILURE", "retryable": True, "left_behind": "unknown", "rc": 137},
    ),
    ({"msg": "no", "module_stdout": ""}, {"msg": "node lab1: no", "retryable": True, "left_behind": "unknown"}),
    (None, {"msg": "node lab1: the task failed without a message", "retryable": False, "left_behind": "nothing"}),
]


@pytest.mark.parametrize(("res", "failure"), FAILURES)
def test_what_a_failed_task_does_not_say_is_filled_in(res, failure):
    assert outcome_of(2, failed(res)).failure == failure


def test_an_ignored_failure_is_none():
    assert outcome_of(0, failed(RES, ignore_errors=True), STATS).result is not None
    assert outcome_of(2, failed(RES, ignore_errors=True)).failure["msg"].startswith("ansible-playbook ended with 2")


# What OpenSSH says, what the failure must tell beside it, whether waiting helps, and what was left.
UNREACHABLE = [
    ("Connection timed out", "the connection was lost", True, "unknown"),
    ("Shared connection to 127.0.0.1 closed.", "the connection was lost", True, "unknown"),
    ("", "no reason given", True, "unknown"),
    ("ssh: connect to host pve1 port 22: Connection refused", "check that the node is up", True, "nothing"),
    ("ssh: connect to host pve1 port 22: Connection timed out", "check that the node is up", True, "nothing"),
    ("ssh: Could not resolve hostname pve1: Name or service not known", "ansible_host", True, "nothing"),
    ("mpanel-automation@127.0.0.1: Permission denied (publickey).", "cloudpod_node_authorized_keys", False, "nothing"),
    ("Host key verification failed.", "somebody may be answering in its place", False, "nothing"),
]


@pytest.mark.parametrize(("said", "told", "retryable", "left"), UNREACHABLE)
def test_an_unreachable_node_is_told_with_what_to_do(said, told, retryable, left):
    failure = outcome_of(4, unreachable(said)).failure
    assert failure["msg"].startswith("cannot reach node lab1: ")
    assert said in failure["msg"]
    assert told in failure["msg"]
    assert (failure["retryable"], failure["left_behind"]) == (retryable, left)


def test_a_run_that_somebody_killed_is_worth_another_try_and_what_it_did_is_not_known():
    failure = outcome_of(None).failure
    assert "killed" in failure["msg"]
    assert (failure["retryable"], failure["left_behind"]) == (True, "unknown")


def test_a_run_without_a_result_is_a_failure():
    for artifact in ({}, {"result": None}, {"result": "ok"}, {"result": []}):
        failure = outcome_of(0, {"event": "playbook_on_stats", "event_data": {"artifact_data": artifact}}).failure
        assert failure["msg"] == "the playbook ended well but gave no result"
        assert not failure["retryable"]


def test_a_run_that_reached_no_node_tells_the_end_of_its_output():
    lines = [{"event": "verbose", "stdout": f"line {n}"} for n in range(100)]
    failure = outcome_of(4, *lines, {"event": "verbose", "stdout": "ERROR! the playbook could not be found"}).failure
    assert failure["msg"].startswith("ansible-playbook ended with 4: ")
    assert failure["msg"].endswith("could not be found")
    assert len(failure["msg"]) < 2100
    assert (failure["retryable"], failure["left_behind"]) == (False, "nothing")


@pytest.mark.parametrize(
    "event", [{}, {"event": None}, {"event": "unheard_of", "event_data": None}, {"event_data": {"res": 1}}], ids=str
)
def test_an_event_of_another_kind_is_passed_over(event):
    assert outcome_of(0, event, STATS).result is not None


def test_each_tasks_start_is_passed_on():
    tasks = []
    events = _Events(tasks.append)
    for name in ("Check the input", "Create the pod"):
        events({"event": "playbook_on_task_start", "event_data": {"task": name}})
    assert tasks == ["Check the input", "Create the pod"]


@pytest.fixture
def run(tmp_path):
    (tmp_path / "run").mkdir()
    where = {"directory": tmp_path / "run", "project_dir": tmp_path, "control_dir": tmp_path / "cp", "inventory": tmp_path}
    return Run(playbook="cloudpod_create.yml", limit="lab1", variables={"hostname": "{{ bad }}"}, timeout_s=5, **where)


def test_variables_go_into_a_file_that_only_we_read(run):
    playbook._write_variables(run)
    file = run.directory / "env/extravars"
    assert list(json.loads(file.read_text())) == ["hostname"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_host_keys_stay_verified_and_connections_are_shared(run):
    environment = playbook._environment(run)
    assert environment["ANSIBLE_HOST_KEY_CHECKING"] == "True"
    assert environment["ANSIBLE_SSH_CONTROL_PATH_DIR"] == str(run.control_dir)


def test_our_own_settings_do_not_reach_a_run(monkeypatch):
    monkeypatch.setenv("CLOUDPODS_DATABASE_URL", "postgresql://user:secret@host/name")
    monkeypatch.setenv("CLOUDPODS_LAB_DIR", "/lab")
    playbook.forget_own_settings()
    assert "CLOUDPODS_DATABASE_URL" not in os.environ
    assert os.environ["CLOUDPODS_LAB_DIR"] == "/lab"


def test_a_stopped_run_may_run_again_but_what_it_left_is_not_known():
    failure = stopped("took longer than 5 s")
    assert failure["msg"] == "the run was ended: took longer than 5 s"
    assert (failure["retryable"], failure["left_behind"]) == (True, "unknown")
