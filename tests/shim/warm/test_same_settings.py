"""What must be as it was when Ansible was loaded, for a run to be forked from there."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import ansible_runner
import pytest

from shim.warm import same
from shim.worker import connections, on_node, playbook

if TYPE_CHECKING:
    from shim.config import Settings


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ({"ANSIBLE_FORKS": "1"}, {"ANSIBLE_FORKS": "2"}, False),
        ({"ANSIBLE_FORKS": "1"}, {}, False),
        ({"ANSIBLE_CACHE_PLUGIN_CONNECTION": "a"}, {"ANSIBLE_CACHE_PLUGIN_CONNECTION": "b"}, True),
        ({"LC_ALL": "C.UTF-8"}, {"LC_ALL": "C"}, False),
        ({"PYTHONPATH": "a"}, {}, False),
        ({"HOME": "/a"}, {"HOME": "/b"}, False),
        ({"KNOWN": "1"}, {"KNOWN": "2"}, False),
        ({"MIGRA_CLOUDPODS_RUN": "a.1"}, {"MIGRA_CLOUDPODS_RUN": "b.1"}, True),
        ({"PATH": "a"}, {"PATH": "b"}, True),
    ],
)
def test_which_settings_must_be_the_same(one: dict[str, str], other: dict[str, str], alike: bool) -> None:
    assert (same.settings(one, {"KNOWN"}) == same.settings(other, {"KNOWN"})) is alike


@pytest.mark.parametrize("change", ["write", "add", "remove", "swap"])
def test_a_changed_folder_is_seen(tmp_path: Path, change: str) -> None:
    (tmp_path / "inner").mkdir()
    file = tmp_path / "inner/one.py"
    file.write_text("a = 1")
    (tmp_path / "__pycache__").mkdir()
    before = same.files([tmp_path, tmp_path / "nowhere"])
    (tmp_path / "__pycache__/one.pyc").write_text("made")
    assert same.files([tmp_path, tmp_path / "nowhere"]) == before
    match change:
        case "write":
            file.write_text("a = 12")
        case "add":
            (tmp_path / "inner/two.py").write_text("")
        case "remove":
            file.unlink()
        case "swap":
            times = file.stat()
            (tmp_path / "new").write_text("a = 2")
            os.utime(tmp_path / "new", ns=(times.st_atime_ns, times.st_mtime_ns))
            (tmp_path / "new").rename(file)
    assert same.files([tmp_path, tmp_path / "nowhere"]) != before


def test_a_folder_behind_a_link_is_looked_through_once(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real/one.py").write_text("a = 1")
    (tmp_path / "seen").mkdir()
    (tmp_path / "seen/link").symlink_to(tmp_path / "real")
    (tmp_path / "seen/itself").symlink_to(tmp_path / "seen")
    before = same.files([tmp_path / "seen"])
    (tmp_path / "real/one.py").write_text("a = 12")
    assert same.files([tmp_path / "seen"]) != before


@pytest.mark.parametrize("roles", [None, "own roles"])
def test_it_is_loaded_with_the_settings_that_every_run_has(settings: Settings, tmp_path: Path, roles: str | None) -> None:
    """Else each of them would be started plain."""
    house = settings.model_copy(update={"roles_dir": tmp_path / roles if roles else None})
    given = []

    def ran(*, event_handler: Any, cancel_callback: Any, **asked: Any) -> SimpleNamespace:
        given.append(ansible_runner.interface.init_runner(**asked, cancel_callback=cancel_callback).config.env)
        return SimpleNamespace(rc=0)

    held = on_node.directories(house).make("job.1")
    run = playbook.Run(
        playbook="cloudpod_create.yml",
        inventory=house.inventory,
        limit="lab1",
        variables={"vmid": 9101},
        timeout_s=60,
        directory=held.path,
        project_dir=house.project_dir,
        control_dir=connections.directory(house.state_dir, house.inventory),
        mark="job.1",
        roles_dir=house.roles_dir,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ansible_runner, "run", ran)
        # Below this process are also the servers of the tests.
        patch.setattr(playbook, "end_descendants", lambda **_: 0)
        playbook.execute(run, on_task=lambda _: None, should_stop=lambda: None)
    held.end(None)
    assert same.settings(on_node.environment(house)) == same.settings(given[0])
    assert ("ANSIBLE_ROLES_PATH" in given[0]) is bool(roles)


def test_a_worker_that_asks_for_its_runs_environment_keeps_its_signals(settings: Settings) -> None:
    """ansible-runner has handlers of its own, which it sets where nobody gives it a way to be told."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    on_node.environment(settings)
    assert {number: signal.getsignal(number) for number in before} == before
