"""The worker's side: what stands on the disk, who may remove it, and that nothing of it ever keeps a worker from its work."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from shim.warm import begun, keeper
from shim.warm.keeper import Keeper
from tests.processes import has_ended
from tests.shim.warm.conftest import Project, Ways, end
from tests.stack import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PLAY = "[{hosts: here, gather_facts: false, tasks: [{debug: {msg: ran}}]}]"


@pytest.fixture
def again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "_AGAIN_S", 0.0)


@pytest.fixture
def make(short_path: Path) -> Iterator[Callable[..., Keeper]]:
    """Return a way to make a keeper in that state folder, whose runs have this project's environment."""
    project, made = Project(short_path), []

    def keep(state: Path, **changes: str) -> Keeper:
        made.append(Keeper(state, lambda: {**project.environment, **changes}, short_path))
        return made[-1]

    yield keep
    for each in made:
        each.stop()


def ran(ways: Ways) -> dict[str, int]:
    """Run a play as a worker does, by its PATH, and return why it was a plain one, if it was."""
    ways.project.write("play.yml", PLAY)
    environment = {**ways.environment, "PATH": f"{ways.keeper.bin}:{ways.environment['PATH']}"}
    words = ["/bin/sh", "-c", "exec ansible-playbook -i hosts play.yml"]
    subprocess.run(words, env=environment, cwd=ways.project.folder, check=True, capture_output=True, timeout=60)
    return dict(ways.keeper.look(begun=1))


@pytest.mark.parametrize(("gone", "reason"), [("bin", "none"), ("socket", "absent"), ("modules", "broken"), (".", "none")])
@pytest.mark.usefixtures("again_at_once")
def test_what_somebody_removed_is_made_again(own_ways: Ways, gone: str, reason: str) -> None:
    assert ran(own_ways) == {}
    path = own_ways.keeper.bin.parent / gone
    path.unlink() if path.is_socket() else shutil.rmtree(path)
    assert ran(own_ways) == {reason: 1}
    assert ran(own_ways) == {}


def test_the_folder_of_a_worker_that_lives_is_left_alone(own_ways: Ways, make: Callable[..., Keeper]) -> None:
    """Also by one of another container, which sees none of its processes."""
    (own_ways._state / "warm/1-1").mkdir()
    program = "import os, pathlib, sys; from shim.warm.keeper import Keeper; Keeper(pathlib.Path(sys.argv[1]), dict, None)"
    words = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", program, str(own_ways._state)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode and "unshare" in done.stderr:
        pytest.skip("only root may make a pid namespace here")
    assert done.returncode == 0, done.stderr
    assert not (own_ways._state / "warm/1-1").exists()
    assert own_ways.keeper.bin.exists()


def test_a_folder_that_is_there_already_will_do(
    make: Callable[..., Keeper], short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper.secrets, "token_hex", lambda _: "same")
    left = short_path / f"state/warm/{os.getpid()}-same"
    (left / "bin").mkdir(parents=True)
    (short_path / "state/warm").chmod(0o700)
    (left / "socket").touch()
    assert make(short_path / "state").pid is not None


@pytest.mark.usefixtures("again_at_once")
def test_one_that_hangs_is_replaced(own_ways: Ways) -> None:
    assert ran(own_ways) == {}
    first = psutil.Process(own_ways.keeper.pid)
    first.suspend()
    assert ran(own_ways) == {"late": 1}
    assert own_ways.keeper.pid != first.pid
    assert not first.is_running()
    assert ran(own_ways) == {}


def test_one_that_has_just_begun_may_be_late(own_ways: Ways) -> None:
    first = psutil.Process(own_ways.keeper.pid)
    first.suspend()
    assert ran(own_ways) == {"late": 1}
    assert own_ways.keeper.pid == first.pid
    first.resume()


@pytest.mark.usefixtures("again_at_once")
def test_what_cannot_begin_at_first_is_tried_again(make: Callable[..., Keeper], short_path: Path) -> None:
    blocked = short_path / "state"
    blocked.write_text("a file where the folder is to be")
    kept = make(blocked)
    assert kept.pid is None
    assert kept.look(begun=2) == {"none": 2}
    blocked.unlink()
    assert kept.look(begun=1) == {"none": 1}
    assert kept.pid is not None
    assert kept.look(begun=1) == {}


def test_runs_are_counted_where_there_is_no_ansible_playbook(make: Callable[..., Keeper], short_path: Path) -> None:
    kept = make(short_path / "state", PATH="/nowhere")
    assert kept.pid is None
    assert kept.look(begun=1) == {"none": 1}
    assert kept.look(begun=0) == {}


def test_its_own_stand_in_is_no_plain_command(
    make: Callable[..., Keeper], short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "_AGAIN_S", 0.0)
    kept = make(short_path / "state")
    before = (kept.bin / "ansible-playbook").read_text()
    given = kept._environment
    kept._environment = lambda: {**given(), "PATH": f"{kept.bin}:{given()['PATH']}"}
    end(kept.pid)
    kept.look()
    assert (kept.bin / "ansible-playbook").read_text() == before


