"""What the collection's tests stand on: its code without Ansible, its modules in this process, and a lab."""

from __future__ import annotations

import functools
import importlib
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import ansible_runner
import pytest

from tests.node_scripts import Scripts

REPOSITORY = Path(__file__).resolve().parents[2]
COLLECTIONS = REPOSITORY / "collections"
BIN = Path(sys.executable).parent
MODULES = "ansible_collections.migra.cloudpods.plugins.modules"

sys.path.insert(0, str(COLLECTIONS))

PLAYBOOKS = {"drill": "restore_drill.yml"}

VMIDS = itertools.count(9201)


class Node:
    """A lab node: its directory, and its scripts as the modules call them."""

    def __init__(self, directory: Path) -> None:
        self.dir = directory

    @property
    def access(self) -> dict:
        """Return the parameters that lead a module to this node's scripts."""
        return {"script_dir": str(self.dir / "sbin"), "sudo": False}

    def switch(self, *words: str) -> None:
        """Change how the node's commands behave: ``lab-switch fail "pct start" --times 1``."""
        subprocess.run([self.dir / "bin/lab-switch", *words], check=True, capture_output=True)

    def conf(self, vmid: int) -> str | None:
        """Return a container's file, or None when there is no such container."""
        path = self.dir / f"etc/pve/nodes/{self.dir.name}/lxc/{vmid}.conf"
        return path.read_text() if path.exists() else None

    def edit_conf(self, vmid: int, change: Callable[[str], str]) -> None:
        """Change a container's file behind the scripts' back, as somebody with root may."""
        path = self.dir / f"etc/pve/nodes/{self.dir.name}/lxc/{vmid}.conf"
        path.write_text(change(path.read_text()))

    def state(self) -> dict[str, bytes]:
        """Return every file that a change would show in: confs, pools, addresses, disks, archives and the log."""
        shown = ("etc", "clients", "log", "backup")
        return {
            str(path.relative_to(self.dir)): path.read_bytes()
            for top in self.dir.iterdir()
            if top.name.startswith(shown)
            for path in sorted(top.rglob("*"))
            if path.is_file()
        }


@pytest.fixture(scope="session")
def lab_parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lay the nodes lab1 and lab2 once for all tests of a process, where the lab's inventory looks for them.

    As the node's own tests do it, without Ansible: that the roles lay the same is Molecule's to show.
    """
    return lay(tmp_path_factory.mktemp("lab"))


def lay(parent: Path) -> Path:
    """Lay the nodes lab1 and lab2 below ``parent``; return it."""
    for name in ("lab1", "lab2"):
        program = REPOSITORY / "roles/lab_node/files/pve_lab/__main__.py"
        subprocess.run([sys.executable, "-IS", program, "-", "lab-init", parent / name, "--node", name], check=True)
        Scripts(SimpleNamespace(dir=parent / name)).install()
    return parent


@pytest.fixture
def node(lab_parent: Path) -> Iterator[Node]:
    """Return the node lab1, whose switches are set back afterwards."""
    lab1 = Node(lab_parent / "lab1")
    yield lab1
    lab1.switch("reset")


@pytest.fixture
def fresh_lab(tmp_path: Path) -> Path:
    """Lay two nodes for one test alone, whose addresses and vmids no other test has used; return the folder they are in."""
    return lay(tmp_path)


@pytest.fixture
def vmid() -> int:
    """Return a vmid that no other test uses on its node."""
    return next(VMIDS)


@pytest.fixture
def run_module(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., SimpleNamespace]:
    """Return a function that calls a module as AnsibleModule does, by JSON in and JSON out, and returns its result."""

    def run(name: str, /, _check: bool = False, **parameters: object) -> SimpleNamespace:
        from ansible.module_utils.common import warnings
        from ansible.module_utils.testing import patch_module_args

        monkeypatch.setattr(warnings, "_global_warnings", {})
        module = importlib.import_module(f"{MODULES}.{name}")
        capsys.readouterr()
        with (
            patch_module_args({**parameters, "_ansible_check_mode": _check, "_ansible_diff": True}),
            pytest.raises(SystemExit) as ended,
        ):
            module.main()
        result = json.loads(capsys.readouterr().out)
        assert bool(ended.value.code) == bool(result.get("failed"))
        result.setdefault("changed", False)
        warned = [each["event"]["msg"] if isinstance(each, dict) else each for each in result.pop("warnings", [])]
        return SimpleNamespace(raw=result, failed=bool(result.get("failed")), warnings="\n".join(warned), **_free(result))

    return run


def _free(result: dict) -> dict:
    return {key: value for key, value in result.items() if key not in ("failed", "warnings", "raw")}


class SiteScripts:
    """A site's own scripts, each of which writes down its arguments before it does what a test wants."""

    def __init__(self, directory: Path) -> None:
        self.dir = directory
        self.access = {"script_dir": str(directory), "sudo": False}

    def write(self, verb: str, body: str) -> None:
        """Write ``cloudpod-<verb>.sh``."""
        script = self.dir / f"cloudpod-{verb}.sh"
        script.write_text(f'#!/bin/bash\n# Acme hosting\necho "$*" >>"$0.args"\n{body}\n')
        script.chmod(0o755)

    def write_ours(self, verb: str, body: str) -> None:
        """Write ``cloudpod-<verb>.sh`` as one of ours, which the modules know by its marker."""
        self.write(verb, body)
        script = self.dir / f"cloudpod-{verb}.sh"
        script.write_text(script.read_text().replace("# Acme hosting", "# migra.cloudpods: what a test wants"))

    def show(self, *rows: dict) -> None:
        """Let our info script answer with these rows."""
        (self.dir / "rows.json").write_text(json.dumps({"node": "lab1", "pool": "ClientPods", "pods": rows}))
        self.write_ours("info", 'cat "${0%/*}/rows.json"')

    def change(self, verb: str, summary: dict, *rows: dict) -> None:
        """Let one of our scripts succeed with a summary, after which the info script answers with these rows."""
        (self.dir / f"{verb}.json").write_text(json.dumps({"node": "lab1", "pool": "ClientPods", "pods": rows}))
        lines = "\n".join(f"{key:<9}: {value}" for key, value in summary.items())
        self.write_ours(verb, f'cp "${{0%/*}}/{verb}.json" "${{0%/*}}/rows.json"\ncat <<EOF\n{lines}\nEOF')

    def fail(self, verb: str, rc: int, error: str, retryable: str = "no", left: str = "nothing") -> None:
        """Let one of our scripts fail as ours do."""
        self.write_ours(verb, f"cat >&2 <<EOF\nError    : {error}\nRetryable: {retryable}\nLeft     : {left}\nEOF\nexit {rc}")

    def calls(self, verb: str) -> list[str]:
        """Return the arguments of every call of a script."""
        log = self.dir / f"cloudpod-{verb}.sh.args"
        return log.read_text().splitlines() if log.exists() else []


