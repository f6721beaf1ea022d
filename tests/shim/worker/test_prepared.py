"""What a worker has ready before it forks for a job."""

from __future__ import annotations

import subprocess
import sys
import textwrap

PROGRAM = """
    import sys
    from pathlib import Path
    from shim.config import Settings
    from shim.jobs.catalog import ACTIONS, QUEUES
    from shim.worker import main, run

    settings = Settings(database_url="postgresql://localhost/none", redis_url="redis://localhost", state_dir=Path("/nowhere"))
    run.prepare(run.Context(settings=settings, name="worker", queues=QUEUES))
    before = set(sys.modules)
    for action in ACTIONS.values():
        action.handler, action.clashes
    print(sorted(set(sys.modules) - before))
"""


def test_a_fork_imports_nothing_to_know_what_its_job_means():
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM)], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"
