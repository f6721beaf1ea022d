"""Looking at a node with 1,000 pods in one call, by script and by module."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.figures import Figure
from tests.stack import REPOSITORY, Stack

PODS = 1000


def measure(stack: Stack) -> Iterator[Figure]:
    """Yield the time of each look."""
    fill(stack.lab, PODS, 20000)
    for name in ("info", "health"):
        seconds, pods = _script(stack, name)
        yield Figure(f"cloudpod-{name}.sh --all, {pods} pods", seconds, "s", 3)
        yield Figure(
            f"module cloudpod_{name} all=true, {pods} pods, ansible's own start included", _module(stack, name), "s", 3
        )


def fill(lab: Path, pods: int, first_vmid: int) -> None:
    """Give a laid node running pods."""
    lab_init = [sys.executable, "-IS", str(REPOSITORY / "roles/lab_node/files/pve_lab/__main__.py"), "-", "lab-init"]
    options = ["--node", lab.name, "--in-place", "--pods", str(pods), "--first-vmid", str(first_vmid)]
    subprocess.run([*lab_init, str(lab), *options], check=True, capture_output=True)


def _script(stack: Stack, name: str) -> tuple[float, int]:
    began = time.monotonic()
    done = subprocess.run([str(stack.lab / f"sbin/cloudpod-{name}.sh"), "--all"], check=True, capture_output=True, text=True)
    seconds = time.monotonic() - began
    pods = len(json.loads(done.stdout)["pods"])
    assert pods >= PODS
    return seconds, pods


def _module(stack: Stack, name: str) -> float:
    ansible = str(Path(sys.executable).with_name("ansible"))
    arguments = f"all=true sudo=false script_dir={stack.lab}/sbin"
    command = [ansible, "-i", "inventories/lab", "lab1", "-m", f"migra.cloudpods.cloudpod_{name}", "-a", arguments]
    environment = {**os.environ, **stack.environment, "ANSIBLE_STDOUT_CALLBACK": "minimal"}
    began = time.monotonic()
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, check=True, capture_output=True, text=True)
    assert len(re.findall(r"\bvmid\b", done.stdout)) >= PODS
    return time.monotonic() - began
