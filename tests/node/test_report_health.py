"""What the report reads: cgroup files of both versions as recorded, and what zfs, ICMP, ARP and guests answer."""

from __future__ import annotations

import importlib
import os
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.node_scripts import ROLE

REPORT = ROLE / "files/lib/report"


def _report(name: str) -> ModuleType:
    """Return a module of the report, which stands on a node in a folder that is run, not in a package."""
    sys.path.insert(0, str(REPORT))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(REPORT))


cgroup, disk, guest, judge, reach = (_report(name) for name in ("cgroup", "disk", "guest", "judge", "reach"))

V2 = {
    "memory.current": "103022592\n", "memory.max": "268435456\n", "memory.swap.current": "4096\n",
    "memory.swap.max": "67108864\n",
    "memory.stat": "anon 20971520\nfile 73400320\nfile_mapped 1\ninactive_file 2\n", "pids.current": "21\n",
    "memory.events": "low 0\nhigh 3\nmax 4\noom 2\noom_kill 1\noom_group_kill 0\n",
    "cpu.stat": "usage_usec 1234567\nuser_usec 1000000\nsystem_usec 234567\n",
}  # fmt: skip
V1 = {
    "memory.usage_in_bytes": "103022592\n", "memory.limit_in_bytes": "268435456\n",
    "memory.memsw.usage_in_bytes": "103026688\n", "memory.memsw.limit_in_bytes": "335544320\n",
    "memory.stat": "cache 5\nrss 6\nhierarchical_memory_limit 268435456\ntotal_cache 73400320\ntotal_rss 20971520\n",
    "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 0\noom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
    "cpuacct.usage": "1234567000\n", "pids.current": "21\n",
}  # fmt: skip
SAME = (1.235, 29622272, 268435456, 4096, 67108864, 1, 21)
UNLIMITED = "9223372036854771712\n"


@pytest.mark.parametrize(("version", "files", "changed", "expected"), [
    ("usage_v2", V2, {}, SAME),
    ("usage_v2", V2, {"memory.max": "max\n", "memory.swap.max": "max\n"}, (*SAME[:2], None, SAME[3], None, *SAME[5:])),
    ("usage_v2", V2, {"memory.swap.current": "", "memory.swap.max": ""}, (*SAME[:3], None, None, *SAME[5:])),
    ("usage_v2", V2, {"memory.current": "1\n"}, (SAME[0], 0, *SAME[2:])),
    ("usage_v2", {}, {}, (None,) * 7),
    ("usage_v1", V1, {}, (1.235, *SAME[1:])),
    ("usage_v1", V1, {"memory.limit_in_bytes": UNLIMITED, "memory.memsw.limit_in_bytes": UNLIMITED},
     (*SAME[:2], None, SAME[3], None, *SAME[5:])),
    ("usage_v1", V1, {"memory.memsw.limit_in_bytes": UNLIMITED}, (*SAME[:4], None, *SAME[5:])),
    ("usage_v1", V1, {"memory.memsw.usage_in_bytes": "", "memory.memsw.limit_in_bytes": ""},
     (*SAME[:3], None, None, *SAME[5:])),
    ("usage_v1", V1, {"memory.oom_control": "oom_kill_disable 0\nunder_oom 0\n"}, (*SAME[:5], None, 21)),
    ("usage_v1", {}, {}, (None,) * 7),
])  # fmt: skip
def test_recorded_cgroup_files(version: str, files: dict, changed: dict, expected: tuple) -> None:
    recorded = {**files, **changed}
    assert tuple(getattr(cgroup, version)(lambda name: recorded.get(name, ""))) == expected


@given(st.dictionaries(st.sampled_from([*V1, *V2]), st.text(max_size=40)))
def test_no_file_makes_the_figures_fail_or_negative(files: dict[str, str]) -> None:
    for usage in (cgroup.usage_v1, cgroup.usage_v2):
        assert all(figure is None or figure >= 0 for figure in usage(lambda name: files.get(name, "")))


@pytest.mark.parametrize("root", ["sys/fs/cgroup/lxc", "sys/fs/cgroup/unified/lxc"])
def test_v1_is_found_beside_either_root(tmp_path: Path, root: str) -> None:
    for name, text in V1.items():
        path = tmp_path / "sys/fs/cgroup" / name.partition(".")[0] / "lxc/9101" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "sys/fs/cgroup/systemd/lxc/9101/ns/init.scope").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/systemd/lxc/9101/ns/init.scope/cgroup.procs").write_text(f"{os.getpid()}\n")
    found = cgroup.Cgroup(str(tmp_path / root), 9101)
    assert (found.usage().memory, found.first_pid()) == (SAME[1], os.getpid())
    assert found.uptime_s() == pytest.approx(cgroup.process_age_s(os.getpid()), abs=1)


STORAGE_CFG = """dir: local
\tpath /var/lib/vz

zfspool: clients-main
\tpool clients/main
\tcontent rootdir

lvmthin: thin
\tvgname pve
"""


