"""Health of real containers: the kernel's figures, and what pods answer that are well, cut off or frozen."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator

import pytest

from tests.lab.real_node import RealNode, run

DEADLINE_S = 120
TENANT = "TENANT-HEALTH"


@pytest.fixture(scope="module")
def pods(lab: RealNode) -> Iterator[list[int]]:
    """Return two running pods."""
    taken = {int(path.stem) for path in (lab.dir / "etc/pve/lxc").glob("*.conf")}
    vmids = [number for number in range(98101, 98999) if number not in taken][:2]
    try:
        for vmid in vmids:
            done = run(lab.dir / "sbin/cloudpod-create.sh", *_options(vmid), "--auto-ip")
            assert done.returncode == 0, done.stderr
        yield vmids
    finally:
        for vmid in vmids:
            run("lxc-unfreeze", "-n", vmid)
            run(lab.dir / "sbin/cloudpod-destroy.sh", vmid)


def _options(vmid: int) -> list[object]:
    asked = {"vmid": vmid, "host": f"pod{vmid}", "tenant": TENANT, "cores": 1, "mem": 256, "swap": 64}
    return [word for key, value in asked.items() for word in (f"--{key}", value)]


def health(lab: RealNode, vmids: list[int], *options: object) -> dict[int, dict]:
    """Return the rows of cloudpod-health.sh by vmid."""
    done = run(lab.dir / "sbin/cloudpod-health.sh", *vmids, *options)
    assert done.returncode == 0, done.stderr
    return {row["vmid"]: row for row in json.loads(done.stdout)["pods"]}


def health_when(
    lab: RealNode, vmids: list[int], options: list[object], holds: Callable[[dict[int, dict]], bool]
) -> dict[int, dict]:
    """Return the rows as soon as the condition holds; fail after a deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while not holds(rows := health(lab, vmids, *options)):
        assert time.monotonic() < deadline, rows
        time.sleep(0.2)
    return rows


def test_pods_that_are_well_by_the_playbook(lab: RealNode, pods: list[int]) -> None:
    health_when(lab, pods, ["--in-guest"], lambda rows: all(row["guest"] in ("running", "degraded") for row in rows.values()))
    result = lab.playbook("cloudpod_health", vmids=pods, reach=True, in_guest=True, disk_warning_percent=99)["result"]
    for row in result["lxc1"]["health"]:
        assert 0 < row["memory"]["used_mb"] < 256 and row["memory"]["limit_mb"] == 256
        assert row["swap"]["limit_mb"] in (64, 0) and row["swap"]["used_mb"] in (None, 0)
        assert 0 < row["disk"]["used_mb"] < row["disk"]["size_mb"] == 8192
        assert row["cpu_usage_s"] > 0 and row["pids"] > 1 and row["memory"]["oom_kills"] == 0
        assert row["reachable"] is True and row["guest"] in ("running", "degraded")
        assert row["verdict"] in ("ok", "warning"), row


def test_a_pod_that_is_killed_for_want_of_memory_says_so(lab: RealNode, pods: list[int]) -> None:
    before = health(lab, pods)
    lab.pct("exec", pods[0], "--", "sh", "-c", "tail /dev/zero")
    after = health(lab, pods)
    assert (before[pods[0]]["memory"]["oom_kills"], before[pods[1]]["memory"]["oom_kills"]) == (0, 0)
    assert after[pods[0]]["memory"]["oom_kills"] >= 1 and after[pods[1]]["memory"]["oom_kills"] == 0


def test_a_pod_without_network_is_critical_and_its_neighbour_is_not(lab: RealNode, pods: list[int]) -> None:
    cut, well = pods
    lab.ok("pct", "exec", cut, "--", "ip", "link", "set", "eth0", "down")
    try:
        # The node's ARP table forgets it within seconds; for the first minute after its start nothing is held against it.
        rows = health_when(lab, pods, ["--reach"], lambda rows: rows[cut]["verdict"] == "critical")
        assert rows[cut]["reachable"] is False and rows[cut]["uptime_s"] >= 60
        assert f"{rows[cut]['ip']} answers neither ICMP nor ARP (waited 1 s)" in rows[cut]["reasons"]
        assert rows[well]["reachable"] is True and rows[well]["verdict"] != "critical"
    finally:
        lab.ok("pct", "exec", cut, "--", "ip", "link", "set", "eth0", "up")


def test_a_frozen_guest_is_hung_and_holds_nobody_up(lab: RealNode, pods: list[int]) -> None:
    frozen, well = pods
    assert run("lxc-freeze", "-n", frozen).returncode == 0
    try:
        began = time.monotonic()
        rows = health(lab, pods, "--in-guest", "--guest-timeout", 2)
        took_s = time.monotonic() - began
    finally:
        assert run("lxc-unfreeze", "-n", frozen).returncode == 0
    assert rows[frozen]["guest"] == "hung" and rows[well]["guest"] in ("running", "degraded")
    # Two seconds for the guest, one for what does not die.
    assert took_s < 6, took_s
    after = health_when(lab, pods, ["--in-guest"], lambda rows: rows[frozen]["guest"] != "hung")
    assert after[frozen]["guest"] in ("running", "degraded")
    left = run("pgrep", "-f", f"lxc-attach -n {frozen} ")
    assert left.returncode == 1, left.stdout
