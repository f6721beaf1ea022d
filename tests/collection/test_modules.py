"""Every module on a lab node with the real scripts: what changes, what does not, and what check mode and a diff say."""

from __future__ import annotations

import pytest

POD = {"hostname": "client-portal", "tenant_id": "TENANT-123", "cores": 2, "memory_mb": 2048}
CORE_CONTAINER = 100
CHANGES = [
    ("cloudpod_destroy", {}),
    ("cloudpod_backup", {}),
    ("cloudpod_scale", {"cores": 4, "memory_mb": 4096}),
    ("cloudpod_power", {"state": "stopped"}),
    ("cloudpod_snapshot", {"name": "before"}),
]


@pytest.fixture
def call(run_module, node):
    """Return a function that calls a module on the lab node."""

    def run(module, /, **parameters):
        return run_module(module, **{**node.access, **parameters})

    return run


@pytest.fixture
def pod(call, vmid):
    """Return the vmid of a pod that exists."""
    made = call("cloudpod_create", vmid=vmid, **POD)
    assert made.changed, made.raw
    return vmid


# --- create ------------------------------------------------------------------------------------------------------


def test_create_makes_a_pod_and_returns_what_it_is(call, node, vmid):
    made = call("cloudpod_create", vmid=vmid, pod_id="p1", run_id="job1.1", disk_gb=4, **POD)
    assert made.changed
    assert made.ip == made.cloudpod["ip"]
    assert made.ip.startswith("10.1.10.")
    assert made.cloudpod["owner"] == {"tenant": "TENANT-123", "pod": "p1"}
    assert (made.cloudpod["status"], made.cloudpod["disk_gb"], made.cloudpod["swap_mb"]) == ("running", 4, 512)
    assert made.raw["diff"]["before"] == {}
    assert made.raw["diff"]["after"]["ip"] == made.ip
    assert f"ip={made.ip}/24" in node.conf(vmid)
    assert made.warnings == ""


def test_create_again_changes_nothing(call, node, pod):
    before = node.state()
    again = call("cloudpod_create", vmid=pod, **POD)
    assert not again.changed
    assert not again.failed
    assert again.ip == again.cloudpod["ip"]
    assert again.raw["diff"]["before"] == again.raw["diff"]["after"]
    assert node.state() == before


def test_create_takes_the_address_that_is_asked(call, vmid):
    made = call("cloudpod_create", vmid=vmid, ip="10.1.10.240", **POD)
    assert made.ip == "10.1.10.240"
    assert not call("cloudpod_create", vmid=vmid, ip="10.1.10.240", **POD).changed
    other = call("cloudpod_create", vmid=vmid, ip="10.1.10.241", **POD)
    assert "ip is 10.1.10.240, asked 10.1.10.241" in other.msg


@pytest.mark.parametrize(
    "asked",
    [{"cores": 4}, {"memory_mb": 4096}, {"hostname": "other"}, {"swap_mb": 0}, {"storage": "other"}, {"disk_gb": 99}],
    ids=lambda asked: next(iter(asked)),
)
def test_create_with_another_value_fails_and_touches_nothing(call, node, pod, asked):
    before = node.state()
    refused = call("cloudpod_create", vmid=pod, **{**POD, **asked})
    assert refused.failed
    assert list(refused.differences) == list(asked)
    assert next(iter(asked)) in refused.msg
    assert (refused.retryable, refused.left_behind) == (False, "nothing")
    assert node.state() == before


def test_create_of_another_owners_pod_fails_without_telling_whose_it_is(call, node, pod):
    before = node.state()
    refused = call("cloudpod_create", vmid=pod, **{**POD, "tenant_id": "TENANT-9"})
    assert refused.failed
    assert "tenant_id is not TENANT-9" in refused.msg
    assert "TENANT-123" not in str(refused.raw["msg"])
    assert node.state() == before


