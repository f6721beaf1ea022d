"""cloudpod-health.sh: swap, disk, network, guests, thresholds and cgroup v1, on a lab node."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path

import pytest
import yaml
from jinja2 import Template

from tests.node_scripts import ROLE, Scripts, node, wait_until

__all__ = ["node"]

MB = 1024 * 1024


def health(node: Scripts, *arguments: str | int) -> dict[int, dict]:
    """Return the rows of cloudpod-health.sh by vmid."""
    done = node.run("health", *arguments)
    assert done.returncode == 0, done.stderr
    return {row["vmid"]: row for row in json.loads(done.stdout)["pods"]}


@pytest.fixture
def pod(node: Scripts) -> Scripts:
    """Return a node with the pod 9101, which started long ago."""
    node.created(ip="10.1.10.91")
    grown_up(node, 9101)
    return node


def grown_up(node: Scripts, vmid: int) -> None:
    """Make a pod look as if it had started an hour ago."""
    an_hour_ago = time.time() - 3600
    os.utime(node.lab.dir / f"sys/fs/cgroup/lxc/{vmid}", (an_hour_ago, an_hour_ago))


def disk_holds(node: Scripts, vmid: int, used_mb: int) -> None:
    """Make a pod's disk as full as this."""
    (node.lab.dir / f"clients/main/subvol-{vmid}-disk-0/.zfs/referenced").write_text(f"{used_mb * MB}\n")


def guest_says(node: Scripts, vmid: int, state: str) -> None:
    """Make systemd inside a pod say this."""
    folder = node.lab.dir / "run/guest"
    folder.mkdir(exist_ok=True)
    (folder / str(vmid)).write_text(f"{state}\n")


@pytest.mark.parametrize(("used_mb", "options", "verdict", "words"), [
    (6963, [], "ok", []),
    (6964, [], "warning", ["disk 85 % of 8192 MB is at or above 85 %"]),
    (7783, [], "critical", ["disk 95 % of 8192 MB is at or above 95 %"]),
    (7783, ["--disk-critical", 96], "warning", ["disk 95 % of 8192 MB is at or above 85 %"]),
    (7783, ["--disk-critical", 96, "--disk-warning", 96], "ok", []),
    (4096, ["--disk-critical", 50], "critical", ["disk 50 % of 8192 MB is at or above 50 %"]),
])  # fmt: skip
def test_a_full_disk(pod: Scripts, used_mb: int, options: list, verdict: str, words: list[str]) -> None:
    disk_holds(pod, 9101, used_mb)
    row = health(pod, 9101, *options)[9101]
    assert row["disk"] == {"used_mb": used_mb, "size_mb": 8192}
    assert (row["verdict"], row["reasons"]) == (verdict, words)


def test_the_full_disk_of_a_stopped_pod_is_seen_too(pod: Scripts) -> None:
    pod.lab.ok("pct", "set", 9101, "--onboot", 0)
    pod.lab.ok("pct", "stop", 9101)
    disk_holds(pod, 9101, 8192)
    row = health(pod, 9101)[9101]
    assert (row["status"], row["verdict"], row["reasons"]) == (
        "stopped", "critical", ["disk 100 % of 8192 MB is at or above 95 %"],
    )  # fmt: skip


def test_swap_and_memory_thresholds(pod: Scripts) -> None:
    pod.lab.set_cgroup(9101, "memory.swap.current", f"{410 * MB}\n")
    pod.lab.set_cgroup(9101, "memory.current", f"{1024 * MB}\n")
    pod.lab.set_cgroup(9101, "memory.stat", "file 0\n")
    row = health(pod, 9101)[9101]
    assert row["swap"] == {"used_mb": 410, "limit_mb": 512}
    assert (row["verdict"], row["reasons"]) == ("warning", ["swap 80 % of 512 MB is at or above 80 %"])
    row = health(pod, 9101, "--swap-warning", 81, "--memory-warning", 50)[9101]
    assert (row["verdict"], row["reasons"]) == ("warning", ["memory 50 % of 2048 MB is at or above 50 %"])
    assert health(pod, 9101, "--swap-warning", 81, "--memory-critical=50")[9101]["verdict"] == "critical"


def test_without_zfs_the_size_is_the_confs_and_the_use_unknown(pod: Scripts) -> None:
    (pod.lab.dir / "bin/zfs").unlink()
    row = health(pod, 9101)[9101]
    assert (row["disk"], row["verdict"]) == ({"used_mb": None, "size_mb": 8192}, "ok")


def test_a_zfs_that_fails_hides_nothing_else(pod: Scripts) -> None:
    pod.lab.switch("fail", "zfs get", "--message", "cannot open")
    row = health(pod, 9101)[9101]
    assert (row["disk"]["used_mb"], row["memory"]["limit_mb"], row["verdict"]) == (None, 2048, "ok")


@pytest.mark.parametrize(("says", "verdict", "words"), [
    ("running", "ok", []),
    ("degraded", "warning", ["guest: degraded"]),
    ("starting", "warning", ["guest: starting"]),
    ("maintenance", "critical", ["guest: maintenance"]),
    ("offline", "ok", []),
])  # fmt: skip
def test_what_guests_say(pod: Scripts, says: str, verdict: str, words: list[str]) -> None:
    guest_says(pod, 9101, says)
    row = health(pod, 9101, "--in-guest")[9101]
    assert row["guest"] == {"offline": "no systemd"}.get(says, says)
    assert (row["verdict"], row["reasons"]) == (verdict, words)
    assert health(pod, 9101)[9101]["guest"] is None, "nobody is asked unless that is wanted"


