"""The decisions about one pod: argument vectors, differences, refusals, diffs."""

from __future__ import annotations

import pytest
from ansible_collections.migra.cloudpods.plugins.module_utils import _cloudpod as pod
from ansible_collections.migra.cloudpods.plugins.module_utils import _errors as errors

CREATE = {
    "vmid": 9101,
    "hostname": "web",
    "tenant_id": "T-1",
    "pod_id": None,
    "run_id": None,
    "cores": 2,
    "memory_mb": 2048,
    "swap_mb": 512,
    "disk_gb": None,
    "storage": "clients-main",
    "bridge": "vmbr0",
    "ip": None,
    "auto_ip": None,
    "gateway": None,
    "template": None,
    "ssh_keys": None,
}
SPEC = "--vmid 9101 --host web --tenant T-1 --bridge vmbr0 --storage clients-main --cores 2 --mem 2048 --swap 512"
ROW = {
    "vmid": 9101,
    "exists": True,
    "in_pool": True,
    "node": "lab1",
    "status": "running",
    "lock": None,
    "unfinished": False,
    "busy": None,
    "owner": {"tenant": "T-1", "pod": "p1"},
    "hostname": "web",
    "ip": "10.1.10.91",
    "prefix": 24,
    "gateway": "10.1.10.1",
    "bridge": "vmbr0",
    "storage": "clients-main",
    "disk_gb": 8,
    "cores": 2,
    "memory_mb": 2048,
    "swap_mb": 512,
    "pending": {},
}
EXTRAS = {
    "disk_gb": 20,
    "ssh_keys": "/k/a.pub",
    "template": "local:vztmpl/x",
    "gateway": "10.1.10.2",
    "pod_id": "p1",
    "run_id": "j.1",
}
EXTRA_OPTIONS = "--disk 20 --ssh-keys /k/a.pub --template local:vztmpl/x --gw 10.1.10.2 --pod p1 --run j.1"


@pytest.mark.parametrize(
    ("changed", "ours", "arguments"),
    [
        ({}, True, f"{SPEC} --auto-ip"),
        ({}, False, f"{SPEC} --auto-ip"),
        ({"auto_ip": True}, True, f"{SPEC} --auto-ip"),
        ({"auto_ip": False}, True, f"{SPEC} --auto-ip"),
        ({"ip": "10.1.10.91"}, True, f"{SPEC} --ip 10.1.10.91"),
        ({"ip": "10.1.10.91", "auto_ip": False}, False, f"{SPEC} --ip 10.1.10.91"),
        ({"swap_mb": 0}, True, SPEC.replace("512", "0") + " --auto-ip"),
        (
            EXTRAS,
            True,
            f"{SPEC} --auto-ip {EXTRA_OPTIONS}",
        ),
        (EXTRAS, False, f"{SPEC} --auto-ip"),
    ],
)
def test_arguments_of_create(changed: dict, ours: bool, arguments: str) -> None:
    assert pod.create_arguments({**CREATE, **changed}, ours) == arguments.split()


GUARDED = {"vmid": 9101, "tenant_id": "T-1", "pod_id": "p1", "run_id": "j.1"}
GUARDS = "--tenant T-1 --pod p1 --run j.1"
OFF = {**GUARDED, "state": "stopped", "shutdown_timeout_s": 60, "force": False}
KEEP = {**GUARDED, "name": "before", "state": "present"}
BIGGER = {**GUARDED, "cores": 4, "memory_mb": 4096, "swap_mb": 0}


@pytest.mark.parametrize(
    ("build", "params", "arguments"),
    [
        ("power", OFF, f"9101 --state stopped --shutdown-timeout 60 {GUARDS}"),
        ("power", {**OFF, "force": True}, f"9101 --state stopped --shutdown-timeout 60 --force {GUARDS}"),
        ("snapshot", KEEP, f"9101 --action create --name before {GUARDS}"),
        ("snapshot", {**KEEP, "state": "absent"}, f"9101 --action delete --name before {GUARDS}"),
        ("snapshot", {"vmid": 9101, "name": "b4", "state": "rolled_back"}, "9101 --action rollback --name b4"),
    ],
)
def test_arguments_that_the_master_spec_does_not_know(build: str, params: dict, arguments: str) -> None:
    assert getattr(pod, f"{build}_arguments")(params) == arguments.split()


