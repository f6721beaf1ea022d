"""Run the benchmarks, or those that are named; print their figures beside their limits; exit 1 when one is over.

python -m tests.benchmarks [NAME]...      All of them write bench.json.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.benchmarks import claim, create, deployments, latency, memory, panel, reads, sweep, sweeps, throughput, warm
from tests.benchmarks.figures import Figure
from tests.stack import Stack

# On one stack, whose node is reached without SSH, in this order: the last leaves its node full.
ON_A_STACK: dict[str, Callable[[Stack], Iterator[Figure]]] = {
    "latency": latency.measure,
    "create": create.measure,
    "reads": reads.measure,
    "memory": memory.measure,
    "sweep": sweep.measure,
}
# Each with servers of its own.
ALONE: dict[str, Callable[[], Iterator[Figure]]] = {
    "claim": claim.measure,
    "warm": warm.measure,
    "throughput": throughput.measure,
    "deployments": deployments.measure,
    "sweeps": sweeps.measure,
    "panel": panel.measure,
}


def main(names: list[str]) -> int:
    """Return the exit code."""
    if unknown := set(names) - {*ON_A_STACK, *ALONE}:
        print(
            f"no benchmark is called {', '.join(sorted(unknown))}; there are {', '.join([*ON_A_STACK, *ALONE])}",
            file=sys.stderr,
        )
        return 2
    figures = []
    for figure in _figures(names or [*ON_A_STACK, *ALONE]):
        figures.append(figure)
        print(figure, flush=True)
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()} {platform.release()}"
    over = [figure for figure in figures if not figure.met]
    print(f"{len(figures)} figures on {machine}; {len(over)} over their limit")
    if not names:
        report = {"machine": machine, "figures": [figure.as_json() for figure in figures]}
        Path("bench.json").write_text(json.dumps(report, indent=1) + "\n")
        print("written to bench.json")
    return 1 if over else 0


def _figures(names: list[str]) -> Iterator[Figure]:
    if on_a_stack := [measure for name, measure in ON_A_STACK.items() if name in names]:
        yield from _on_a_stack(on_a_stack)
    for name, measure in ALONE.items():
        if name in names:
            print(f"starting what {name} needs", flush=True)
            yield from measure()


def _on_a_stack(measures: list[Callable[[Stack], Iterator[Figure]]]) -> Iterator[Figure]:
    home = Path(tempfile.mkdtemp(prefix="cloudpods-bench-"))
    home.chmod(0o711)
    stack = Stack(home)
    try:
        print("laying the lab, starting the stack", flush=True)
        stack.lay_lab()
        stack.start(said=home / "said")
        stack.seed()
        for measure in measures:
            yield from measure(stack)
    finally:
        stack.stop()
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