def test_a_relative_state_folder_will_do(
    make: Callable[..., Keeper], short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs begin in another folder than the worker."""
    monkeypatch.chdir(short_path)
    kept = make(Path("state"))
    monkeypatch.chdir("/")
    assert kept.bin.is_absolute()
    assert (kept.bin / "ansible-playbook").exists()
    assert str(short_path / "state") in (kept.bin / "ansible-playbook").read_text()


@pytest.mark.parametrize("other", ["open", "link"])
def test_a_folder_that_others_may_change_is_not_used(make: Callable[..., Keeper], short_path: Path, other: str) -> None:
    """What stands in it is run by every run."""
    parent = short_path / "state/warm"
    parent.parent.mkdir()
    if other == "open":
        parent.mkdir()
        parent.chmod(0o777)
    else:
        (short_path / "real").mkdir(mode=0o700)
        parent.symlink_to(short_path / "real")
    kept = make(short_path / "state")
    assert kept.pid is None
    assert list(parent.iterdir()) == []
    assert kept.look(begun=1) == {"none": 1}


def ends(pid: int) -> None:
    """Wait until a process that is nobody's child here has ended."""
    wait_until(lambda: has_ended(pid), "it has ended", 60)


def bears(folder: Path) -> list[list[str]]:
    """Return the commands that name this folder."""
    commands = [each.info["cmdline"] or [] for each in psutil.process_iter(["cmdline"])]
    return [command for command in commands if str(folder) in " ".join(command)]


KILLED_EARLY = """
import os, pathlib, signal, sys, time
from shim.warm import keeper
real = keeper.end_with_parent
def slowly(number):
    ask = real(number)
    def before():
        pathlib.Path(sys.argv[1], "pid").write_text(str(os.getpid()))
        os.kill(os.getppid(), signal.SIGKILL)
        while os.getppid() == int(sys.argv[2]) or os.getppid() == worker:
            time.sleep(0.01)
        ask()
    return before
keeper.end_with_parent = slowly
worker = os.getpid()
keeper.Keeper(pathlib.Path(sys.argv[1]), lambda: dict(os.environ), pathlib.Path("/"))
"""


def test_a_worker_that_is_killed_while_it_begins_leaves_nothing(short_path: Path) -> None:
    words = [sys.executable, "-c", KILLED_EARLY, str(short_path), "0"]
    subprocess.run(words, env=Project(short_path).environment, timeout=60, check=False)
    ends(int((short_path / "pid").read_text()))
    assert bears(short_path) == []


KILLED_UNHEARD = """
import os, pathlib, signal, socket, sys
from shim.warm import keeper
keeper.end_with_parent = lambda number: lambda: None
kept = keeper.Keeper(pathlib.Path(sys.argv[1]), lambda: dict(os.environ), pathlib.Path("/"))
pathlib.Path(sys.argv[1], "pid").write_text(str(kept.pid))
if sys.argv[2] == "serving":
    with socket.socket(socket.AF_UNIX) as run:
        run.connect(str(kept._socket))
        assert run.recv(6) == b"hello\\n"
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("when", ["loading", "serving"])
def test_a_warm_process_that_does_not_hear_of_its_workers_end_sees_it(short_path: Path, when: str) -> None:
    words = [sys.executable, "-c", KILLED_UNHEARD, str(short_path), when]
    worker = subprocess.run(words, env=Project(short_path).environment, timeout=60, check=False)
    assert worker.returncode == -signal.SIGKILL, "it served before, if it was to"
    ends(int((short_path / "pid").read_text()))
    assert bears(short_path) == []


def test_a_worker_knows_how_many_runs_its_child_began() -> None:
    begun.taken()
    child = os.fork()
    if child == 0:
        begun.note()
        begun.note()
        os._exit(0)
    os.waitpid(child, 0)
    assert (begun.taken(), begun.taken()) == (2, 0)


WITHOUT_GUARD = """
import os, pathlib, psutil, sys, threading, time
from shim import process
from shim.warm.keeper import Keeper
from shim.worker import playbook
from tests.shim.warm.conftest import marked, own
here = pathlib.Path(sys.argv[1])
process.become_subreaper()
given = dict(os.environ)
kept = Keeper(here / "state", lambda: playbook.environment(here / "hosts", here, here / "cp"), here)
os.environ["PATH"] = f"{kept.bin}:{given['PATH']}"
child = os.fork()
if child == 0:
    process.become_subreaper()
    mark = own("job-1.1")
    def kill():
        while not (here / "begun").exists():
            time.sleep(0.02)
        guards = marked("job-1.1", below=kept.pid)
        for each in guards:
            each.kill()
    threading.Thread(target=kill).start()
    run = playbook.Run("slow.yml", here / "hosts", "here", {}, 60, here / "run", here, here / "cp", mark=mark)
    ended = playbook.execute(run, on_task=lambda _: None, should_stop=lambda: None)
    print("LEFT", len(marked("job-1.1")), ended.failure["msg"], flush=True)
    os._exit(0)
os.waitpid(child, 0)
process.end_descendants(grace_s=0.0, spare=kept.is_own)
print("WHY", dict(kept.look(1)), flush=True)
kept.stop()
"""


def test_no_outcome_is_told_while_the_tree_of_a_run_without_guard_lives(short_path: Path) -> None:
    project = Project(short_path)
    task = f"sh -c 'trap : TERM; echo > {short_path}/begun; while :; do sleep 0.1; done'"
    project.write("playbooks/slow.yml", f'[{{hosts: here, gather_facts: false, tasks: [{{command: "{task}"}}]}}]')
    environment = {**project.environment, "PYTHONPATH": str(Path(__file__).parents[3])}
    words = [sys.executable, "-c", WITHOUT_GUARD, str(short_path)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert "LEFT 0 the run was ended: ansible-playbook was killed" in done.stdout, done
    assert "WHY {}" in done.stdout, done