@pytest.fixture
def site(tmp_path: Path) -> SiteScripts:
    """Return a directory for a site's own scripts, empty."""
    return SiteScripts(tmp_path)


@pytest.fixture
def playbook(lab_parent: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs a playbook on the lab."""
    return functools.partial(run_playbook, lab_parent)


@pytest.fixture
def fresh_playbook(fresh_lab: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs a playbook on the test's own lab."""
    return functools.partial(run_playbook, fresh_lab)


def run_playbook(
    parent: Path, playbook: str, *options: str, check: bool = True, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run one of the repository's playbooks against the lab below ``parent``, as somebody at a terminal would."""
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")},
        "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "CLOUDPODS_LAB_DIR": str(parent),
        "ANSIBLE_LOCAL_TEMP": str(parent / "ansible-tmp"),
        "ANSIBLE_NOCOLOR": "1",
        **environment,
    }
    done = subprocess.run(
        [BIN / "ansible-playbook", "-i", "inventories/lab", REPOSITORY / "playbooks" / playbook, *options],
        cwd=REPOSITORY,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 or not check, f"{playbook} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done


class Outcome:
    """What a run of a playbook came to, as ansible-runner and hence AWX and the shim see it."""

    def __init__(self, done: ansible_runner.Runner) -> None:
        self.rc = done.rc
        self.text = done.stdout.read()
        self.failures = []
        self.result = self.recap = None
        for event in done.events:
            if event["event"] == "runner_on_failed":
                self.failures.append(event["event_data"]["res"])
            if event["event"] == "playbook_on_stats":
                self.recap = event["event_data"]
                self.result = self.recap["artifact_data"].get("result")


@pytest.fixture
def run(lab_parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """Return a function that runs a verb's playbook with variables and options, and returns its outcome."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    numbers = itertools.count()

    def call(verb: str, options: str = "", /, **variables: object) -> Outcome:
        file = tmp_path / f"variables{next(numbers)}.json"
        file.write_text(json.dumps(variables))
        return Outcome(
            ansible_runner.run(
                private_data_dir=str(tmp_path),
                playbook=str(REPOSITORY / "playbooks" / (PLAYBOOKS.get(verb, f"cloudpod_{verb}.yml"))),
                inventory=str(REPOSITORY / "inventories/lab"),
                cmdline=f"-e @{file} {options}",
                envvars={"ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"), "CLOUDPODS_LAB_DIR": str(lab_parent)},
                quiet=True,
            )
        )

    return call
