"""The modules cloudpod_restore, cloudpod_adopt and the new parts of backup and info, against scripts that answer as ours do."""

from __future__ import annotations

import pytest

OLD, NEW, OTHERS = (f"vzdump-backups:backup/vzdump-lxc-9101-2026_11_{day}-00_05_47.tar.zst" for day in (10, 20, 21))
MADE = {"tenant": "T-1", "pod": "p1", "job": "nightly", "created": "2026-11-20T00:05:47Z", "size_bytes": 5, "protected": False}
BACKUPS = [{**MADE, "volid": OTHERS, "tenant": "T-2"}, {**MADE, "volid": NEW}, {**MADE, "volid": OLD}]
POD = {
    "vmid": 9101, "exists": True, "in_pool": True, "node": "lab1", "status": "running", "lock": None, "unfinished": False,
    "busy": None, "owner": {"tenant": "T-1", "pod": "p1"}, "hostname": "web", "ip": "10.1.10.91", "cores": 2, "restored": None,
    "backups": BACKUPS,
}  # fmt: skip
GONE = {"vmid": 9101, "exists": False, "busy": None, "unfinished": False, "backups": BACKUPS}
FREE = {"vmid": 9102, "exists": False, "busy": None, "unfinished": False, "backups": []}
COPY = {**POD, "vmid": 9102, "owner": {"tenant": "T-1", "pod": "p2"}, "hostname": "copy", "ip": "10.1.10.92", "backups": []}
IN_PLACE = {"vmid": 9101, "tenant_id": "T-1", "pod_id": "p1"}
AS_NEW = {"vmid": 9102, "tenant_id": "T-1", "pod_id": "p2", "from_vmid": 9101, "from_pod_id": "p1", "hostname": "copy"}
CHOSEN = {"volid": NEW, "created": "2026-11-20T00:05:47Z", "size_bytes": 5, "job": "nightly"}
RESTORED = {"Archive": NEW, "Result": "restored"}


def by(job: str | None, volid: str = NEW) -> dict:
    return {"restored": {"job": job, "archive": volid}}


@pytest.fixture
def restore(run_module, site):
    """Return a function that calls cloudpod_restore."""
    site.fail("restore", 70, "the script must not have been called")

    def call(_check: bool = False, **parameters):
        return run_module("cloudpod_restore", _check, **site.access, **parameters)

    return call


# --- in place ----------------------------------------------------------------------------------------------------


def test_a_pod_is_restored_from_its_own_newest_archive(restore, site):
    site.show(POD)
    site.change("restore", RESTORED, {**POD, **by("j")})
    done = restore(**IN_PLACE, force=True, run_id="j.1")
    assert (done.changed, done.archive, done.ip) == (True, CHOSEN, "10.1.10.91"), done.raw
    assert site.calls("info")[0] == "9101 --backups"
    assert site.calls("restore") == [f"9101 --archive {NEW} --tenant T-1 --pod p1 --run j.1 --force"]
    assert done.cloudpod["restored"] == {"job": "j", "archive": NEW}
    assert (done.raw["diff"]["before"].get("restored_from"), done.raw["diff"]["after"]["restored_from"]) == (None, NEW)
    assert done.warnings == ""


def test_a_pod_that_exists_is_only_restored_by_force(restore, site):
    site.show(POD)
    planned = restore(True, **IN_PLACE)
    assert "what was written since the archive would be lost" in planned.msg
    assert (planned.retryable, planned.left_behind, site.calls("restore")) == (False, "nothing", [])
    # The script decides: only it knows whether this is what is left of this job's own restore.
    site.fail("restore", 73, "container 9101 exists: --force allows it")
    refused = restore(**IN_PLACE, run_id="j.1")
    assert (refused.rc, refused.retryable) == (73, False)
    assert site.calls("restore") == [f"9101 --archive {NEW} --tenant T-1 --pod p1 --run j.1"]


def test_a_pod_that_is_gone_needs_no_force(restore, site):
    site.show(GONE)
    site.change("restore", RESTORED, {**POD, **by(None)})
    done = restore(**IN_PLACE, archive=OLD)
    assert done.changed
    assert site.calls("restore") == [f"9101 --archive {OLD} --tenant T-1 --pod p1"]


@pytest.mark.parametrize("row", [POD, GONE], ids=["there", "gone"])
def test_check_mode_restores_nothing_and_tells_from_what(restore, site, row):
    site.show(row)
    planned = restore(True, **IN_PLACE, force=True, run_id="j.1")
    assert (planned.changed, planned.archive["volid"]) == (True, NEW), planned.raw
    assert planned.cloudpod["restored"] == {"job": "j", "archive": NEW}
    assert planned.cloudpod["owner"] == {"tenant": "T-1", "pod": "p1"}
    assert site.calls("restore") == []