@pytest.mark.parametrize(("volume", "expected"), [
    ("clients-main:subvol-9101-disk-0", "clients/main/subvol-9101-disk-0"),
    ("clients-main:basevol-100-disk-0/subvol-9101-disk-0", "clients/main/subvol-9101-disk-0"),
    ("local:9101/vm-9101-disk-0.raw", None), ("thin:vm-9101-disk-0", None), ("gone:subvol-1-disk-0", None), ("", None),
    ("/mnt/tree", None), ("clients-main:", None),
])  # fmt: skip
def test_which_dataset_a_volume_is(volume: str, expected: str | None) -> None:
    assert disk.dataset(disk.parse_storages(STORAGE_CFG), volume) == expected


def test_what_zfs_says() -> None:
    text = (
        "p\treferenced\t98304\np\trefquota\t0\np/a\treferenced\t1048576\np/a\trefquota\t8589934592\n"
        "p/b\treferenced\t-\np/b\trefquota\tnone\nodd\np/c\treferenced\t7\n"
    )
    assert disk.parse_zfs(text) == {"p": (98304, None), "p/a": (1048576, 8589934592), "p/c": (7, None)}


@given(st.text())
def test_no_text_makes_the_parsers_fail_or_invent(text: str) -> None:
    for name, figures in disk.parse_zfs(text).items():
        assert name in text
        assert all(figure is None or figure >= 0 for figure in figures)
    for name, settings in disk.parse_storages(text).items():
        assert name in text
        assert all(word in text for setting in settings.items() for word in setting if word != "type")
    assert disk.root_file_system(text) in text
    assert reach.complete(text) <= set(text.split())
    assert guest.state_of(text, 1) in {*guest.STATES, guest.NO_SYSTEMD, None}


def test_a_mounted_image_is_measured_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    pid = os.getpid()
    assert disk.mounted_disk("local:9101/subvol-9101-disk-0.subvol", pid) is None, "it shares the node's"
    assert disk.mounted_disk("local:9101/vm-9101-disk-0.raw", None) is None
    kind = disk.root_file_system(Path(f"/proc/{pid}/mountinfo").read_text())
    monkeypatch.setattr(disk, "BLOCK_FILE_SYSTEMS", {kind})
    found, total = disk.mounted_disk("local:9101/vm-9101-disk-0.raw", pid), os.statvfs("/")
    assert found.size == total.f_blocks * total.f_frsize and 0 <= found.used <= found.size
    monkeypatch.setattr(disk, "BLOCK_FILE_SYSTEMS", {"other"})
    assert disk.mounted_disk("thin:vm-9101-disk-0", pid) is None


@pytest.mark.parametrize(("line", "kind"), [
    ("36 35 7:0 / / rw,relatime shared:1 master:2 - ext4 /dev/loop0 rw", "ext4"),
    ("36 35 0:50 / / rw,relatime - fuse.sshfs a@b: rw\n37 36 0:5 / /proc rw - proc proc rw", "fuse.sshfs"),
    ("36 35 7:0 / / rw - ext4 /dev/loop0 rw\n40 36 0:9 / / rw - fuse x rw", "fuse"),
    ("37 36 0:5 / /proc rw - proc proc rw", ""),
])  # fmt: skip
def test_what_is_mounted_at_the_root(line: str, kind: str) -> None:
    assert disk.root_file_system(line) == kind


ARP = """IP address       HW type     Flags       HW address            Mask     Device
10.1.10.91       0x1         0x2         bc:24:11:00:00:01     *        vmbr0
10.1.10.92       0x1         0x0         00:00:00:00:00:00     *        vmbr0
10.1.10.93       0x1         0x6         bc:24:11:00:00:03     *        vmbr0
"""


def test_who_is_known_by_arp() -> None:
    assert reach.complete(ARP) == {"10.1.10.91", "10.1.10.93"}


def _may_send() -> bool:
    try:
        reach.Echoes([]).__exit__()
    except PermissionError:
        return False
    return True


@pytest.mark.skipif(not _may_send(), reason="a raw socket needs CAP_NET_RAW")
def test_many_addresses_answer_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "ROUNDS_S", (0.0, 20.0, 40.0))
    monkeypatch.setattr(reach, "DEADLINE_S", 60.0)
    # All of 127.0.0.0/8 is this machine, so that nobody else is asked.
    (tmp_path / "arp").write_text(ARP)
    addresses = [f"127.9.{number // 250}.{number % 250 + 1}" for number in range(1000)]
    assert reach.reachable(addresses, str(tmp_path / "arp")) == dict.fromkeys(addresses, True)


@pytest.mark.skipif(not _may_send(), reason="a raw socket needs CAP_NET_RAW")
def test_who_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach.Echoes, "_send", lambda *_: None)
    (tmp_path / "arp").write_text(ARP)
    found = reach.reachable(["10.1.10.91", "10.1.10.92", "10.1.10.94"], str(tmp_path / "arp"))
    assert found == {"10.1.10.91": True, "10.1.10.92": False, "10.1.10.94": False}


