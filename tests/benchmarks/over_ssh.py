"""Four lab nodes without delay behind a real sshd each, and a stack with four workers that reaches them by SSH."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg2
import yaml

from tests.sshd import nodes_over_ssh, why_not
from tests.stack import Stack

NODES = ("lab1", "lab2", "lab3", "lab4")
WORKERS = 4
QUIET = {"HEALTH_SWEEP_S": 0, "RECONCILE_S": 0, "NODE_SYNC_S": 0}


@contextmanager
def stack_over_ssh(*, at_once: bool = False, **settings: object) -> Iterator[Stack]:
    """Yield a running stack. By the clock it does nothing but what the settings say.

    With `at_once` the nodes' scripts answer at once (`at_once/`): what is measured is what comes before and after them.
    """
    assert not why_not(), why_not()
    home = Path(tempfile.mkdtemp(prefix="cloudpods-bench-"))
    home.chmod(0o711)
    try:
        with nodes_over_ssh(home, *NODES) as nodes:
            stack = Stack(home, inventory=str(nodes.inventory))
            stack.environment |= {f"CLOUDPODS_{name}": str(value) for name, value in {**QUIET, **settings}.items()}
            # What is run by hand shares connections too, but not with the person's own.
            stack.environment["ANSIBLE_SSH_CONTROL_PATH_DIR"] = str(home / "cp")
            if at_once:
                _put_scripts(home, nodes.inventory)
            else:
                stack.lay_lab(*NODES)
            try:
                stack.start(workers=WORKERS)
                yield stack
            finally:
                stack.stop()
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _put_scripts(home: Path, inventory: Path) -> None:
    for node in NODES:
        scripts = home / "at_once" / node
        shutil.copytree(Path(__file__).parent / "at_once", scripts)
        file = inventory / "host_vars" / f"{node}.yml"
        # As on a node: not the interpreter of a virtual environment, nor of a version manager, which take longer to start.
        settings = {
            "cloudpod_script_dir": str(scripts),
            "ansible_python_interpreter": shutil.which("python3", path="/usr/bin") or sys._base_executable,
        }
        file.write_text(file.read_text() + yaml.safe_dump(settings))


@contextmanager
def tables(stack: Stack) -> Iterator[psycopg2.extensions.cursor]:
    """Yield a way to the stack's tables; what was written is there when the block ends."""
    settings = json.loads((stack.state_dir / "settings.json").read_text())
    connection = psycopg2.connect(settings["database_url"])
    try:
        with connection, connection.cursor() as cursor:
            yield cursor
    finally:
        connection.close()