def test_create_in_check_mode_shows_what_it_would_make(call, node, vmid):
    before = node.state()
    planned = call("cloudpod_create", _check=True, vmid=vmid, **POD)
    assert planned.changed
    assert planned.ip is None
    assert planned.raw["diff"]["before"] == {}
    after = planned.raw["diff"]["after"]
    assert (after["hostname"], after["cores"], after["ip"]) == ("client-portal", 2, "chosen by the node")
    assert node.state() == before


def test_create_in_check_mode_of_a_pod_that_is_there(call, pod):
    assert not call("cloudpod_create", _check=True, vmid=pod, **POD).changed
    assert call("cloudpod_create", _check=True, vmid=pod, **{**POD, "cores": 8}).failed


def test_create_over_a_core_container_is_refused(call, node):
    before = node.state()
    refused = call("cloudpod_create", vmid=CORE_CONTAINER, **POD)
    assert "outside the pool ClientPods" in refused.msg
    assert (refused.taken, refused.left_behind) == ("vmid", "nothing")
    assert node.state() == before


@pytest.mark.parametrize("owner", [{"tenant_id": "TENANT-9"}, {"pod_id": "p9"}])
def test_create_over_a_pod_of_somebody_else_says_that_the_vmid_is_taken(call, pod, owner):
    refused = call("cloudpod_create", vmid=pod, **{**POD, "pod_id": "p1", **owner})
    assert (refused.taken, refused.retryable) == ("vmid", False)


def test_create_with_an_address_that_somebody_has_says_so(call, pod):
    address = call("cloudpod_info", vmids=[pod]).pods[0]["ip"]
    refused = call("cloudpod_create", vmid=pod + 300, ip=address, **POD)
    assert (refused.taken, refused.left_behind, refused.rc) == ("ip", "nothing", 73), refused.raw
    differs = call("cloudpod_create", vmid=pod, **{**POD, "cores": 8})
    assert "taken" not in differs.raw


def test_a_create_that_fails_half_way_says_what_is_left_and_can_be_done_again(call, node, vmid):
    node.switch("fail", "pct start", "--vmid", str(vmid), "--message", f"startup for container '{vmid}' failed", "--times", "1")
    failed = call("cloudpod_create", vmid=vmid, **POD)
    assert failed.failed
    assert f"startup for container '{vmid}' failed" in failed.msg
    assert (failed.retryable, failed.left_behind, failed.rc) == (False, "nothing", 1)
    assert f"--vmid {vmid}" in failed.cmd
    assert failed.stderr
    assert node.conf(vmid) is None
    assert call("cloudpod_create", vmid=vmid, **POD).changed


def test_a_lock_of_proxmox_is_worth_another_try(call, node, vmid):
    node.switch(
        "fail", "pct create", "--vmid", str(vmid), "--message", "can't lock file '/run/lock/x' - got timeout", "--times", "1"
    )
    failed = call("cloudpod_create", vmid=vmid, **POD)
    assert (failed.rc, failed.retryable) == (75, True)


def test_an_address_outside_the_nodes_range_is_the_scripts_to_refuse(call, node, vmid):
    before = node.state()
    refused = call("cloudpod_create", vmid=vmid, ip="192.0.2.1", **POD)
    assert refused.failed
    assert refused.rc == 64
    assert node.state() == before


def test_an_unfinished_create_is_done_again(call, node, pod):
    ipam = node.dir / "etc/migra/ipam-cloudpods.txt"
    lines = [
        line.replace(" active", " reserved:job1.1") if f" {pod} " in line else line for line in ipam.read_text().splitlines()
    ]
    ipam.write_text("\n".join(lines) + "\n")
    planned = call("cloudpod_create", _check=True, vmid=pod, **POD)
    assert planned.changed
    stranger = call("cloudpod_create", vmid=pod, **{**POD, "tenant_id": "TENANT-9"})
    assert "tenant_id is not TENANT-9" in stranger.msg
    assert "unfinished" in call("cloudpod_scale", vmid=pod, cores=1, memory_mb=64).msg
    again = call("cloudpod_create", vmid=pod, **POD)
    assert again.changed
    assert again.cloudpod["unfinished"] is False


