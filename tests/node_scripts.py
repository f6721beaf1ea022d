"""The node scripts laid beside a lab node's commands, without Ansible: copied files and a rendered settings.bash."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import psutil
import pytest
import yaml
from jinja2 import Environment, StrictUndefined, Template

from tests.lab_node import LabNode
from tests.processes import has_ended

ROLE = Path(__file__).resolve().parents[1] / "collections/ansible_collections/migra/cloudpods/roles/cloudpod_node"
IPAM_HEADER = "# addresses of this node\n"
DEADLINE_S = 60

Done = subprocess.CompletedProcess[str]


@cache
def settings_template() -> Template:
    """Return the role's template of settings.bash."""
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)
    environment.filters["quote"] = shlex.quote
    return environment.from_string((ROLE / "templates/settings.bash.j2").read_text())


@cache
def defaults() -> dict[str, object]:
    """Return the role's defaults."""
    return yaml.safe_load((ROLE / "defaults/main.yml").read_text())


class Scripts:
    """The scripts of one lab node, and what they leave on it."""

    def __init__(self, lab: LabNode) -> None:
        self.lab = lab
        self.ipam_file = lab.dir / "etc/migra/ipam-cloudpods.txt"
        self.keys_dir = lab.dir / "etc/migra/cloudpods-keys"
        self.log_file = lab.dir / "log/migra-cloudpods.log"
        self.lock_dir = lab.dir / "run/lock/cloudpods"
        self.state_dir = lab.dir / "var/lib/cloudpods"

    def install(self, **settings: object) -> None:
        """Lay scripts, library, address file and platform key; ``settings`` are role variables without their prefix."""
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROLE / "files/sbin", self.lab.dir / "sbin", dirs_exist_ok=True)
        shutil.copytree(ROLE / "files/lib", self.lab.dir / "lib/cloudpods", dirs_exist_ok=True, ignore=ignore)
        self.keys_dir.mkdir(parents=True, exist_ok=True)
        (self.keys_dir / "platform.pub").write_text("ssh-ed25519 AAAAplatform platform\n")
        self.ipam_file.write_text(IPAM_HEADER)
        text = settings_template().render({**defaults(), **self._paths(), **_prefixed(settings)})
        (self.lab.dir / "lib/cloudpods/settings.bash").write_text(text)

    def _paths(self) -> dict[str, object]:
        root = self.lab.dir
        return _prefixed({
            "ipam_file": str(self.ipam_file), "keys_dir": str(self.keys_dir), "log_file": str(self.log_file),
            "lock_dir": str(self.lock_dir), "state_dir": str(self.state_dir),
            "vzdump_lock": f"{root}/run/vzdump.lock",
            "pve_dir": f"{root}/etc/pve", "net_unix": f"{root}/run/net-unix",
            "cgroup_dir": f"{root}/sys/fs/cgroup/lxc", "proc_dir": f"{root}/proc",
            "path": f"{root}/bin:/usr/bin:/bin", "python": sys.executable,
        })  # fmt: skip

    def argv(self, name: str, *arguments: str | int) -> list[str]:
        """Return the whole command of a script, e.g. ``argv("destroy", 9101)``."""
        return [str(self.lab.dir / f"sbin/cloudpod-{name}.sh"), *map(str, arguments)]

    def run(self, name: str, *arguments: str | int) -> Done:
        """Run a script; return its rc and output, whatever the rc."""
        return self.lab.run(*self.argv(name, *arguments))

    def start(self, name: str, *arguments: str | int) -> subprocess.Popen[str]:
        """Start a script in a process group of its own, so that a test can end all of it."""
        argv = self.argv(name, *arguments)
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        # A shell that runs the tests in the background has them ignore SIGINT, and so would the script, unlike under sudo.
        return subprocess.Popen(argv, **pipes, start_new_session=True, preexec_fn=_heed_sigint)

    def create(self, vmid: int = 9101, **changes: str | int | None) -> Done:
        """Run cloudpod-create.sh with good arguments, some of them changed."""
        return self.run("create", *create_arguments(vmid, **changes))

    def created(self, vmid: int = 9101, **changes: str | int | None) -> dict[str, str]:
        """As ``create``, which must succeed; return the summary."""
        done = self.create(vmid, **changes)
        assert done.returncode == 0, done.stderr
        return summary(done)

    def info(self, *vmids: int) -> list[dict]:
        """Return the rows of cloudpod-info.sh; no vmid means all."""
        done = self.run("info", *(vmids or ("--all",)))
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)["pods"]

    def ipam(self) -> list[str]:
        """Return the lines of the address file after its header."""
        text = self.ipam_file.read_text()
        assert text.startswith(IPAM_HEADER)
        return text[len(IPAM_HEADER) :].splitlines()

    def log(self) -> list[dict]:
        """Return the log's lines, each of them parsed."""
        return [json.loads(line) for line in self.log_file.read_text().splitlines()] if self.log_file.exists() else []

    def outcomes(self) -> list[str]:
        """Return the outcomes in the log."""
        return [line["outcome"] for line in self.log()]

    def traces(self, vmid: int) -> dict[str, object]:
        """Return everything that is on the node because of a vmid; all of it empty when there is nothing."""
        lines = [line for line in self.ipam() if f" {vmid} " in line]
        lock = self.lock_dir / str(vmid)
        return {
            "conf": self.lab.conf(vmid), "disks": self.lab.disks(vmid), "pool": vmid in self.lab.pool(),
            "ipam": lines, "running": self.lab.running(vmid), "lock": lock.exists() and lock.read_text(),
            "notes": sorted(path.name for path in self.state_dir.glob(f"*/*{vmid}*")),
        }  # fmt: skip

    def assert_no_trace(self, vmid: int) -> None:
        """Fail unless nothing on the node is there because of a vmid."""
        assert not any(self.traces(vmid).values()), self.traces(vmid)

    def hold(self, name: str) -> int:
        """Hold a lock as another run would; return the descriptor to close."""
        self.lock_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = os.open(self.lock_dir / name, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
        return fd


def _heed_sigint() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _prefixed(settings: dict[str, object]) -> dict[str, object]:
    return {f"cloudpod_node_{name}": value for name, value in settings.items()}


def create_arguments(vmid: int | str = 9101, **changes: str | int | None) -> list[str]:
    """Return good arguments of cloudpod-create.sh; ``ssh_keys="x"`` sets ``--ssh-keys``, None leaves an option out."""
    options: dict[str, str | int | None] = {
        "vmid": vmid, "host": "client-portal", "tenant": "TENANT-123", "bridge": "vmbr0", "storage": "clients-main",
        "cores": 2, "mem": 2048, "swap": 512, "pod": "abc", "run": "job1.1",
    }  # fmt: skip
    options |= {name.replace("_", "-"): value for name, value in changes.items()}
    words = [word for name, value in options.items() if value is not None for word in (f"--{name}", str(value))]
    return words if "ip" in changes else [*words, "--auto-ip"]


def summary(done: Done) -> dict[str, str]:
    """Return stdout's lines as a dict; every line must be ``Key      : value``."""
    pairs = [line.split(": ", 1) for line in done.stdout.splitlines()]
    assert all(len(key) == 9 for key, _ in pairs), done.stdout
    return {key.rstrip(): value for key, value in pairs}


def failure(done: Done) -> dict[str, str]:
    """Return the three last lines of stderr, which every failure has; stdout is empty then."""
    assert done.returncode != 0 and done.stdout == "", done
    pairs = [line.split(": ", 1) for line in done.stderr.splitlines()[-3:]]
    assert [key for key, _ in pairs] == ["Error    ", "Retryable", "Left     "], done.stderr
    return {key.rstrip(): value for key, value in pairs}


def taken(done: Done) -> str | None:
    """Return what a failure says somebody else has, None when it does not say so."""
    found = [line.partition(": ")[2] for line in done.stderr.splitlines()[:-3] if line.startswith("Taken    : ")]
    return found[0] if found else None


def finished(process: subprocess.Popen[str]) -> Done:
    """Wait for a started script; return its rc and output."""
    stdout, stderr = process.communicate(timeout=DEADLINE_S)
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Return as soon as the condition holds; fail after a deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {DEADLINE_S} s"
        time.sleep(0.01)


def has_begun(process: subprocess.Popen[str], word: str) -> bool:
    """Return whether a started script has one of the node's commands at work, e.g. ``shutdown``."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return any(word in _command_line(child) for child in children)


def _command_line(pid: str) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:  # it has ended meanwhile
        return []


def kill_all_of(process: subprocess.Popen[str]) -> None:
    """Kill a started script and everything it started, as a crash of the node would."""
    group = [each for each in psutil.process_iter() if _is_of(each, process.pid)]
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=DEADLINE_S)
    # Whoever does not hold our pipes may end a moment later.
    wait_until(lambda: all(has_ended(each) for each in group), "all of it has ended")


def _is_of(process: psutil.Process, group: int) -> bool:
    try:
        return os.getpgid(process.pid) == group
    except ProcessLookupError:
        return False


@pytest.fixture
def node(lab: LabNode) -> Iterator[Scripts]:
    """Return a lab node with our scripts."""
    scripts = Scripts(lab)
    scripts.install()
    yield scripts
