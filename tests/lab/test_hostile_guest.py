"""A real container whose `cat` means harm: it gets nothing of the node's, and its vmid stays free to be worked on."""

from __future__ import annotations

import json
import time
from pathlib import Path

from tests.lab.real_node import RealNode, run

OWNER = ("--tenant", "TENANT-HOSTILE", "--pod", "abc")
# It floods both channels, leaves a process that nobody's signal reaches, and keeps whatever it was given.
CAT = """#!/bin/sh
head -c 10000000 /dev/zero >&2
setsid sleep 86391 &
head -c 10000000 /dev/zero
"""
# Four seconds for the guest, the rest for the restore.
IN_TIME_S = 60


def descriptors_of(words: str) -> dict[str, list[str]]:
    """Return by pid what the processes of this command line have open, as the node sees it."""
    found = {}
    for pid in run("pgrep", "-x", "-f", words).stdout.split():
        found[pid] = [str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()]
    return found


def test_a_hostile_guest_keeps_nothing_of_the_nodes(lab: RealNode, vmid: int, tmp_path: Path) -> None:
    size = ["--cores", 1, "--mem", 256, "--swap", 64]
    made = run(lab.dir / "sbin/cloudpod-create.sh", "--vmid", vmid, "--host", "hostile", *OWNER, *size, "--auto-ip")
    assert made.returncode == 0 and "HostKey" in made.stdout, made.stderr
    script = tmp_path / "cat"
    script.write_text(CAT)
    lab.ok("pct", "push", vmid, script, "/usr/local/bin/cat", "--perms", "755")
    backed = run(lab.dir / "sbin/cloudpod-backup.sh", vmid, "--mode", "snapshot", *OWNER)
    assert backed.returncode == 0, backed.stderr
    archive = next(line.split(": ", 1)[1] for line in backed.stdout.splitlines() if line.startswith("Archive"))

    began = time.monotonic()
    restored = run(lab.dir / "sbin/cloudpod-restore.sh", vmid, "--archive", archive, *OWNER, "--force")
    assert restored.returncode == 0 and time.monotonic() - began < IN_TIME_S, restored.stderr
    assert "HostKey" not in restored.stdout and len(restored.stderr) < 1_000_000

    left = descriptors_of("sleep 86391")
    assert left, "the guest's cat was not asked"
    for targets in left.values():
        assert len(targets) == 3 and sum(target.startswith("pipe:") for target in targets) == 1, targets
        assert all(target.startswith("pipe:") or target == "/dev/null" for target in targets), targets
    (row,) = json.loads(run(lab.dir / "sbin/cloudpod-info.sh", vmid).stdout)["pods"]
    assert (row["busy"], row["host_key"], row["status"]) == (None, None, "running")
    assert run("flock", "-n", lab.dir / f"run/lock/cloudpods/{vmid}", "true").returncode == 0
    destroyed = run(lab.dir / "sbin/cloudpod-destroy.sh", vmid, *OWNER)
    assert destroyed.returncode == 0, destroyed.stderr
    assert not descriptors_of("sleep 86391")
    lab.ok("pvesm", "free", archive)