def test_a_create_that_was_killed_before_the_marker_was_written_is_done_again_or_destroyed(call, node, vmid):
    """What ``pct create`` writes first is a conf of nothing but its lock; whose it is stands in the address file alone."""
    bare = node.dir / f"etc/pve/nodes/lab1/lxc/{vmid}.conf"
    ipam = node.dir / "etc/migra/ipam-cloudpods.txt"
    lines = ipam.read_text()
    for name, parameters in (("cloudpod_create", POD), ("cloudpod_destroy", {"tenant_id": "TENANT-123"})):
        ipam.write_text(f"{lines}10.1.10.249 {vmid} client-portal TENANT-123 reserved:job1.1\n")
        bare.write_text("lock: create\n")
        stranger = call(name, vmid=vmid, **{**parameters, "tenant_id": "TENANT-9"})
        assert (stranger.failed, stranger.rc in (73, 77)) == (True, True), stranger.raw
        done = call(name, vmid=vmid, pod_id="p1", **parameters)
        assert done.changed, done.raw
        call("cloudpod_destroy", vmid=vmid)


# --- destroy -----------------------------------------------------------------------------------------------------


def test_destroy_removes_the_pod_and_frees_its_address(call, node, pod):
    address = call("cloudpod_info", vmids=[pod]).pods[0]["ip"]
    gone = call("cloudpod_destroy", vmid=pod, tenant_id="TENANT-123")
    assert gone.changed
    assert gone.ip == address
    assert gone.cloudpod == {"vmid": pod, "exists": False}
    assert gone.raw["diff"]["before"]["hostname"] == "client-portal"
    assert gone.raw["diff"]["after"] == {}
    assert node.conf(pod) is None
    again = call("cloudpod_destroy", vmid=pod, tenant_id="TENANT-123")
    assert not again.changed
    assert not again.failed


def test_a_destroy_that_failed_half_way_is_finished_by_the_next(call, node, pod):
    node.switch("fail", "pct destroy", "--half", "--keep", "--times", "1")
    assert call("cloudpod_destroy", vmid=pod, tenant_id="TENANT-123").failed
    assert node.conf(pod) is not None
    assert call("cloudpod_destroy", vmid=pod, tenant_id="TENANT-456").failed
    assert call("cloudpod_destroy", vmid=pod, tenant_id="TENANT-123").changed is True
    assert node.conf(pod) is None


def test_destroy_in_check_mode_changes_nothing(call, node, pod):
    before = node.state()
    planned = call("cloudpod_destroy", _check=True, vmid=pod)
    assert planned.changed
    assert planned.raw["diff"]["after"] == {}
    assert node.state() == before


def test_destroy_of_an_absent_pod_in_check_mode(call, vmid):
    assert not call("cloudpod_destroy", _check=True, vmid=vmid).changed


@pytest.mark.parametrize("guard", [{"tenant_id": "TENANT-9"}, {"pod_id": "p9"}], ids=["tenant", "pod"])
@pytest.mark.parametrize(
    ("name", "parameters"),
    CHANGES,
    ids=[name for name, _ in CHANGES],
)
def test_the_guards_protect_another_owners_pod(call, node, pod, name, parameters, guard):
    before = node.state()
    refused = call(name, vmid=pod, **parameters, **guard)
    assert refused.failed
    assert f"{next(iter(guard))} is not" in refused.msg
    assert node.state() == before


@pytest.mark.parametrize("check", [True, False], ids=["check", "real"])
@pytest.mark.parametrize(
    ("name", "parameters"),
    CHANGES,
    ids=[name for name, _ in CHANGES],
)
def test_a_core_container_is_never_touched(call, node, name, parameters, check):
    before = node.state()
    refused = call(name, _check=check, vmid=CORE_CONTAINER, **parameters)
    assert refused.failed
    assert "outside the pool ClientPods" in refused.msg
    assert node.state() == before


