"""cloudpod-info.sh and cloudpod-health.sh: one call for many pods."""

from __future__ import annotations

import json
import re
import time

import pytest

from tests.node_scripts import Scripts, failure, node

__all__ = ["node"]

MB = 1024 * 1024


def health(node: Scripts, *vmids: int) -> dict[int, dict]:
    """Return the rows of cloudpod-health.sh by vmid."""
    done = node.run("health", *(vmids or ("--all",)))
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert set(document) == {"node", "pods"} and document["node"] == "lab1"
    return {row["vmid"]: row for row in document["pods"]}


def test_info_shows_a_pod_whole(node: Scripts) -> None:
    node.created(ip="10.1.10.91")
    (row,) = node.info(9101)
    config, mac, key = row.pop("config"), row.pop("mac"), row.pop("host_key")
    assert key.startswith("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5")
    assert row == {
        "vmid": 9101, "exists": True, "in_pool": True, "node": "lab1", "status": "running", "lock": None, "lock_stale": False,
        "unfinished": False, "busy": None, "owner": {"tenant": "TENANT-123", "pod": "abc"}, "hostname": "client-portal",
        "ip": "10.1.10.91", "prefix": 24, "gateway": "10.1.10.1", "bridge": "vmbr0", "storage": "clients-main",
        "disk_gb": 8, "cores": 2, "memory_mb": 2048, "swap_mb": 512, "onboot": True, "protection": False,
        "unprivileged": True, "pending": {}, "snapshots": [], "restored": None,
    }  # fmt: skip
    assert mac.startswith("BC:24:11:") and config["arch"] == "amd64" and mac in config["net0"]
    assert config["description"] == f"cloudpod tenant=TENANT-123 pod=abc\nhost-key {key}"


def test_info_shows_no_more_of_others_than_that_they_exist(node: Scripts) -> None:
    rows = node.info(100, 9102, 100)
    assert rows == [
        {"vmid": 100, "exists": True, "in_pool": False, "node": "lab1", "busy": None, "unfinished": False},
        {"vmid": 9102, "exists": False, "busy": None, "unfinished": False},
    ]
    assert node.info() == [] and not node.lock_dir.exists() and node.log() == []


def test_info_shows_what_waits_for_the_next_start(node: Scripts) -> None:
    node.created()
    node.lab.ok("pct", "set", 9101, "--nameserver", "9.9.9.9", "--delete", "swap")
    node.lab.ok("pct", "set", 9101, "--delete", "features")
    (row,) = node.info(9101)
    assert row["pending"] == {"nameserver": "9.9.9.9", "features": None}


def test_info_shows_the_snapshots_oldest_first(node: Scripts) -> None:
    node.created()
    for name, words in {"one": ("--run", "job7.1"), "two": ()}.items():
        assert node.run("snapshot", 9101, "--action", "create", "--name", name, *words).returncode == 0
    conf = node.lab.conf_path(9101)
    conf.write_text(conf.read_text() + "\n[by-hand]\nparent: two\nsnaptime: 5\nsnapstate: prepare\n\n[vzdump]\nsnaptime: 6\n")
    (row,) = node.info(9101)
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", row["snapshots"][1]["created"])
    assert [each | {"created": ""} for each in row["snapshots"]] == [
        {"name": "by-hand", "created": "", "parent": "two", "job": None, "complete": False},
        {"name": "one", "created": "", "parent": None, "job": "job7", "complete": True},
        {"name": "two", "created": "", "parent": "one", "job": None, "complete": True},
    ]
    assert row["snapshots"][0]["created"] == "1970-01-01T00:00:05Z"
    assert (row["cores"], row["pending"]) == (2, {}), "what a snapshot keeps is not what is"


def test_info_shows_the_conf_of_another_node(node: Scripts) -> None:
    node.created()
    there = node.lab.dir / "etc/pve/nodes/lab2/lxc"
    there.mkdir(parents=True)
    node.lab.conf_path(9101).rename(there / "9101.conf")
    (row,) = node.info(9101)
    assert (row["node"], row["status"], row["in_pool"]) == ("lab2", "unknown", True)
    assert node.info() == []
    assert health(node, 9101)[9101]["verdict"] == "warning"


def test_info_shows_who_holds_a_vmid(node: Scripts) -> None:
    node.hold("9101")
    assert node.info(9101)[0]["busy"] == {"pid": None, "run": None, "script": None, "since": None}
    (node.lock_dir / "9101").write_text("4711 job1.1 cloudpod-create 2026-11-21T00:00:00Z\n")
    busy = {"pid": 4711, "run": "job1.1", "script": "cloudpod-create", "since": "2026-11-21T00:00:00Z"}
    assert node.info(9101) == [{"vmid": 9101, "exists": False, "busy": busy, "unfinished": False}]


