"""A run that would be another, had it loaded Ansible itself, is never forked: whatever it would have read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import ansible
import psutil
import pytest

from shim.warm import keeper, preload, same
from tests.processes import has_ended
from tests.shim.warm.conftest import Ways
from tests.stack import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

PLAY = "[{hosts: here, gather_facts: false, tasks: [{debug: {msg: ran}}]}]"
OTHER = "stdout_callback = minimal\n"


@pytest.fixture
def again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "_AGAIN_S", 0.0)


def is_minimal(ways: Ways, way: str = "warm") -> bool:
    ended = ways.run(way, "-i", "hosts", "play.yml")
    assert ended.rc == 0, ended
    return "PLAY" not in ended.out


def look_until_another(ways: Ways, pid: int | None) -> dict[str, int]:
    wait_until(lambda: has_ended(pid), "the old one has ended")
    return ways.plainly()


@pytest.mark.parametrize("name", ["ansible.cfg", ".ansible.cfg"])
@pytest.mark.usefixtures("again_at_once")
def test_a_configuration_that_comes_later_is_seen(changed_ways: Callable[..., Ways], tmp_path: Path, name: str) -> None:
    """The user's own counts where the project has none; here both are in one folder."""
    ways = changed_ways("", **({} if name == "ansible.cfg" else {"ANSIBLE_CONFIG": str(tmp_path / "none.cfg")}))
    text = (tmp_path / "ansible.cfg").read_text()
    (tmp_path / "ansible.cfg").unlink()
    end_first(ways)
    ways.project.write("play.yml", PLAY)
    assert not is_minimal(ways)
    assert ways.plainly() == {}
    ways.project.write(name, text + OTHER)
    first = ways.keeper.pid
    assert is_minimal(ways)
    assert look_until_another(ways, first) == {"changed": 1}
    assert is_minimal(ways)
    assert ways.plainly() == {}


def end_first(ways: Ways) -> None:
    """Have another one begun, by what is there now."""
    warm = psutil.Process(ways.keeper.pid)
    warm.kill()
    look_until_another(ways, warm.pid)


@pytest.mark.usefixtures("again_at_once")
def test_what_changes_while_it_is_loaded_is_loaded_again(changed_ways: Callable[..., Ways]) -> None:
    ways = changed_ways(f"""
        load = preload.Loaded.__init__
        def changes(self, program):
            load(self, program)
            if serve._SECOND not in sys.orig_argv:
                with open("ansible.cfg", "a") as file:
                    file.write({OTHER!r})
        preload.Loaded.__init__ = changes
    """)
    ways.project.write("play.yml", PLAY)
    first = ways.keeper.pid
    assert is_minimal(ways)
    assert ways.plainly() == {}
    assert ways.keeper.pid == first
    assert len(list((ways.project.folder / ".ansible/tmp").iterdir())) == 1


def test_what_changes_all_the_time_is_left(changed_ways: Callable[..., Ways]) -> None:
    ways = changed_ways(f"""
        load = preload.Loaded.__init__
        def changes(self, program):
            load(self, program)
            with open("ansible.cfg", "a") as file:
                file.write({OTHER!r})
        preload.Loaded.__init__ = changes
    """)
    warm = psutil.Process(ways.keeper.pid)
    wait_until(lambda: has_ended(warm), "it has ended")
    ways.project.write("ansible.cfg", "[defaults]\n" + OTHER)
    ways.project.write("play.yml", PLAY)
    assert is_minimal(ways)
    assert ways.plainly() == {"absent": 1}


def test_paths_of_the_folder_in_which_runs_begin(changed_ways: Callable[..., Ways], tmp_path: Path) -> None:
    ways = changed_ways("", ANSIBLE_LOG_PATH="said")
    ways.project.write("ansible.cfg", (tmp_path / "ansible.cfg").read_text() + "roles_path = {{CWD}}/mine\n")
    ways.project.write("mine/one/tasks/main.yml", "[{debug: {msg: role}}]")
    ways.project.write("play.yml", "[{hosts: here, gather_facts: false, roles: [one]}]")
    ways.keeper.stop()
    ways = changed_ways("", ANSIBLE_LOG_PATH="said")
    ways.project.write("ansible.cfg", (tmp_path / "ansible.cfg").read_text() + "roles_path = {{CWD}}/mine\n")
    ended = [ways.run(way, "-i", "hosts", "play.yml") for way in ("plain", "warm")]
    assert ended[0] == ended[1]
    assert ended[0].rc == 0
    assert (tmp_path / "said").exists()


def test_a_run_in_another_folder_is_anothers(own_ways: Ways, tmp_path: Path) -> None:
    own_ways.project.write("play.yml", PLAY)
    (tmp_path / "elsewhere").mkdir()
    own_ways.project.folder = tmp_path / "elsewhere"
    assert own_ways.run("warm", "-i", "../hosts", "../play.yml").rc == 0
    assert own_ways.plainly() == {"settings": 1}


@pytest.mark.parametrize("folder", ["module_utils", "roles/one/module_utils"])
def test_a_module_is_packed_with_the_utilities_of_its_run(own_ways: Ways, folder: str) -> None:
    basic = (Path(ansible.__file__).parent / "module_utils/basic.py").read_text()
    own_ways.project.write("roles/one/tasks/main.yml", "[{ping: {}}]")
    own_ways.project.write("ping.yml", "[{hosts: here, gather_facts: false, roles: [one]}]")
    assert own_ways.run("warm", "-i", "hosts", "ping.yml").rc == 0
    packed = own_ways.keeper.bin.parent / "modules/ansible.modules.ping-ZIP_DEFLATED-none"
    wait_until(packed.exists, "the module is packed")
    own_ways.project.write(f"{folder}/basic.py", basic.replace('"msg"', '"msg"') + "\n" + BESIDE)
    plain, warm = (own_ways.run(way, "-v", "-i", "hosts", "ping.yml") for way in ("plain", "warm"))
    assert warm == plain
    assert "beside" in warm.out
    assert own_ways.plainly() == {}


BESIDE = """
_exit_json = AnsibleModule.exit_json
AnsibleModule.exit_json = lambda self, **given: _exit_json(self, beside=1, **given)
"""


@pytest.mark.parametrize("change", ["ansible/new", "new.dist-info", "ansible/release.py"])
def test_a_renewed_library_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    monkeypatch.setattr(preload, "_package", lambda name: tmp_path / name)
    (tmp_path / "ansible").mkdir()
    os.utime(tmp_path / "ansible", (1, 1))
    os.utime(tmp_path, (1, 1))
    before = same.files((), preload.read_when_loading())
    (tmp_path / change).touch()
    assert same.files((), preload.read_when_loading()) != before


def test_a_configuration_that_may_not_be_read_is_as_one_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file/ansible.cfg"
    assert same.files((), [path]) == {str(path): (0, 0, 0)}