def test_the_same_job_restores_once_and_takes_no_newer_archive(restore, site):
    """Between the two runs a backup was made. The script is called all the same: the pod may not have been started yet."""
    site.show({**POD, **by("j", OLD)})
    site.change("restore", {"Archive": OLD, "Result": "exists"}, {**POD, **by("j", OLD)})
    again = restore(**IN_PLACE, run_id="j.2")
    assert (again.changed, again.failed, again.archive["volid"]) == (False, False, OLD), again.raw
    assert site.calls("restore") == [f"9101 --archive {OLD} --tenant T-1 --pod p1 --run j.2"]
    assert not restore(True, **IN_PLACE, run_id="j.2").changed


def test_a_restore_that_was_ended_half_way_can_be_repeated(restore, site):
    """Proxmox's own lock of it, and the missing marker, are the script's to deal with."""
    bare = {**GONE, "exists": True, "in_pool": False, "lock": "create", "unfinished": True, "owner": None, "status": "stopped"}
    site.show(bare)
    site.change("restore", RESTORED, {**POD, **by("j")})
    assert restore(**IN_PLACE, run_id="j.2").changed


# --- as a new pod ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [POD, GONE, {**POD, "busy": {"pid": 1, "run": None, "script": "x", "since": None}}])
def test_a_new_pod_is_made_of_anothers_archive_whatever_that_one_does(restore, site, source):
    site.show(source, FREE)
    site.change("restore", {**RESTORED, "IP": "10.1.10.92"}, source, {**COPY, **by(None)})
    made = restore(**AS_NEW, isolated=True, memory_mb=64)
    assert (made.changed, made.ip, made.archive) == (True, "10.1.10.92", CHOSEN), made.raw
    assert site.calls("info")[0] == "9102 9101 --backups"
    assert site.calls("restore") == [
        f"9102 --archive {NEW} --tenant T-1 --pod p2 --from-pod p1 --host copy --mem 64 --auto-ip --isolated"
    ]
    assert made.raw["diff"]["before"] == {}


def test_a_new_pod_in_check_mode(restore, site):
    site.show(POD, FREE)
    planned = restore(True, **AS_NEW)
    assert (planned.changed, planned.ip, planned.archive["volid"]) == (True, None, NEW)
    assert planned.raw["diff"]["after"]["ip"] == "chosen by the node"
    assert planned.raw["diff"]["after"]["hostname"] == "copy"
    assert site.calls("restore") == []


def test_a_new_pod_is_made_once_of_one_archive(restore, site):
    site.show(POD, {**COPY, **by(None)})
    again = restore(**AS_NEW)
    assert (again.changed, again.failed, again.ip) == (False, False, "10.1.10.92"), again.raw
    assert site.calls("restore") == []
    other = restore(**AS_NEW, cores=4)
    assert "cores is 2, asked 4" in other.msg
    assert "exists already" in restore(**AS_NEW, archive=OLD).msg
    assert "exists already" in restore(**AS_NEW, run_id="j.1").msg


def test_the_archive_names_the_vmid_it_is_of(restore, site):
    site.show(POD, FREE)
    site.change("restore", RESTORED, {**COPY, **by(None)})
    assert restore(**{**AS_NEW, "from_vmid": None}, archive=OLD).changed
    assert site.calls("info")[0] == "9102 9101 --backups"


# --- refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "asked", "reason", "retryable"),
    [
        (POD, {"tenant_id": "T-2"}, "tenant_id is not T-2", False),
        (POD, {"pod_id": "p9"}, "pod_id is not p9", False),
        (POD, {"archive": OTHERS}, "is not one of pod p1", False),
        ({**POD, "backups": BACKUPS[:1]}, {}, "no archive of pod p1 of tenant T-1", False),
        ({**GONE, "backups": []}, {}, "no archive of pod p1", False),
        ({**POD, "busy": {"pid": 1, "run": "j", "script": "cloudpod-backup", "since": "x"}}, {}, "is busy", True),
        ({**POD, "lock": "backup"}, {}, "is locked (backup)", True),
        ({**POD, "in_pool": False}, {}, "outside the pool", False),
        ({**POD, "node": "lab2"}, {}, "on node lab2", False),
    ],
)
def test_what_may_not_be_restored(restore, site, row, asked, reason, retryable):
    site.show(row)
    for check in (True, False):
        refused = restore(check, **{**IN_PLACE, "force": True, **asked})
        assert reason in refused.msg
        assert (refused.retryable, refused.left_behind) == (retryable, "nothing")
        # In place nobody picked the vmid: there is none to pick again.
        assert "taken" not in refused.raw
    assert site.calls("restore") == []


THEIRS = [{"owner": {"tenant": "T-2", "pod": "p2"}}, {"in_pool": False}, {"owner": None}, {"node": "lab2", "owner": None}]


@pytest.mark.parametrize("row", THEIRS)
def test_a_new_pods_vmid_that_somebody_has_is_said_to_be_taken(restore, site, row):
    site.show(POD, {**COPY, **row})
    for check in (True, False):
        refused = restore(check, **AS_NEW)
        assert (refused.failed, refused.taken, refused.left_behind) == (True, "vmid", "nothing"), refused.raw
    assert site.calls("restore") == []