def test_sizes_defaults_and_a_conf_of_odd_lines(node: Scripts) -> None:
    node.created()
    text = (
        "#%3Cb%3E notes%0A\n#cloudpod tenant=org%3A7 pod=-\nno key\nlxc.mount: a\nlxc.mount: b\n"
        "net0: name=eth0,bridge=vmbr0,ip=dhcp\nrootfs: clients-main:subvol-9101-disk-0,size=1536M\n\n"
        "[before]\nmemory: 64\nhostname: old\n"
    )
    node.lab.conf_path(9101).write_text(text)
    (row,) = node.info(9101)
    shown = [row[key] for key in ("disk_gb", "memory_mb", "swap_mb", "cores", "ip", "hostname", "onboot")]
    assert shown == [1.5, 512, 512, None, None, None, False]
    assert row["owner"] == {"tenant": "org:7", "pod": None} and row["config"]["lxc.mount"] == "a\nb"


def test_health_of_a_pod_that_is_well(node: Scripts) -> None:
    node.created()
    row = health(node)[9101]
    assert row.pop("uptime_s") >= 0
    assert row == {"vmid": 9101, "exists": True, "status": "running", "cpu_usage_s": 0.4, "cores": 2,
                   "memory": {"used_mb": row["memory"]["used_mb"], "limit_mb": 2048, "oom_kills": 0}, "pids": 12,
                   "swap": {"used_mb": 0, "limit_mb": 512}, "disk": {"used_mb": 400, "size_mb": 8192},
                   "ip": "10.1.10.50", "reachable": None, "guest": None,
                   "verdict": "ok", "reasons": []}  # fmt: skip
    # Without file cache: the lab's containers have 24 MiB and a little beside 40 MiB of it.
    assert 24 <= row["memory"]["used_mb"] <= 25


@pytest.mark.parametrize(("used_mb", "cache_mb", "kills", "verdict", "words"), [
    (1740, 0, 0, "ok", []),
    (2000, 400, 0, "ok", []),
    (1741, 0, 0, "warning", ["memory 85 % of 2048 MB is at or above 85 %"]),
    (1946, 0, 0, "critical", ["memory 95 % of 2048 MB is at or above 95 %"]),
    (100, 0, 2, "warning", ["2 processes killed for want of memory (threshold 1)"]),
    (1946, 0, 1, "critical", ["memory 95 % of 2048 MB is at or above 95 %",
                              "1 processes killed for want of memory (threshold 1)"]),
])  # fmt: skip
def test_health_judges_memory(node: Scripts, used_mb: int, cache_mb: int, kills: int, verdict: str, words: list[str]) -> None:
    node.created()
    node.lab.set_cgroup(9101, "memory.current", f"{used_mb * MB}\n")
    node.lab.set_cgroup(9101, "memory.stat", f"anon 1\nfile {cache_mb * MB}\n")
    node.lab.set_cgroup(9101, "memory.events", f"low 0\noom_kill {kills}\n")
    row = health(node, 9101)[9101]
    assert (row["verdict"], row["reasons"]) == (verdict, words)


def test_health_of_a_stopped_pod(node: Scripts) -> None:
    node.created()
    node.lab.ok("pct", "stop", 9101)
    row = health(node)[9101]
    assert (row["status"], row["verdict"], row["reasons"]) == ("stopped", "critical", ["stopped while onboot is set"])
    assert (row["uptime_s"], row["pids"], row["memory"]["limit_mb"]) == (0, 0, 2048)
    node.lab.ok("pct", "set", 9101, "--onboot", 0)
    assert health(node)[9101]["verdict"] == "ok"
    node.lab.ok("pct", "set", 9101, "--onboot", 1)
    node.hold("9101")
    assert health(node)[9101]["verdict"] == "ok", "a script at work is no illness"


def test_health_of_what_is_missing(node: Scripts) -> None:
    assert health(node, 9102) == {
        9102: {"vmid": 9102, "exists": False, "verdict": "critical", "reasons": ["no such container"]}
    }


def test_health_refuses_what_is_outside_the_pool(node: Scripts) -> None:
    node.created()
    done = node.run("health", 9101, 100)
    assert done.returncode == 77
    assert failure(done) == {"Error": "container 100 is not in pool ClientPods", "Retryable": "no", "Left": "nothing"}


def test_a_thousand_pods_in_one_call(node: Scripts) -> None:
    node.lab.init("--pods", "1000")
    node.lab.switch("delay", "*", 1)
    for name in ("info", "health"):
        began = time.monotonic()
        done = node.run(name, "--all")
        took_s = time.monotonic() - began
        assert len(json.loads(done.stdout)["pods"]) == 1000
        # What make bench measures properly; here only that the cost is not a command of Proxmox's per pod.
        assert took_s < 60, f"{name}: {took_s:.2f} s"
