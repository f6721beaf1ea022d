"""The same command twice: as it is, and forked from a process that is kept warm."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pexpect
import psutil
import pytest

from shim.old_run import MARK
from shim.warm import keeper
from shim.warm.keeper import Keeper
from tests.processes import kill
from tests.stack import REPOSITORY, wait_until

PROGRAMS = Path(sys.executable).parent
CONFIG = """[defaults]
host_key_checking = True
retry_files_enabled = False
interpreter_python = {python}
collections_path = {collections}
"""
INVENTORY = """here ansible_connection=local
other ansible_connection=local
away ansible_host=127.0.0.1 ansible_port={port} ansible_ssh_common_args='-o ConnectTimeout=5'
"""
# What differs from one run of the same command to the next.
OF_A_RUN = (
    (re.compile(r"ansible-local-\w+"), "LOCAL"),
    (re.compile(r"ansible-tmp-[\w.-]+"), "TMP"),
    (re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d[.,\d]*"), "TIME"),
    (re.compile(r"\d:\d\d:\d\d\.\d+"), "DURATION"),
    (re.compile(r"<here> EXEC.*"), "EXEC"),
)


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, negative for a signal, and what it printed."""

    rc: int
    out: str
    err: str = ""


class Project:
    """A folder with ansible.cfg, an inventory and playbooks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "ansible.cfg").write_text(CONFIG.format(python=sys.executable, collections=REPOSITORY / "collections"))
        (folder / "hosts").write_text(INVENTORY.format(port=1))
        paths = os.pathsep.join([str(PROGRAMS), "/usr/bin", "/bin"])
        self.environment = {"HOME": str(folder), "PATH": paths, "LANG": "C.UTF-8", "TERM": "xterm"}
        self.environment["ANSIBLE_CONFIG"] = str(folder / "ansible.cfg")

    def write(self, name: str, text: str) -> str:
        """Write a file; return its name."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return name


def shown(text: str) -> str:
    """Return what was printed without what no two runs have in common."""
    for pattern, name in OF_A_RUN:
        text = pattern.sub(name, text)
    return text.replace("\r\n", "\n")


class Ways:
    """The ways to run a command in a project: `plain`, and `warm` by a keeper of these very settings."""

    def __init__(self, project: Project, settings: Mapping[str, str]) -> None:
        self.project = project
        self.environment = {**project.environment, **settings}
        self._state = Path(tempfile.mkdtemp(prefix="warm-"))
        self.keeper = Keeper(self._state, lambda: self.environment, project.folder)
        self._let_it_load()

    def _let_it_load(self) -> None:
        """Wait until a warm process has Ansible loaded: on a busy machine that may take longer than a run waits for it."""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as run:
            run.settimeout(30)
            run.connect(str(self.keeper._socket))
            run.recv(6)

    def program(self, way: str) -> Path:
        """Return the command of that way."""
        return (PROGRAMS if way == "plain" else self.keeper.bin) / "ansible-playbook"

    def started(self, way: str, *words: str, mark: str = "", **more: str) -> subprocess.Popen[str]:
        """Start it without a terminal, and return the process."""
        path = f"{self.program(way).parent}{os.pathsep}{self.environment['PATH']}"
        return subprocess.Popen(
            ["ansible-playbook", *words],
            executable=self.program(way),
            env={**self.environment, "PATH": path if way == "warm" else self.environment["PATH"], MARK: own(mark), **more},
            cwd=self.project.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, way: str, *words: str, **more: str) -> Ended:
        """Run it without a terminal, to its end."""
        process = self.started(way, *words, **more)
        out, err = process.communicate(timeout=60)
        return Ended(process.returncode, shown(out), shown(err))

    def on_terminal(self, way: str, *words: str, typed: str | None = None) -> Ended:
        """Run it on a terminal of its own, as ansible-runner does."""
        program = str(self.program(way))
        child = pexpect.spawn(
            program,
            list(words),
            env=self.environment,
            cwd=str(self.project.folder),
            encoding="utf-8",
            ignore_sighup=True,
            echo=False,
            dimensions=(24, 132),
            timeout=60,
        )
        if typed is not None:
            child.expect("say:")
            child.sendline(typed)
        before = child.before or ""
        child.expect(pexpect.EOF)
        out = before + (child.before or "")
        child.close()
        return Ended(child.exitstatus if child.signalstatus is None else -child.signalstatus, shown(out))

    def stop(self) -> None:
        """End what was begun."""
        self.keeper.stop()
        shutil.rmtree(self._state)

    def plainly(self) -> dict[str, int]:
        """Return how many of the runs were plain that should have been warm, by reason."""
        before = self.keeper.pid
        found = dict(self.keeper.look())
        if self.keeper.pid not in (None, before):
            self._let_it_load()
        return found


def own(mark: str) -> str:
    """Return the mark as this test process's runs bear it: others may be at the same tests on this machine."""
    return mark and f"{os.getpid()}-{mark}"


def marked(mark: str, *, below: int | None = None) -> list[psutil.Process]:
    """Return the processes that are seen as that run's, started by this test process; only the children of a pid, if given."""
    found = []
    for process in psutil.process_iter():
        try:
            of_run = process.environ().get(MARK) == own(mark) and process.status() != psutil.STATUS_ZOMBIE
            if of_run and below in (None, process.ppid()):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def kill_all(mark: str) -> None:
    """Kill what is left of a run."""
    for each in marked(mark):
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()


def gone(mark: str, within_s: float = 15) -> None:
    """Wait until nothing of a run is left."""
    wait_until(lambda: not marked(mark), f"nothing of {mark} lives", within_s)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def ways(project: Project) -> Iterator[Callable[..., Ways]]:
    """Return a function that gives the ways under some settings of the environment; each is begun once."""
    begun: dict[tuple[tuple[str, str], ...], Ways] = {}

    def under(**settings: str) -> Ways:
        key = tuple(sorted(settings.items()))
        if key not in begun:
            begun[key] = Ways(project, settings)
        return begun[key]

    yield under
    for each in begun.values():
        each.stop()


@pytest.fixture
def own_ways(tmp_path: Path) -> Iterator[Ways]:
    """Yield ways that the test may break."""
    each = Ways(Project(tmp_path), {})
    yield each
    each.stop()


PATCHED = """import os, pathlib, signal, sys, time
from shim.warm import become, guard, preload, serve, same

def waits(name):
    here = pathlib.Path({folder!r})
    (here / f"{{name}}.reached").touch()
    while not (here / f"{{name}}.on").exists():
        time.sleep(0.01)

{changes}
serve.main(*sys.argv[1:])
"""


@pytest.fixture
def changed_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Ways]]:
    """Return a function that gives ways whose warm process is changed by this text before it begins."""
    begun = []

    def make(changes: str, **settings: str) -> Ways:
        program = tmp_path / "serve.py"
        program.write_text(PATCHED.format(folder=str(tmp_path), changes=textwrap.dedent(changes)))
        monkeypatch.setattr(keeper, "SERVE", program)
        begun.append(Ways(Project(tmp_path), settings))
        return begun[-1]

    yield make
    for each in begun:
        each.stop()


def end(pid: int | None) -> None:
    """Kill a process, and wait until it is gone."""
    assert pid is not None
    kill(pid)


@pytest.fixture
def short_path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="warm-") as folder:
        yield Path(folder)