def test_a_protected_pod_is_not_destroyed_and_check_mode_knows(call, node, pod):
    node.edit_conf(pod, lambda text: text + "protection: 1\n")
    for check in (True, False):
        assert "protection mode enabled" in call("cloudpod_destroy", _check=check, vmid=pod).msg


def test_a_busy_pod_is_worth_another_try(call, node, pod):
    import fcntl
    import os

    lock = node.dir / f"run/lock/cloudpods/{pod}"
    with lock.open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        held.write(f"{os.getpid()} job9.1 cloudpod-backup 2026-11-21T00:00:00Z\n")
        held.flush()
        for name, parameters in (("cloudpod_create", POD), *CHANGES):
            busy = call(name, vmid=pod, **parameters)
            assert busy.failed
            assert (busy.retryable, busy.left_behind) == (True, "nothing")
            assert "cloudpod-backup (run job9.1" in busy.msg
        held.seek(0)
        held.truncate()


# --- scale -------------------------------------------------------------------------------------------------------


def test_scale_changes_the_size_once(call, node, pod):
    scaled = call("cloudpod_scale", vmid=pod, cores=4, memory_mb=4096)
    assert scaled.changed
    assert (scaled.cloudpod["cores"], scaled.cloudpod["memory_mb"], scaled.cloudpod["swap_mb"]) == (4, 4096, 512)
    diff = scaled.raw["diff"]
    assert (diff["before"]["cores"], diff["after"]["cores"]) == (2, 4)
    assert scaled.pending == []
    before = node.state()
    assert not call("cloudpod_scale", vmid=pod, cores=4, memory_mb=4096).changed
    assert node.state() == before


def test_scale_in_check_mode_shows_the_new_size(call, node, pod):
    before = node.state()
    planned = call("cloudpod_scale", _check=True, vmid=pod, cores=4, memory_mb=4096, swap_mb=0)
    assert planned.changed
    assert planned.raw["diff"]["after"]["swap_mb"] == 0
    assert not call("cloudpod_scale", _check=True, vmid=pod, cores=2, memory_mb=2048).changed
    assert node.state() == before


@pytest.mark.parametrize(("name", "parameters"), CHANGES[1:], ids=[name for name, _ in CHANGES[1:]])
def test_an_absent_pod_cannot_be_changed(call, vmid, name, parameters):
    for check in (True, False):
        refused = call(name, _check=check, vmid=vmid, **parameters)
        assert f"vmid {vmid} does not exist" in refused.msg
        assert refused.retryable is False


@pytest.mark.parametrize(("name", "parameters"), CHANGES[2:], ids=[name for name, _ in CHANGES[2:]])
def test_a_container_that_proxmox_has_locked_is_worth_another_try(call, node, pod, name, parameters):
    node.edit_conf(pod, lambda text: text + "lock: migrate\n")
    for check in (True, False):
        locked = call(name, _check=check, vmid=pod, **parameters)
        assert locked.retryable is True
        assert "is locked (migrate)" in locked.msg


# --- backup ------------------------------------------------------------------------------------------------------


def test_backup_makes_one_archive_for_a_job(call, pod):
    first = call("cloudpod_backup", vmid=pod, run_id="nightly.1")
    assert first.changed
    assert first.archive["volid"].startswith(f"vzdump-backups:backup/vzdump-lxc-{pod}-")
    assert first.archive["size_bytes"] > 0
    assert (first.archive["mode"], first.archive["storage"]) == ("snapshot", "vzdump-backups")
    assert first.raw["diff"]["after"]["archive"] == first.archive
    second = call("cloudpod_backup", vmid=pod, run_id="nightly.2")
    assert not second.changed
    assert second.archive["volid"] == first.archive["volid"]


