"""The warm process over its life: whatever is not as it was costs a plain run and no more, and no run sees another's."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from shim.warm import keeper, serve
from shim.warm.keeper import Keeper
from tests.processes import has_ended
from tests.shim.warm.conftest import Project, Ways, end, gone, kill_all, marked
from tests.stack import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

PLAY = "[{hosts: here, gather_facts: false, tasks: [{debug: {msg: '{{ said | default(\"nothing\") }}'}}]}]"
SLOW = "[{hosts: here, gather_facts: false, tasks: [{command: sh -c 'echo $$ >> begun; exec sleep 300'}]}]"


@pytest.fixture(autouse=True)
def written(own_ways: Ways) -> None:
    own_ways.project.write("play.yml", PLAY)
    own_ways.project.write("slow.yml", SLOW)


def says(ways: Ways, **more: str) -> str:
    """Run the play warm, as far as that goes, and return what it printed."""
    ended = ways.run("warm", "-i", "hosts", "play.yml", **more)
    assert ended.rc == 0, ended
    return ended.out


def test_another_configuration_makes_a_new_one(own_ways: Ways, monkeypatch: pytest.MonkeyPatch) -> None:
    says(own_ways)
    assert own_ways.plainly() == {}
    own_ways.project.write("ansible.cfg", "[defaults]\nstdout_callback = minimal\ninventory = hosts\n")
    assert "PLAY" not in says(own_ways)
    first = own_ways.keeper.pid
    monkeypatch.setattr(keeper, "_AGAIN_S", 0.0)
    wait_until(lambda: has_ended(first), "the old one has ended")
    assert own_ways.plainly() == {"changed": 1}
    assert "PLAY" not in says(own_ways)
    assert own_ways.plainly() == {}
    assert own_ways.keeper.pid != first


def test_other_settings_are_anothers(own_ways: Ways) -> None:
    assert "PLAY" not in says(own_ways, ANSIBLE_STDOUT_CALLBACK="minimal")
    assert own_ways.plainly() == {"settings": 1}
    assert "PLAY" in says(own_ways)
    assert own_ways.plainly() == {}


def test_a_killed_one_is_begun_again(own_ways: Ways, monkeypatch: pytest.MonkeyPatch) -> None:
    end(own_ways.keeper.pid)
    says(own_ways)
    assert own_ways.plainly() == {"absent": 1}
    monkeypatch.setattr(keeper, "_AGAIN_S", 0.0)
    assert own_ways.plainly() == {}
    says(own_ways)
    assert own_ways.plainly() == {}


def test_one_that_ends_at_once_is_not_begun_without_end(own_ways: Ways) -> None:
    first = own_ways.keeper.pid
    end(first)
    for _ in range(3):
        own_ways.keeper.look()
    assert own_ways.keeper.pid == first


def test_a_host_that_cannot_begin_one_goes_on_without(own_ways: Ways, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever keeps it is a worker that has just ended a run, and must not end by this."""
    end(own_ways.keeper.pid)
    monkeypatch.setattr(keeper, "_AGAIN_S", 0.0)
    with monkeypatch.context() as full:
        full.setattr(Path, "mkdir", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        assert own_ways.plainly() == {}
    says(own_ways)
    assert own_ways.plainly() == {"absent": 1}
    says(own_ways)
    assert own_ways.plainly() == {}


def test_one_that_hangs_is_waited_for_a_little(own_ways: Ways) -> None:
    says(own_ways)
    os.kill(own_ways.keeper.pid or 0, signal.SIGSTOP)
    says(own_ways)
    os.kill(own_ways.keeper.pid or 0, signal.SIGCONT)
    assert own_ways.plainly() == {"late": 1}
    says(own_ways)
    assert own_ways.plainly() == {}


def test_what_it_forked_outlives_it(own_ways: Ways) -> None:
    """The end of the warm process is no end of a run."""
    own_ways.project.write("wait.yml", SLOW.replace("exec sleep 300", "while ! test -e go; do sleep 0.1; done"))
    process = own_ways.started("warm", "-i", "hosts", "wait.yml")
    wait_until((own_ways.project.folder / "begun").exists, "the task has begun")
    end(own_ways.keeper.pid)
    own_ways.project.write("go", "")
    assert process.communicate(timeout=30) and process.returncode == 0


@pytest.mark.parametrize("whom", ["stand-in", "guard", "run"])
def test_nothing_is_left_of_a_run_of_which_a_part_is_killed(own_ways: Ways, whom: str) -> None:
    process = own_ways.started("warm", "-i", "hosts", "slow.yml", mark="job-7.1")
    wait_until((own_ways.project.folder / "begun").exists, "the task has begun")
    guards = marked("job-7.1", below=own_ways.keeper.pid)
    assert len(guards) == 1
    runs = guards[0].children()
    assert len(runs) == 1
    end({"stand-in": process.pid, "guard": guards[0].pid, "run": runs[0].pid}[whom])
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL
    if whom == "guard":
        # Whoever keeps the warm process inherits the rest: a worker ends it after each run.
        kill_all("job-7.1")
    gone("job-7.1", 15)


def test_a_run_is_seen_by_its_mark_and_its_arguments(own_ways: Ways) -> None:
    process = own_ways.started("warm", "-i", "hosts", "slow.yml", mark="job-8.1")
    wait_until((own_ways.project.folder / "begun").exists, "the task has begun")
    shown = [each.cmdline() for each in marked("job-8.1")]
    assert any("slow.yml" in words and words[1].endswith("ansible-playbook") for words in shown)
    process.terminate()
    process.communicate(timeout=30)
    gone("job-8.1")


def _memory(pid: int) -> Iterator[bytes]:
    with Path(f"/proc/{pid}/mem").open("rb", 0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            found = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line)
            if found and "[vvar" not in line:
                start, stop = (int(each, 16) for each in found.groups())
                memory.seek(start)
                yield memory.read(stop - start)


def test_nothing_of_a_run_is_in_the_memory_that_the_next_is_forked_from(own_ways: Ways) -> None:
    secret = "".join(["sw", "ordf", "ish-", str(time.time_ns())])
    own_ways.project.write("variables.yml", f"said: {secret}\n")
    ended = own_ways.run("warm", "-i", "hosts", "play.yml", "-e", "@variables.yml", "-e", f"b={secret}", ELSEWHERE=secret)
    assert secret in ended.out
    assert own_ways.plainly() == {}
    try:
        pieces = list(_memory(own_ways.keeper.pid or 0))
    except PermissionError:
        pytest.skip("this kernel lets nobody read another process's memory (kernel.yama.ptrace_scope)")
    assert any(b"ansible" in piece for piece in pieces)
    assert not any(secret.encode() in piece for piece in pieces)
    assert "nothing" in says(own_ways)


def test_many_at_once_are_each_their_own(own_ways: Ways) -> None:
    words = [f"word-{number}" for number in range(6)]
    runs = [own_ways.started("warm", "-i", "hosts", "play.yml", "-e", f"said={word}") for word in words]
    for word, run in zip(words, runs, strict=True):
        out, _ = run.communicate(timeout=60)
        assert re.findall(r"word-\d", out) == [word]
    assert own_ways.plainly() == {}


def test_modules_are_packed_once(own_ways: Ways) -> None:
    own_ways.project.write("ping.yml", "[{hosts: here, gather_facts: false, tasks: [{ping: {}}]}]")
    first = own_ways.run("warm", "-i", "hosts", "ping.yml")
    packed = own_ways.keeper.bin.parent / "modules/ansible.modules.ping-ZIP_DEFLATED-none"
    wait_until(packed.exists, "the module is packed")
    before = packed.stat()
    assert own_ways.run("warm", "-i", "hosts", "ping.yml") == first
    assert (packed.stat().st_ino, packed.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_what_packs_is_no_run(own_ways: Ways) -> None:
    """A worker that ends all below it when a run is over leaves alone what works for the next."""
    own_ways.project.write("ping.yml", "[{hosts: here, gather_facts: false, tasks: [{ping: {}}]}]")
    keeper = own_ways.keeper
    packed = keeper.bin.parent / "modules/ansible.modules.ping-ZIP_DEFLATED-none"
    assert own_ways.run("warm", "-i", "hosts", "ping.yml", mark="job-9.1").rc == 0
    while not packed.exists():
        for process in psutil.Process(keeper.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if not keeper.is_own(process):
                    process.kill()
    assert keeper.is_own(psutil.Process(keeper.pid))
    slow = own_ways.started("warm", "-i", "hosts", "slow.yml", mark="job-9.2")
    wait_until((own_ways.project.folder / "begun").exists, "the task has begun")
    assert not any(keeper.is_own(process) for process in marked("job-9.2"))
    assert not keeper.is_own(psutil.Process())
    slow.terminate()
    slow.communicate(timeout=30)


def test_a_run_that_cannot_begin_has_failed(own_ways: Ways) -> None:
    """Its folder is gone when it is to enter it."""
    folder = own_ways.project.folder / "gone"
    folder.mkdir()
    program = "import os, sys; os.rmdir('.'); os.execv(sys.argv[1], sys.argv[1:])"
    words = [sys.executable, "-c", program, str(own_ways.program("warm")), "-i", "hosts", "../play.yml"]
    done = subprocess.run(words, cwd=folder, env=own_ways.environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0


def test_it_ends_with_its_worker(short_path: Path) -> None:
    environment, state = Project(short_path).environment, short_path / "state"
    program = (
        "import sys, pathlib, os\nfrom shim.warm.keeper import Keeper\n"
        "each = Keeper(pathlib.Path(sys.argv[1]), lambda: dict(os.environ), pathlib.Path.cwd())\n"
        "print(each.pid, flush=True)\nsys.stdin.read()\n"
    )
    words = [sys.executable, "-c", program, str(state)]
    with subprocess.Popen(words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout
        warm = psutil.Process(int(worker.stdout.readline()))
        worker.kill()
    wait_until(lambda: has_ended(warm), "it has ended")
    left = list((state / "warm").iterdir())
    assert len(left) == 1
    # The next worker of this host removes what the killed one could not.
    after = Keeper(state, lambda: environment, short_path)
    assert not left[0].exists()
    after.stop()
    assert list((state / "warm").iterdir()) == []


def test_a_folder_with_a_long_name_will_do(tmp_path: Path, short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket's path may have 107 bytes."""
    monkeypatch.setenv("HOME", str(short_path))
    each = Keeper(tmp_path / ("long" * 30), lambda: Project(tmp_path).environment, tmp_path)
    assert each.bin.is_relative_to(short_path)
    each.stop()
    assert not each.bin.exists()


def test_one_that_has_grown_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve.Server.__new__(serve.Server)
    woken, server._want = os.pipe()
    server._settings, server._files = {}, {}
    server._alone, server._directory = [], "/"
    server._loaded = type("Loaded", (), {"known": frozenset(), "watched": staticmethod(list)})()
    # A process that has run a thousand tests is a big one itself.
    monkeypatch.setattr(serve, "_own_mb", lambda: serve._MOST_MB)
    assert server._why_not({"environment": {}, "directory": "/"}) is None
    monkeypatch.undo()
    monkeypatch.setattr(serve, "_MOST_MB", 1)
    assert server._why_not({"environment": {}, "directory": "/"}) == "big"
    assert os.read(woken, 100) == serve._OLD
    for each in (woken, server._want):
        os.close(each)
