"""One run of one playbook through ansible-runner: the only file that knows it.

Known traps, each met here: the event handler only queues and never raises; the cancel callback is always given and ends the
process tree itself; one private directory per run; variables go into a file of mode 0600, never on argv; nothing of our own
settings reaches the run's environment; host keys stay verified although ansible-runner's default is not to; the SSH control
path is shared between runs; after a failed task there is no artifact, so the failed event's own result is taken.
"""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ansible_runner
import pexpect

from shim import config, old_run
from shim.errors import CloudPodsError
from shim.old_run import MARK
from shim.process import end_descendants
from shim.warm import begun
from shim.worker import failure
from shim.worker.failure import NOTHING, UNKNOWN
from shim.worker.hiding import of_event

# What ansible-runner waits for output before it asks the cancel callback again.
_POLL_S = 1
_OUTPUT_TAIL = 2000
# Of what was not asked to end yet, since ansible-playbook was killed: a node's script cleans up.
KILLED_GRACE_S = 5.0


class _Spawned(pexpect.spawn):  # type: ignore[misc]
    """A child whose end is known is closed at once; pexpect gives each a tenth of a second, which every run would wait."""

    def close(self, force: bool = True) -> None:
        if not self.isalive():
            self.ptyproc.delayafterclose = 0
        super().close(force)


# ansible-runner names no class to spawn with.
pexpect.spawn = _Spawned


@dataclass(frozen=True)
class Run:
    """What is to be run: a playbook file's name, where (inventory and host), with which variables, for how long.

    In `check` mode it changes nothing and says what it would. All that it starts has the `mark` in its environment. Without
    `limit` its playbook says itself where it plays. What is `hidden` stands in nothing that it says.
    """

    playbook: str
    inventory: Path
    limit: str | None
    variables: dict[str, Any]
    timeout_s: float
    directory: Path
    project_dir: Path
    control_dir: Path
    check: bool = False
    mark: str = ""
    roles_dir: Path | None = None
    hidden: tuple[str, ...] = ()


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


def ignored(_: str) -> None:
    """Take no note of what a run prints."""


class _Events:
    """Collects what the end of a run needs from its events, and passes each task's start and what is printed on."""

    def __init__(
        self,
        on_task: Callable[[str], None] = ignored,
        on_output: Callable[[str], None] = ignored,
        hidden: tuple[str, ...] = (),
    ) -> None:
        self._on_task = on_task
        self._on_output = on_output
        self._hidden = hidden
        self.artifact: dict[str, Any] = {}
        self.failure: dict[str, Any] | None = None
        self.failures: dict[str, dict[str, Any]] = {}
        self.output: list[str] = []
        self.began = False

    def __call__(self, event: dict[str, Any]) -> bool:
        event = of_event(self._hidden, event) if self._hidden else event
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
        if "stdout" in event:
            self._on_output(_as_printed(event))
        if event.get("stdout"):
            self.output = [*self.output[-40:], event["stdout"]]
        return False  # nothing to keep on disk

    def _failed(self, read: Callable[[str, dict[str, Any]], dict[str, Any]], data: dict[str, Any]) -> None:
        host = str(data.get("host"))
        self.failure = self.failures[host] = read(host, data.get("res") or {})


def _as_printed(event: dict[str, Any]) -> str:
    """Return what an event brought to the terminal. ansible-runner takes the line ends off, and counts them."""
    text = str(event["stdout"])
    ends = event.get("end_line", 0) - event.get("start_line", 0) - text.count("\n")
    return text + "\n" * int(max(ends, bool(text)))


def execute(
    run: Run,
    *,
    on_task: Callable[[str], None],
    should_stop: Callable[[], str | None],
    on_output: Callable[[str], None] = ignored,
) -> Outcome:
    """Run the playbook to its end, to its time limit, or until `should_stop` gives a reason.

    `on_output` is given what ansible-playbook prints, as it prints it. Never raises for what the run does.
    """
    return _play(run, _Events(on_task, on_output, run.hidden), should_stop)


def survey(run: Run) -> Survey:
    """Run a playbook that only reads on many nodes, to its end or its time limit.

    Whatever else this process has started is ended by it: call it in a process of its own.
    """
    forget_own_settings()
    events = _Events()
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

    begun.note()
    runner = ansible_runner.run(**_asked(run), event_handler=events, cancel_callback=cancel)
    # A run that failed may leave processes behind, as one that was stopped does.
    end_descendants(spare_ssh_masters=True)
    if stopped or runner.rc is None:
        # What lost those above it is not below this process any more.
        old_run.end_marked(run.mark, grace_s=0.0 if stopped else KILLED_GRACE_S)
    if stopped:
        return Outcome(None, failure.stopped(stopped[0]))
    return _outcome(runner.rc, events)


def _asked(run: Run) -> dict[str, Any]:
    return {
        "private_data_dir": str(run.directory),
        "project_dir": str(run.project_dir),
        "playbook": f"playbooks/{run.playbook}",
        "inventory": str(run.inventory),
        "limit": run.limit,
        "cmdline": "--check" if run.check else None,
        "envvars": _environment(run),
        "settings": {"pexpect_timeout": _POLL_S, "suppress_ansible_output": True},
        "quiet": True,
    }


def environment(inventory: Path, project_dir: Path, control_dir: Path, roles_dir: Path | None = None) -> dict[str, str]:
    """Return what ansible-runner gives a run as its environment, our own settings left out."""
    with tempfile.TemporaryDirectory() as directory:
        run = Run("none.yml", inventory, "none", {}, 0, Path(directory), project_dir, control_dir, roles_dir=roles_dir)
        # Without a cancel callback ansible-runner takes this process's SIGTERM and SIGINT for itself.
        asked = {**_asked(run), "cancel_callback": lambda: False}
        given: dict[str, str] = ansible_runner.interface.init_runner(**asked).config.env
    own = set(config.names(given))
    return {name: value for name, value in given.items() if name not in own}


def forget_own_settings() -> None:
    """Take this process's settings, which hold the database's password, out of the environment its runs inherit."""
    for name in config.names():
        del os.environ[name]


def _environment(run: Run) -> dict[str, str]:
    # The site's own come after the project's.
    roles = {"ANSIBLE_ROLES_PATH": f"{run.project_dir / 'roles'}:{run.roles_dir}"} if run.roles_dir else {}
    return {
        **roles,
        "ANSIBLE_CONFIG": str(run.project_dir / "ansible.cfg"),
        "ANSIBLE_HOST_KEY_CHECKING": "True",
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(run.control_dir),
        "ANSIBLE_FORCE_COLOR": "False",
        # ansible-runner gives it a terminal, for which it would colour.
        "ANSIBLE_NOCOLOR": "True",
        MARK: run.mark,
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