def test_backup_in_check_mode_makes_none(call, node, pod):
    before = node.state()
    planned = call("cloudpod_backup", _check=True, vmid=pod)
    assert planned.changed
    assert planned.archive["volid"] is None
    assert node.state() == before


# --- power -------------------------------------------------------------------------------------------------------


def test_power_stops_and_starts_a_pod_once(call, node, pod):
    for state, before in (("stopped", "running"), ("running", "stopped")):
        changed = call("cloudpod_power", vmid=pod, tenant_id="TENANT-123", state=state)
        assert changed.changed, changed.raw
        assert changed.cloudpod["status"] == state
        assert (changed.raw["diff"]["before"]["status"], changed.raw["diff"]["after"]["status"]) == (before, state)
        kept = node.state()
        again = call("cloudpod_power", vmid=pod, state=state)
        assert not again.changed
        assert again.raw["diff"]["before"] == again.raw["diff"]["after"]
        assert node.state() == kept


def test_power_restarts_every_time(call, pod):
    for status in ("running", "running"):
        restarted = call("cloudpod_power", vmid=pod, state="restarted")
        assert (restarted.changed, restarted.cloudpod["status"]) == (True, status)
    call("cloudpod_power", vmid=pod, state="stopped")
    assert call("cloudpod_power", vmid=pod, state="restarted").cloudpod["status"] == "running"


@pytest.mark.parametrize(("state", "changed"), [("running", False), ("stopped", True), ("restarted", True)])
def test_power_in_check_mode_only_tells(call, node, pod, state, changed):
    before = node.state()
    planned = call("cloudpod_power", _check=True, vmid=pod, state=state)
    assert planned.changed is changed
    assert planned.raw["diff"]["after"]["status"] == ("stopped" if state == "stopped" else "running")
    assert node.state() == before


def test_a_guest_that_ignores_the_shutdown_is_only_stopped_by_force(call, node, pod):
    node.switch("fail", "pct shutdown", "--vmid", str(pod), "--message", "container did not stop")
    failed = call("cloudpod_power", vmid=pod, state="stopped", shutdown_timeout_s=1)
    assert failed.failed
    assert failed.msg == "cloudpod-power.sh: container did not stop"
    assert (failed.retryable, failed.rc) == (False, 1)
    assert "may still obey" in failed.left_behind
    assert call("cloudpod_power", vmid=pod, state="stopped", shutdown_timeout_s=1, force=True).changed


# --- snapshot ----------------------------------------------------------------------------------------------------


def test_a_snapshot_is_made_gone_back_to_and_deleted(call, node, pod):
    made = call("cloudpod_snapshot", vmid=pod, tenant_id="TENANT-123", name="before", run_id="job7.1")
    assert made.changed, made.raw
    (row,) = made.snapshots
    assert row["created"].startswith("20")
    assert {**row, "created": ""} == {"name": "before", "created": "", "parent": None, "job": "job7", "complete": True}
    assert made.cloudpod["snapshots"] == made.snapshots
    assert (made.raw["diff"]["before"]["snapshots"], made.raw["diff"]["after"]["snapshots"]) == ([], ["before"])

    call("cloudpod_scale", vmid=pod, cores=4, memory_mb=4096)
    back = call("cloudpod_snapshot", vmid=pod, name="before", state="rolled_back")
    assert back.changed
    assert (back.cloudpod["cores"], back.cloudpod["status"], back.snapshots) == (2, "running", made.snapshots)
    assert (back.raw["diff"]["before"]["cores"], back.raw["diff"]["after"]["cores"]) == (4, 2)
    assert back.raw["diff"]["after"]["rolled_back_to"] == "before"

    gone = call("cloudpod_snapshot", vmid=pod, name="before", state="absent")
    assert (gone.changed, gone.snapshots) == (True, [])
    kept = node.state()
    again = call("cloudpod_snapshot", vmid=pod, name="before", state="absent")
    assert (again.changed, again.snapshots, again.failed) == (False, [], False)
    assert node.state() == kept