@pytest.mark.parametrize(
    ("build", "params", "ours", "arguments"),
    [
        ("destroy", {"vmid": 9101}, True, "9101"),
        ("destroy", GUARDED, True, f"9101 {GUARDS}"),
        ("destroy", GUARDED, False, "9101"),
        ("scale", BIGGER, True, f"9101 --cores 4 --mem 4096 --swap 0 {GUARDS}"),
        ("scale", BIGGER, False, "9101 --cores 4 --mem 4096"),
        ("scale", dict(BIGGER, force=True), True, f"9101 --cores 4 --mem 4096 --swap 0 {GUARDS} --force"),
        ("scale", dict(BIGGER, force=True), False, "9101 --cores 4 --mem 4096"),
    ],
)
def test_arguments_of_the_others(build: str, params: dict, ours: bool, arguments: str) -> None:
    assert getattr(pod, f"{build}_arguments")(params, ours) == arguments.split()


def test_arguments_of_reading() -> None:
    assert pod.info_arguments({"all": True, "vmids": None, "backups": True}) == ["--all", "--backups"]
    assert pod.info_arguments({"all": False, "vmids": [9101], "backups": False}) == ["9101"]
    assert pod.read_arguments({"all": True, "vmids": None}) == ["--all"]
    assert pod.read_arguments({"all": False, "vmids": [9102, 9101, 9102]}) == ["9102", "9101"]


@pytest.mark.parametrize(
    ("asked", "differing"),
    [
        ({}, []),
        ({"ip": "10.1.10.91", "disk_gb": 8, "gateway": "10.1.10.1"}, []),
        ({"cores": 4}, ["cores"]),
        ({"memory_mb": 1, "swap_mb": 0}, ["memory_mb", "swap_mb"]),
        ({"hostname": "db", "ip": "10.1.10.92"}, ["hostname", "ip"]),
        ({"disk_gb": 9, "storage": "other", "bridge": "vmbr1"}, ["bridge", "storage", "disk_gb"]),
        ({"template": "local:vztmpl/other", "ssh_keys": "/k/b.pub", "run_id": "another"}, []),
    ],
)
def test_differences(asked: dict, differing: list[str]) -> None:
    found = pod.differences(ROW, {**CREATE, **asked}, pod.CREATE_COMPARED)
    assert list(found) == differing
    assert all(two["asked"] == asked[name] for name, two in found.items())


def test_differences_in_words() -> None:
    found = pod.differences({**ROW, "ip": None}, {**CREATE, "cores": 4, "ip": "10.1.10.91"}, pod.CREATE_COMPARED)
    assert pod.described(found) == "ip is unknown, asked 10.1.10.91, cores is 2, asked 4"


@pytest.mark.parametrize(
    ("params", "row", "older", "wrong"),
    [
        ({}, {}, False, None),
        ({"tenant_id": "T-1", "pod_id": "p1"}, {}, False, None),
        ({"tenant_id": "T-2"}, {}, False, "tenant_id"),
        ({"pod_id": "p2"}, {}, False, "pod_id"),
        ({"tenant_id": "T-1"}, {"owner": None}, False, "tenant_id"),
        ({"tenant_id": "T-1"}, {"owner": None}, True, None),
        ({"tenant_id": "T-2"}, {}, True, "tenant_id"),
        # Killed so early that only the address file knows the owner, and the script compares with that.
        ({"tenant_id": "T-2", "pod_id": "p1"}, {"owner": None, "unfinished": True}, False, None),
        ({"tenant_id": "T-2", "pod_id": "p1"}, {"owner": None, "lock": "destroyed"}, False, None),
        ({"tenant_id": "T-2"}, {"owner": None, "lock": "backup"}, False, "tenant_id"),
        ({"tenant_id": "T-2"}, {"unfinished": True}, False, "tenant_id"),
    ],
)
def test_another_owner_is_refused_and_stays_untold(params: dict, row: dict, older: bool, wrong: str | None) -> None:
    if wrong is None:
        pod.refuse_other_owner({**ROW, **row}, params, older)
        return
    with pytest.raises(errors.Refused, match=f"{wrong} is not") as refused:
        pod.refuse_other_owner({**ROW, **row}, params, older)
    assert refused.value.result()["parameters"] == [wrong]
    assert "T-1" not in str(refused.value.result()).replace(str(params.get("tenant_id")), "")


