"""One run of a playbook on the lab, as a worker makes it: `python -m tests.lab.worker_run <json>` prints its outcome.

In a process of its own, because the end of a run ends everything below the process that made it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from shim.process import become_subreaper
from shim.worker import playbook
from tests.lab.real_node import INVENTORY, NODE, REPOSITORY

TIMEOUT_S = 240.0


def outcome(name: str, variables: dict, timeout_s: float = TIMEOUT_S) -> dict:
    """Run a playbook; return `result` or `failure`, the other None."""
    return wait(start(name, variables, timeout_s))


def start(name: str, variables: dict, timeout_s: float = TIMEOUT_S) -> subprocess.Popen[str]:
    """Begin a run; `wait` tells how it ended."""
    asked = json.dumps({"name": name, "variables": variables, "timeout_s": timeout_s})
    return subprocess.Popen([sys.executable, "-m", __name__, asked], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)


def wait(process: subprocess.Popen[str]) -> dict:
    """Wait for a run; return its outcome."""
    stdout, _ = process.communicate(timeout=TIMEOUT_S + 60)
    assert process.returncode == 0
    return dict(json.loads(stdout.splitlines()[-1]))


def main(asked: dict) -> None:
    """Run the playbook and print the outcome."""
    become_subreaper()
    # Short: ssh's control sockets lie below it.
    with tempfile.TemporaryDirectory(prefix="cp-") as folder:
        directory = Path(folder, "run")
        directory.mkdir(mode=0o700)
        run = playbook.Run(
            playbook=f"{asked['name']}.yml",
            inventory=INVENTORY,
            limit=NODE,
            variables=asked["variables"],
            timeout_s=asked["timeout_s"],
            directory=directory,
            project_dir=REPOSITORY,
            # Its own connections: one that is open already would not notice that the way is closed.
            control_dir=Path(folder, "cp"),
        )
        done = playbook.execute(run, on_task=lambda _: None, should_stop=lambda: None)
    print(json.dumps({"result": done.result, "failure": done.failure}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