@pytest.mark.parametrize("run_id", [None, "job7.1", "job7.2"])
def test_a_snapshot_that_is_there_is_made_no_second_time(call, node, pod, run_id):
    call("cloudpod_snapshot", vmid=pod, name="before", run_id="job7.1")
    before = node.state()
    again = call("cloudpod_snapshot", vmid=pod, name="before", **({"run_id": run_id} if run_id else {}))
    assert (again.changed, again.failed) == (False, False)
    assert [each["name"] for each in again.snapshots] == ["before"]
    assert node.state() == before


def test_a_snapshot_of_another_job_is_not_taken_for_the_one_that_is_asked(call, node, pod):
    call("cloudpod_snapshot", vmid=pod, name="before", run_id="job7.1")
    before = node.state()
    for check in (True, False):
        refused = call("cloudpod_snapshot", _check=check, vmid=pod, name="before", run_id="job8.1")
        assert "already has a snapshot before, which another job made" in refused.msg
        assert (refused.retryable, refused.left_behind) == (False, "nothing")
    assert node.state() == before


def test_a_snapshot_that_is_not_there_cannot_be_gone_back_to(call, node, pod):
    before = node.state()
    for check in (True, False):
        refused = call("cloudpod_snapshot", _check=check, vmid=pod, name="never", state="rolled_back")
        assert refused.msg == f"vmid {pod} has no snapshot never"
        assert refused.retryable is False
    assert node.state() == before


def test_a_snapshot_that_is_not_whole_can_only_be_deleted(call, node, pod):
    call("cloudpod_snapshot", vmid=pod, name="before")
    node.edit_conf(pod, lambda text: text.replace("snaptime: ", "snapstate: prepare\nsnaptime: "))
    for state in ("present", "rolled_back"):
        assert "is not complete: delete it" in call("cloudpod_snapshot", vmid=pod, name="before", state=state).msg
    assert call("cloudpod_snapshot", vmid=pod, name="before", state="absent").changed


@pytest.mark.parametrize(
    ("state", "changed", "names"),
    [("present", False, ["before"]), ("absent", True, []), ("rolled_back", True, ["before"])],
)
def test_snapshot_in_check_mode_only_tells(call, node, pod, state, changed, names):
    call("cloudpod_snapshot", vmid=pod, name="before")
    kept = node.state()
    planned = call("cloudpod_snapshot", _check=True, vmid=pod, name="before", state=state)
    assert (planned.changed, [each["name"] for each in planned.snapshots]) == (changed, names)
    assert planned.raw["diff"]["after"]["snapshots"] == names
    assert node.state() == kept


def test_a_new_snapshot_in_check_mode(call, node, pod):
    call("cloudpod_snapshot", vmid=pod, name="first")
    kept = node.state()
    planned = call("cloudpod_snapshot", _check=True, vmid=pod, name="second", run_id="job7.1")
    assert planned.changed
    assert planned.snapshots[1] == {"name": "second", "created": None, "parent": "first", "job": "job7", "complete": True}
    assert node.state() == kept


def test_a_job_goes_back_once(call, pod):
    call("cloudpod_snapshot", vmid=pod, name="before")
    goes = {"vmid": pod, "name": "before", "state": "rolled_back"}
    changed = [call("cloudpod_snapshot", **goes, run_id=run).changed for run in ("job8.1", "job8.2", "job9.1")]
    assert changed == [True, False, True]


def test_a_rollback_that_fails_says_what_is_left(call, node, pod):
    call("cloudpod_snapshot", vmid=pod, name="first")
    call("cloudpod_snapshot", vmid=pod, name="second")
    failed = call("cloudpod_snapshot", vmid=pod, name="first", state="rolled_back")
    assert "is not most recent snapshot" in failed.msg
    assert (failed.retryable, failed.left_behind, failed.rc) == (False, "nothing", 1)