def test_a_failed_restore_says_what_is_left(restore, site):
    site.show(POD)
    site.fail("restore", 1, "unable to restore", left=f"container 9101 is gone: repeat from {NEW}")
    failed = restore(**IN_PLACE, force=True)
    assert failed.msg == "cloudpod-restore.sh: unable to restore"
    assert (failed.retryable, failed.rc, failed.left_behind) == (False, 1, f"container 9101 is gone: repeat from {NEW}")


# --- adopt -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("owner", [None, {"tenant": "T-1", "pod": None}])
def test_a_container_becomes_a_pod(run_module, site, owner):
    site.show({**POD, "owner": owner})
    site.change("adopt", {"Result": "adopted"}, POD)
    planned = run_module("cloudpod_adopt", True, **site.access, **IN_PLACE)
    assert (planned.changed, site.calls("adopt")) == (True, [])
    done = run_module("cloudpod_adopt", **site.access, **IN_PLACE, run_id="j.1")
    assert (done.changed, done.cloudpod["owner"]) == (True, {"tenant": "T-1", "pod": "p1"}), done.raw
    assert "pod_id" not in done.raw["diff"]["before"]
    assert done.raw["diff"]["after"]["pod_id"] == "p1"
    assert site.calls("adopt") == ["9101 --tenant T-1 --pod p1 --run j.1"]


def test_a_pod_is_not_adopted_twice(run_module, site):
    """The script is called all the same: its line in the address file, which a look does not show, may be missing."""
    site.show(POD)
    site.change("adopt", {"Result": "unchanged"}, POD)
    assert not run_module("cloudpod_adopt", True, **site.access, **IN_PLACE).changed
    assert not run_module("cloudpod_adopt", **site.access, **IN_PLACE).changed
    site.change("adopt", {"Result": "adopted"}, POD)
    assert run_module("cloudpod_adopt", **site.access, **IN_PLACE).changed


@pytest.mark.parametrize(
    ("row", "reason", "retryable"),
    [
        ({**POD, "owner": {"tenant": "T-2", "pod": None}}, "another owner: tenant_id is not T-1", False),
        ({**POD, "owner": {"tenant": "T-1", "pod": "p2"}}, "another owner: pod_id is not p1", False),
        (GONE, "does not exist", False),
        ({**POD, "unfinished": True}, "unfinished create", False),
        ({**POD, "in_pool": False}, "outside the pool", False),
        ({**POD, "lock": "backup"}, "is locked", True),
    ],
)
def test_what_may_not_be_adopted(run_module, site, row, reason, retryable):
    site.show(row)
    site.fail("adopt", 70, "the script must not have been called")
    for check in (True, False):
        refused = run_module("cloudpod_adopt", check, **site.access, **IN_PLACE)
        assert reason in refused.msg
        assert refused.retryable is retryable
    assert site.calls("adopt") == []


# --- retention and the list of archives --------------------------------------------------------------------------


def test_retention_is_sent_and_what_it_removed_is_returned(run_module, site):
    site.show(POD)
    site.change("backup", {"Archive": NEW, "Removed": f"{OLD},{OTHERS}", "Result": "created"}, POD)
    done = run_module("cloudpod_backup", **site.access, vmid=9101, retention={"keep_last": 1, "keep_weekly": 4})
    assert (done.changed, done.removed) == (True, [OLD, OTHERS]), done.raw
    assert site.calls("backup") == ["9101 --mode snapshot --retention keep-last=1,keep-weekly=4"]
    assert done.raw["diff"]["before"]["removed"] == [OLD, OTHERS]
    assert done.warnings == ""


def test_what_a_script_warns_of_reaches_the_user(run_module, site):
    site.show(POD)
    site.write_ours("backup", "echo 'INFO: warning: not this'; printf 'warning: nothing is pruned\\nINFO: x\\n' >&2")
    done = run_module("cloudpod_backup", **site.access, vmid=9101, retention={"keep_last": 1})
    assert done.warnings == "cloudpod-backup.sh: nothing is pruned"


def test_without_retention_nothing_is_removed(run_module, site):
    site.show(POD)
    site.change("backup", {"Archive": NEW, "Result": "created"}, POD)
    done = run_module("cloudpod_backup", **site.access, vmid=9101)
    assert (done.removed, site.calls("backup")) == ([], ["9101 --mode snapshot"])


@pytest.mark.parametrize(("asked", "options"), [({"backups": True}, "9101 --backups"), ({}, "9101")])
def test_archives_are_listed_if_asked(run_module, site, asked, options):
    site.show(GONE)
    found = run_module("cloudpod_info", **site.access, vmids=[9101], **asked)
    assert site.calls("info") == [options]
    assert found.pods == [GONE]
