"""Run every benchmark, print its figures beside their limits, write them to bench.json; exit 1 when one is over."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path

from tests.benchmarks import create, memory, panel, reads, sweep
from tests.benchmarks.figures import Figure
from tests.stack import Stack


def main() -> int:
    """Return the exit code."""
    home = Path(tempfile.mkdtemp(prefix="cloudpods-bench-"))
    home.chmod(0o711)
    stack = Stack(home)
    figures: list[Figure] = []
    try:
        print("laying the lab, starting the stack", flush=True)
        stack.lay_lab()
        stack.start()
        stack.seed()
        for measure in (create.measure, reads.measure, memory.measure, sweep.measure):
            for figure in measure(stack):
                figures.append(figure)
                print(figure, flush=True)
        stack.stop()
        print("filling a control plane with a panel's years", flush=True)
        for figure in panel.measure():
            figures.append(figure)
            print(figure, flush=True)
    finally:
        stack.stop()
        shutil.rmtree(home, ignore_errors=True)
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()} {platform.release()}"
    report = {"machine": machine, "figures": [figure.as_json() for figure in figures]}
    Path("bench.json").write_text(json.dumps(report, indent=1) + "\n")
    over = [figure for figure in figures if not figure.met]
    print(f"{len(figures)} figures on {machine}; {len(over)} over their limit; written to bench.json")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