# --- reading -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("check", [True, False], ids=["check", "real"])
def test_info_shows_many_pods_in_one_call(call, pod, check):
    found = call("cloudpod_info", _check=check, vmids=[pod, CORE_CONTAINER, 99999])
    assert not found.changed
    assert (found.node, found.pool) == ("lab1", "ClientPods")
    rows = {row["vmid"]: row for row in found.pods}
    assert rows[pod]["hostname"] == "client-portal"
    assert rows[99999]["exists"] is False
    assert set(rows[CORE_CONTAINER]) == {"vmid", "exists", "in_pool", "node", "busy", "unfinished"}
    assert pod in {row["vmid"] for row in call("cloudpod_info", all=True).pods}


@pytest.mark.parametrize("check", [True, False], ids=["check", "real"])
def test_health_judges_many_pods_in_one_call(call, pod, check):
    found = call("cloudpod_health", _check=check, vmids=[pod, 99999])
    assert not found.changed
    rows = {row["vmid"]: row for row in found.health}
    assert (rows[pod]["verdict"], rows[99999]["verdict"]) == ("ok", "critical")
    assert pod in {row["vmid"] for row in call("cloudpod_health", all=True).health}


def test_health_asks_guests_and_takes_thresholds(call, pod):
    (row,) = call("cloudpod_health", vmids=[pod], in_guest=True, guest_timeout_s=20, disk_warning_percent=4).health
    assert row["guest"] == "running"
    assert row["reachable"] is None
    assert (row["verdict"], row["reasons"]) == ("warning", ["disk 4 % of 8192 MB is at or above 4 %"])


def test_health_of_a_core_container_is_refused(call):
    assert call("cloudpod_health", vmids=[CORE_CONTAINER]).rc == 77


# --- bad input ---------------------------------------------------------------------------------------------------

ONE_POD = [
    ("vmid", 99),
    ("vmid", 1234567890),
    ("tenant_id", "a b"),
    ("pod_id", "-x"),
    ("run_id", "a/b"),
    ("script_dir", "sbin"),
    ("timeout_s", 0),
]
SIZE = [("cores", 0), ("cores", 129), ("memory_mb", 8), ("swap_mb", -1)]
BAD = {
    "cloudpod_create": [
        *ONE_POD,
        *SIZE,
        ("hostname", "a;b"),
        ("hostname", "a b"),
        ("hostname", "a_b"),
        ("hostname", "x" * 300),
        ("hostname", "-a"),
        ("hostname", "{{ lookup('pipe', 'id') }}"),
        ("storage", "a/b"),
        ("bridge", "vmbr0,tag=1"),
        ("ip", "10.1.10.300"),
        ("gateway", "gw"),
        ("template", "debian"),
        ("ssh_keys", "/etc/shadow"),
        ("disk_gb", 0),
    ],
    "cloudpod_destroy": ONE_POD,
    "cloudpod_scale": [*ONE_POD, *SIZE],
    "cloudpod_backup": [
        *ONE_POD,
        ("storage", "a/b"),
        ("mode", "copy"),
        ("retention", {}),
        ("retention", {"keep_last": 0}),
        ("retention", {"keep_last": 1000}),
        ("retention", "keep-last=3"),
    ],
    "cloudpod_restore": [
        *ONE_POD,
        ("archive", "/var/lib/vz/dump/x.tar.zst"),
        ("archive", "{{ lookup('pipe', 'id') }}"),
        ("from_pod_id", "a b"),
        ("from_vmid", 9101),
        ("hostname", "copy"),
        ("force", "maybe"),
    ],
    "cloudpod_adopt": ONE_POD,
    "cloudpod_restore_drill": [
        *ONE_POD,
        ("vmid", 100000000),
        ("drill_vmid", 9999),
        ("archive", "local:vztmpl/x.tar.zst"),
        ("boot_timeout_s", 0),
        ("storage", "a/b"),
    ],
    "cloudpod_power": [*ONE_POD, ("state", "off"), ("shutdown_timeout_s", 0), ("shutdown_timeout_s", 3601), ("force", "maybe")],
    "cloudpod_snapshot": [
        *ONE_POD,
        ("name", "a"),
        ("name", "current"),
        ("name", "a b"),
        ("name", "{{ lookup('pipe', 'id') }}"),
        ("state", "created"),
    ],
    "cloudpod_info": [("vmids", [99]), ("vmids", []), ("script_dir", "sbin"), ("timeout_s", 0)],
    "node_info": [("script_dir", "sbin"), ("timeout_s", 0)],
    "cloudpod_health": [
        ("vmids", [9101, 99]),
        ("vmids", []),
        ("script_dir", "sbin"),
        ("timeout_s", 0),
        ("reach", "maybe"),
        ("in_guest", "maybe"),
        ("guest_timeout_s", 61),
        ("memory_warning_percent", 0),
        ("memory_critical_percent", 101),
        ("swap_warning_percent", -1),
        ("disk_warning_percent", "1%"),
        ("disk_critical_percent", 101),
    ],
}
GOOD = {
    "cloudpod_create": {"vmid": 9999, **POD},
    "cloudpod_destroy": {"vmid": 9999},
    "cloudpod_scale": {"vmid": 9999, "cores": 2, "memory_mb": 2048},
    "cloudpod_backup": {"vmid": 9999},
    "cloudpod_restore": {"vmid": 9999, "tenant_id": "TENANT-123", "pod_id": "p1"},
    "cloudpod_adopt": {"vmid": 9999, "tenant_id": "TENANT-123", "pod_id": "p1"},
    "cloudpod_restore_drill": {"vmid": 9999, "tenant_id": "TENANT-123"},
    "cloudpod_power": {"vmid": 9999, "state": "running"},
    "cloudpod_snapshot": {"vmid": 9999, "name": "before"},
    "cloudpod_info": {},
    "node_info": {},
    "cloudpod_health": {},
}