def test_a_guest_that_is_starting_is_not_called_ill(node: Scripts) -> None:
    node.created()
    guest_says(node, 9101, "maintenance")
    row = health(node, 9101, "--in-guest")[9101]
    assert row["verdict"] == "ok" and row["reasons"][0].startswith("guest: maintenance; started ")


def test_hung_guests_are_ended_and_do_not_hold_the_sweep(pod: Scripts) -> None:
    for vmid in range(9102, 9106):
        pod.created(vmid)
        grown_up(pod, vmid)
    pod.lab.switch("delay", "pct exec", 600)
    began = time.monotonic()
    rows = health(pod, "--all", "--in-guest", "--guest-timeout", 1)
    assert time.monotonic() - began < 45, "nobody waits for a guest's whole minute"
    assert {row["guest"] for row in rows.values()} == {"hung"} and len(rows) == 5
    assert {row["verdict"] for row in rows.values()} == {"critical"}
    assert rows[9101]["reasons"] == ["guest: hung"]
    wait_until(lambda: not _questions(pod), "no question is left")


def _questions(pod: Scripts) -> list[str]:
    return [line for line in _commands() if str(pod.lab.dir) in line and "is-system-running" in line]


def _commands() -> list[str]:
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_text().replace("\0", " "))
        except OSError:  # it has ended meanwhile
            continue
    return lines


def test_a_guest_that_cannot_be_asked_is_unknown_and_a_stopped_one_not_asked(pod: Scripts) -> None:
    pod.lab.switch("fail", "pct exec", "--message", "CT is on fire")
    assert health(pod, 9101, "--in-guest")[9101]["guest"] is None
    pod.lab.switch("reset")
    pod.lab.ok("pct", "stop", 9101)
    row = health(pod, 9101, "--in-guest", "--reach")[9101]
    assert (row["guest"], row["reachable"], row["ip"]) == (None, None, "10.1.10.91")


def test_simulated_pods_are_not_looked_for_in_the_network(pod: Scripts) -> None:
    began = time.monotonic()
    row = health(pod, 9101, "--reach")[9101]
    assert (row["reachable"], row["verdict"]) == (None, "ok")
    assert time.monotonic() - began < 30


def test_a_busy_pod_is_neither_asked_nor_judged(pod: Scripts) -> None:
    guest_says(pod, 9101, "maintenance")
    pod.hold("9101")
    row = health(pod, 9101, "--in-guest", "--disk-critical", 1)[9101]
    assert (row["guest"], row["verdict"], row["reasons"]) == (None, "ok", ["busy: a script is at work"])


def test_a_node_with_cgroup_v1(pod: Scripts) -> None:
    """Beside v1's controllers the v2 tree knows the processes and counts nothing."""
    cgroup = pod.lab.dir / "sys/fs/cgroup"
    for name in (
        "memory.current",
        "memory.max",
        "memory.stat",
        "memory.events",
        "memory.swap.current",
        "cpu.stat",
        "pids.current",
    ):
        (cgroup / "lxc/9101" / name).unlink()
    files = {
        "memory.usage_in_bytes": 100 * MB, "memory.limit_in_bytes": 512 * MB, "memory.stat": f"cache 1\ntotal_cache {40 * MB}",
        "memory.memsw.usage_in_bytes": 130 * MB, "memory.memsw.limit_in_bytes": 768 * MB, "pids.current": 7,
        "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 0", "cpuacct.usage": 2_500_000_000,
    }  # fmt: skip
    for name, text in files.items():
        path = cgroup / name.partition(".")[0] / "lxc/9101" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    inner = cgroup / "memory/lxc/9101/ns/system.slice"
    inner.mkdir(parents=True)
    (inner / "memory.oom_control").write_text("oom_kill 2\n")
    row = health(pod, 9101)[9101]
    assert row["memory"] == {"used_mb": 60, "limit_mb": 512, "oom_kills": 2}
    assert row["swap"] == {"used_mb": 30, "limit_mb": 256}
    assert (row["cpu_usage_s"], row["pids"], row["verdict"]) == (2.5, 7, "warning")


def test_figures_that_no_kernel_gives_are_null(pod: Scripts) -> None:
    for path in (pod.lab.dir / "sys/fs/cgroup/lxc/9101").iterdir():
        path.unlink()
    row = health(pod, 9101)[9101]
    assert row["memory"] == {"used_mb": None, "limit_mb": 2048, "oom_kills": None}
    assert (row["swap"], row["cpu_usage_s"], row["pids"]) == ({"used_mb": None, "limit_mb": 512}, None, None)
    assert row["verdict"] == "ok"


@pytest.mark.parametrize(("arguments", "admitted"), [
    ("--all", True),
    ("9101 9102 --reach --in-guest --guest-timeout 5 --memory-warning 80 --memory-critical 90 --swap-warning 50"
     " --disk-warning 70 --disk-critical 100", True),
    ("--all --in-guest --disk-warning 70", True),
    ("--reach", False), ("--all 9101", False), ("9101 --reach 9102", False), ("9101 --guest-timeout", False),
    ("9101 --guest-timeout 0", False), ("9101 --disk-warning -1", False), ("9101 --reach=1", False), ("9101 --backups", False),
    ("9101 --in-guest\n--reach", False), ("", False),
])  # fmt: skip
def test_what_sudo_lets_the_module_say(arguments: str, admitted: bool) -> None:
    variables = yaml.safe_load((ROLE / "vars/main.yml").read_text())
    pattern = Template(variables["cloudpod_node_sudo_arguments"]["cloudpod-health.sh"]).render(variables)
    assert bool(re.search(pattern, arguments)) is admitted