@pytest.mark.parametrize(
    ("owner", "wrong"),
    [
        (None, []),
        ({"tenant": "T-1", "pod": None}, []),
        ({"tenant": "T-1", "pod": "p1"}, []),
        ({"tenant": "T-1", "pod": "p2"}, ["pod_id"]),
        ({"tenant": "T-2", "pod": None}, ["tenant_id"]),
        ({"tenant": "T-2", "pod": "p1"}, ["tenant_id"]),
    ],
)
def test_who_may_adopt(owner: dict | None, wrong: list[str]) -> None:
    asked = {"tenant_id": "T-1", "pod_id": "p1"}
    if not wrong:
        pod.refuse_adopted({**ROW, "owner": owner}, asked)
        return
    with pytest.raises(errors.Refused) as refused:
        pod.refuse_adopted({**ROW, "owner": owner}, asked)
    assert refused.value.result()["parameters"] == wrong


@pytest.mark.parametrize(
    ("row", "refusal"),
    [
        ({}, None),
        ({"exists": False}, None),
        ({"in_pool": False, "unfinished": True}, None),
        ({"in_pool": False}, "outside the pool ClientPods"),
        ({"node": "lab2"}, "on node lab2, not on lab1"),
    ],
)
def test_what_is_not_ours_is_refused(row: dict, refusal: str | None) -> None:
    if refusal is None:
        pod.refuse_foreign({**ROW, **row}, {}, "lab1", "ClientPods")
        return
    with pytest.raises(errors.Refused, match=refusal) as refused:
        pod.refuse_foreign({**ROW, **row}, {}, "lab1", "ClientPods")
    assert refused.value.retryable is False


@pytest.mark.parametrize(("tenant", "error"), [("TENANT-123", errors.Refused), ("TENANT-9", errors.Foreign)])
def test_a_pod_on_another_node_is_no_one_elses(tenant: str, error: type[errors.CloudPodError]) -> None:
    moved = {**ROW, "node": "lab2", "owner": {"tenant": "TENANT-123", "pod": "p1"}}
    with pytest.raises(errors.Refused, match="on node lab2") as refused:
        pod.refuse_foreign(moved, {"tenant_id": tenant, "pod_id": "p1"}, "lab1", "ClientPods")
    assert type(refused.value) is error


def test_a_busy_pod_may_be_tried_later() -> None:
    holder = {"pid": 4711, "run": "job1.1", "script": "cloudpod-create", "since": "2026-11-21T00:00:00Z"}
    with pytest.raises(errors.Busy, match=r"cloudpod-create \(run job1.1, pid 4711\)") as busy:
        pod.refuse_busy({**ROW, "busy": holder})
    assert busy.value.retryable is True
    assert busy.value.left_behind == "nothing"


@pytest.mark.parametrize(
    ("row", "locked"),
    [
        ({"lock": "backup", "lock_stale": True}, False),
        ({"lock": "backup", "lock_stale": False}, True),
        ({"lock": "backup"}, True),
        ({"lock": "mounted"}, False),
        ({"lock": "create", "unfinished": True}, False),
        ({}, False),
    ],
)
def test_proxmox_own_lock_may_be_tried_later(row: dict, locked: bool) -> None:
    if not locked:
        pod.refuse_locked({**ROW, **row})
        return
    with pytest.raises(errors.Busy, match=r"CT is locked|CT 9101 is locked \(backup\)") as busy:
        pod.refuse_locked({**ROW, **row})
    assert busy.value.retryable is True


@pytest.mark.parametrize(
    ("asked", "row", "has"),
    [
        ({"cores": 2, "memory_mb": 2048}, {}, True),
        ({"cores": 2, "memory_mb": 2048, "swap_mb": 512}, {}, True),
        ({"cores": 2, "memory_mb": 2048, "swap_mb": 0}, {}, False),
        ({"cores": 4, "memory_mb": 2048}, {}, False),
        ({"cores": 2, "memory_mb": 2048}, {"pending": {"memory": "4096"}}, False),
        ({"cores": 2, "memory_mb": 2048}, {"pending": {"nameserver": "1.1.1.1"}}, True),
    ],
)
def test_whether_a_pod_has_the_size(asked: dict, row: dict, has: bool) -> None:
    assert pod.has_size({**ROW, **row}, asked) is has


def test_diff_shows_the_owner_and_leaves_out_what_is_not_known() -> None:
    shown = pod.diff(None, ROW)
    assert shown["before"] == {}
    assert shown["after"]["tenant_id"] == "T-1"
    assert "config" not in shown["after"]
    assert "ip" not in pod.diff(None, {**ROW, "ip": None})["after"]