@pytest.mark.parametrize(
    ("name", "parameter", "value"),
    [pytest.param(name, *bad, id=f"{name}-{bad[0]}={bad[1]!r}"[:70]) for name, cases in BAD.items() for bad in cases],
)
def test_bad_input_is_refused_by_name_before_anything_runs(run_module, site, name, parameter, value):
    # No scripts at all: had the module come as far as starting one, it would complain about that.
    refused = run_module(name, **{**site.access, **GOOD[name], parameter: value})
    assert refused.failed
    assert parameter in refused.msg
    assert "is not on this node" not in refused.msg


@pytest.mark.parametrize(
    ("name", "parameter"),
    [(name, parameter) for name, good in GOOD.items() for parameter in good],
)
def test_a_missing_parameter_is_named(run_module, site, name, parameter):
    given = {key: value for key, value in GOOD[name].items() if key != parameter}
    assert f"missing required arguments: {parameter}" in run_module(name, **site.access, **given).msg


@pytest.mark.parametrize("name", GOOD)
def test_an_unknown_parameter_is_named(run_module, site, name):
    assert "colour" in run_module(name, **site.access, **GOOD[name], colour="red").msg


def test_ip_and_auto_ip_exclude_each_other(run_module, site):
    refused = run_module("cloudpod_create", **site.access, **GOOD["cloudpod_create"], ip="10.1.10.91", auto_ip=True)
    assert "ip: cannot be combined with auto_ip" in refused.msg


@pytest.mark.parametrize("name", GOOD)
def test_a_node_without_scripts_is_told_how_to_get_them(run_module, site, name):
    read = {"all": True} if name in ("cloudpod_info", "cloudpod_health") else {}
    refused = run_module(name, **site.access, **GOOD[name], **read)
    assert "cloudpod_node" in refused.msg
    assert (refused.retryable, refused.left_behind) == (False, "nothing")