def test_without_the_right_to_send_nobody_is_called_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(reach.socket, "socket", refuse)
    assert reach.reachable(["10.1.10.91"]) == {"10.1.10.91": None}


def test_only_the_answer_to_the_own_request_counts() -> None:
    request = reach.echo_request(7, 3, b"12345678")
    assert reach.checksum(request) == 0
    answer = bytes([0x45]) + bytes(19) + bytes([reach.ECHO_REPLY]) + request[1:]
    assert reach.echo_reply(answer) == (7, 3, b"12345678")
    assert reach.echo_reply(bytes([0x45]) + bytes(19) + request) is None, "a request is no answer"
    options = bytes([0x46]) + bytes(23) + bytes([reach.ECHO_REPLY]) + request[1:]
    assert reach.echo_reply(options) == (7, 3, b"12345678")


@given(st.binary(max_size=64))
def test_no_packet_makes_reading_it_fail(packet: bytes) -> None:
    reach.echo_reply(packet)
    assert 0 <= reach.checksum(packet) <= 0xFFFF


@pytest.mark.parametrize(("answer", "rc", "state"), [
    ("running\n", 0, "running"), ("degraded\n", 1, "degraded"), ("a warning\nstarting\n", 1, "starting"),
    ("offline\n", 1, "no systemd"), ("", 127, "no systemd"),
    ('lxc-attach: 9101: attach.c: 1841 No such file or directory - Failed to exec "systemctl"\n',
     255, "no systemd"),
    ("container '9101' not running!\n", 255, None), ("", 0, None),
])  # fmt: skip
def test_what_a_guest_answers(answer: str, rc: int, state: str | None) -> None:
    assert guest.state_of(answer, rc) == state


@pytest.fixture
def pct(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the path of a pct that a test writes."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path / "pct"


def write(pct: Path, body: str) -> None:
    """Write a shell program."""
    pct.write_text(f"#!/bin/sh\n{body}\n")
    pct.chmod(0o755)


@pytest.mark.parametrize("body", ["sleep 60", "sleep 60 & wait", "echo running; exec sleep 60", "exec >&-; exec sleep 60"])
def test_a_guest_that_does_not_end_is_hung_and_ended(pct: Path, body: str) -> None:
    write(pct, f"echo $$ >{pct}.pid\n{body}")
    began = time.monotonic()
    assert guest.states([9101], 5) == {9101: "hung"}
    assert time.monotonic() - began < 50
    group = int(Path(f"{pct}.pid").read_text())
    deadline = time.monotonic() + 30
    while _group_lives(group):
        assert time.monotonic() < deadline, "what it started outlived it"
        time.sleep(0.01)


def _group_lives(group: int) -> bool:
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(words[2]) == group and words[0] != "Z":
            return True
    return False


def test_a_guest_that_floods_is_not_read_to_its_end(pct: Path) -> None:
    write(pct, "exec yes")
    assert guest.states([9101], 1)[9101] in ("hung", None)


def test_who_is_not_reached_within_the_time_for_all_is_unknown(pct: Path) -> None:
    write(pct, "echo running")
    assert guest.states([9101, 9102], 2, budget_s=1) == {9101: None, 9102: None}
    assert guest.states([9101, 9102], 60) == {9101: "running", 9102: "running"}


ROW = {
    "memory": {"used_mb": 1, "limit_mb": 100, "oom_kills": 0}, "swap": {"used_mb": 0, "limit_mb": 0},
    "disk": {"used_mb": 1, "size_mb": 100}, "ip": "10.1.10.91", "reachable": True, "guest": "running", "uptime_s": 60,
}  # fmt: skip
UNREACHED = "10.1.10.91 answers neither ICMP nor ARP (waited 1 s)"


@pytest.mark.parametrize(("changes", "verdict", "words"), [
    ({}, "ok", []),
    ({"reachable": False}, "critical", [UNREACHED]),
    ({"reachable": None, "guest": None}, "ok", []),
    ({"reachable": False, "uptime_s": 59}, "ok", [f"{UNREACHED}; started 59 s ago (threshold 60 s)"]),
    ({"guest": "hung"}, "critical", ["guest: hung"]),
    ({"guest": "no systemd"}, "ok", []),
    ({"swap": {"used_mb": 5, "limit_mb": 0}}, "ok", []),
    ({"swap": {"used_mb": None, "limit_mb": 5}}, "ok", []),
    ({"disk": {"used_mb": 95, "size_mb": 100}, "uptime_s": 1}, "critical", ["disk 95 % of 100 MB is at or above 95 %"]),
])  # fmt: skip
def test_the_verdict(changes: dict, verdict: str, words: list[str]) -> None:
    found = judge.verdict(judge.judge_running({**ROW, **changes}, judge.Thresholds()))
    assert found == {"verdict": verdict, "reasons": words}
