"""One run of one playbook through ansible-runner: the only file that knows it.

Known traps, each met here: the event handler only queues and never raises; the cancel callback is always given and ends the
process tree itself; one private directory per run; variables go into a file of mode 0600, never on argv; nothing of our own
settings reaches the run's environment; host keys stay verified although ansible-runner's default is not to; the SSH control
path is shared between runs; after a failed task there is no artifact, so the failed event's own result is taken.
"""

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ansible_runner

from shim import config
from shim.errors import CloudPodsError
from shim.process import end_descendants
from shim.worker import failure
from shim.worker.failure import NOTHING, UNKNOWN

# What ansible-runner waits for output before it asks the cancel callback again.
_POLL_S = 1
_OUTPUT_TAIL = 2000


@dataclass(frozen=True)
class Run:
    """What is to be run: a playbook file's name, where (inventory and host), with which variables, for how long.

    In `check` mode it changes nothing and says what it would.
    """

    playbook: str
    inventory: Path
    limit: str
    variables: dict[str, Any]
    timeout_s: float
    directory: Path
    project_dir: Path
    control_dir: Path
    check: bool = False


@dataclass(frozen=True)
class Outcome:
    """How a run ended: `result` is the playbook's artifact, `failure` has msg, retryable, left_behind. One of them is None."""

    result: dict[str, Any] | None
    failure: dict[str, Any] | None


@dataclass(frozen=True)
class Survey:
    """How a run on many nodes ended: what those said that answered, each other's failure, and the whole run's trouble."""

    results: dict[str, Any]
    failures: dict[str, dict[str, Any]]
    trouble: dict[str, Any] | None


class _Events:
    """Collects what the end of a run needs from its events, and passes each task's start on."""

    def __init__(self, on_task: Callable[[str], None]) -> None:
        self._on_task = on_task
        self.artifact: dict[str, Any] = {}
        self.failure: dict[str, Any] | None = None
        self.failures: dict[str, dict[str, Any]] = {}
        self.output: list[str] = []
        self.began = False

    def __call__(self, event: dict[str, Any]) -> bool:
        data = event.get("event_data") or {}
        match event.get("event"):
            case "playbook_on_task_start":
                self.began = True
                self._on_task(str(data.get("task", "")))
            case "runner_on_failed" if not data.get("ignore_errors"):
                self._failed(failure.of_task, data)
            case "runner_on_unreachable":
                self._failed(failure.unreachable, data)
            case "playbook_on_stats":
                self.artifact = data.get("artifact_data") or {}
        if event.get("stdout"):
            self.output = [*self.output[-40:], event["stdout"]]
        return False  # nothing to keep on disk

    def _failed(self, read: Callable[[str, dict[str, Any]], dict[str, Any]], data: dict[str, Any]) -> None:
        host = str(data.get("host"))
        self.failure = self.failures[host] = read(host, data.get("res") or {})


def execute(run: Run, *, on_task: Callable[[str], None], should_stop: Callable[[], str | None]) -> Outcome:
    """Run the playbook to its end, to its time limit, or until `should_stop` gives a reason.

    Never raises for what the run does.
    """
    return _play(run, _Events(on_task), should_stop)


def survey(run: Run) -> Survey:
    """Run a playbook that only reads on many nodes, to its end or its time limit.

    Whatever else this process has started is ended by it: call it in a process of its own.
    """
    forget_own_settings()
    events = _Events(lambda _: None)
    ended = _play(run, events, lambda: None)
    return Survey(events.artifact.get("result") or {}, events.failures, ended.failure)


def hosts(inventory: Path, project_dir: Path) -> set[str]:
    """Return the names of an inventory's hosts. Raises CloudPodsError with what ansible says of one that it cannot read."""
    said, complaint = ansible_runner.get_inventory(
        "list",
        [str(inventory)],
        response_format="json",
        quiet=True,
        envvars={"ANSIBLE_CONFIG": str(project_dir / "ansible.cfg"), "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "True"},
    )
    if not isinstance(said, dict):
        raise CloudPodsError(str(complaint).strip() or "ansible-inventory says nothing", code="bad_inventory")
    return {name for group in said.values() for name in group.get("hosts", ())}


def _play(run: Run, events: _Events, should_stop: Callable[[], str | None]) -> Outcome:
    _write_variables(run)
    deadline = time.monotonic() + run.timeout_s
    stopped: list[str] = []

    def cancel() -> bool:
        reason = should_stop()
        if reason is None and time.monotonic() > deadline:
            reason = f"took longer than {run.timeout_s:g} s"
        if reason is None:
            return False
        stopped.append(reason)
        end_descendants(spare_ssh_masters=True)
        return True

    runner = ansible_runner.run(
        private_data_dir=str(run.directory),
        project_dir=str(run.project_dir),
        playbook=f"playbooks/{run.playbook}",
        inventory=str(run.inventory),
        limit=run.limit,
        cmdline="--check" if run.check else None,
        envvars=_environment(run),
        settings={"pexpect_timeout": _POLL_S, "suppress_ansible_output": True},
        event_handler=events,
        cancel_callback=cancel,
        quiet=True,
    )
    # A run that failed may leave processes behind, as one that was stopped does.
    end_descendants(spare_ssh_masters=True)
    if stopped:
        return Outcome(None, failure.stopped(stopped[0]))
    return _outcome(runner.rc, events)


def forget_own_settings() -> None:
    """Take this process's settings, which hold the database's password, out of the environment its runs inherit."""
    for name in config.names():
        del os.environ[name]


def _environment(run: Run) -> dict[str, str]:
    return {
        "ANSIBLE_CONFIG": str(run.project_dir / "ansible.cfg"),
        "ANSIBLE_HOST_KEY_CHECKING": "True",
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(run.control_dir),
        "ANSIBLE_FORCE_COLOR": "False",
    }


def _write_variables(run: Run) -> None:
    env = run.directory / "env"
    env.mkdir(parents=True, mode=0o700)
    descriptor = os.open(env / "extravars", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(_literal(run.variables), file)


def _literal(value: Any) -> Any:
    """Return the value with every text marked to be taken as it is: Ansible evaluates `{{ }}` in extra vars otherwise."""
    if isinstance(value, dict):
        return {key: _literal(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_literal(inner) for inner in value]
    return {"__ansible_unsafe": value} if isinstance(value, str) else value


def _outcome(rc: int | None, events: _Events) -> Outcome:
    result = events.artifact.get("result")
    if rc == 0 and isinstance(result, dict):
        return Outcome(result, None)
    if events.failure is not None:
        return Outcome(None, events.failure)
    if rc is None:
        # ansible-playbook itself was killed, by whoever: what the node did meanwhile is seen by the next run's look.
        return Outcome(None, failure.stopped("ansible-playbook was killed"))
    tail = "\n".join(events.output)[-_OUTPUT_TAIL:].strip()
    if rc == 0:
        return Outcome(None, {"msg": "the playbook ended well but gave no result", "retryable": False, "left_behind": UNKNOWN})
    # Before any task nothing reached the node: an inventory, a syntax, a missing collection.
    left = UNKNOWN if events.began else NOTHING
    msg = f"ansible-playbook ended with {rc}: {tail}"
    return Outcome(None, {"msg": msg, "retryable": events.began, "left_behind": left})


def remove(directory: Path) -> None:
    """Remove a run's private directory."""
    shutil.rmtree(directory, ignore_errors=True)
