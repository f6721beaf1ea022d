"""The module cloudpod_restore_drill against scripts that answer as ours do: what passes, what fails, and that the copy goes."""

from __future__ import annotations

import json

import pytest
from ansible_collections.migra.cloudpods.plugins.module_utils import _drill as drill

from tests.collection.test_restore_module import BACKUPS, GONE, NEW, OLD, POD, by

DRILL = 900009101
FREE = {"vmid": DRILL, "exists": False, "busy": None, "unfinished": False, "backups": []}
COPY = {
    **POD,
    "vmid": DRILL,
    "owner": {"tenant": "T-1", "pod": "drill.p1"},
    "hostname": "drill-9101",
    "backups": [],
    **by(None),
}
ASKED = {"vmid": 9101, "tenant_id": "T-1", "pod_id": "p1"}
RESTORE = f"{DRILL} --archive {NEW} --tenant T-1 --pod drill.p1 --from-pod p1 --host drill-9101 --auto-ip --isolated"
GUARDS = f"{DRILL} --tenant T-1 --pod drill.p1"


@pytest.fixture
def run(run_module, site, monkeypatch):
    """Return a function that holds a drill on a node where everything goes well, unless a test changes that."""
    monkeypatch.setattr(drill, "POLL_S", 0.01)
    site.show(POD, FREE)
    site.change("restore", {"Result": "restored"}, POD, {**COPY, "status": "stopped"})
    site.change("power", {"Result": "started"}, POD, COPY)
    destroys(site, DRILL)
    guest(site, "running")

    def call(_check: bool = False, **parameters):
        return run_module("cloudpod_restore_drill", _check, **site.access, **{**ASKED, **parameters})

    return call


def destroys(site, vmid: int) -> None:
    """Let the destroy script say what it found, and the info script that nothing is there afterwards."""
    site.change("destroy", {"Result": "$result"}, POD, {**FREE, "vmid": vmid})
    script = site.dir / "cloudpod-destroy.sh"
    found = f'result=absent; grep -q \'"vmid": {vmid}, "exists": true\' "${{0%/*}}/rows.json" && result=destroyed\n'
    script.write_text(script.read_text().replace("cp ", found + "cp ", 1))


def guest(site, *says: str | None, **more: object) -> None:
    """Let the health script's answers say this of the guest, one after the other, the last one for ever."""
    rows = [
        {"vmid": DRILL, "exists": True, "status": "running", "guest": word, "verdict": "ok", "reasons": []} for word in says
    ]
    for number, row in enumerate(rows, 1):
        (site.dir / f"health{number}.json").write_text(json.dumps({"node": "lab1", "pods": [{**row, **more}]}))
    site.write_ours("health", f'n=$(wc -l <"$0.args"); cat "${{0%/*}}/health$((n < {len(rows)} ? n : {len(rows)})).json"')


def removed(site) -> bool:
    """Return whether the last thing that happened is that the copy was removed."""
    return json.loads((site.dir / "rows.json").read_text())["pods"][-1] == FREE and GUARDS in site.calls("destroy")[-1]


@pytest.mark.parametrize("word", ["running", "degraded", "no systemd"])
def test_a_drill_restores_starts_looks_and_removes(run, site, word):
    guest(site, "starting", None, word, verdict="warning", reasons=["disk 90 %"])
    done = run()
    assert not done.failed, done.raw
    assert (done.changed, done.passed, done.drill_vmid, done.archive["volid"]) == (False, True, DRILL, NEW)
    assert (done.verdict, done.reasons) == ("warning", ["disk 90 %"])
    assert done.duration_s >= 0
    assert site.calls("restore") == [RESTORE]
    assert site.calls("power") == [f"{DRILL} --state running --shutdown-timeout 1 --tenant T-1 --pod drill.p1"]
    assert site.calls("health") == [f"{DRILL} --in-guest"] * 3
    assert removed(site)


def test_what_is_asked_reaches_the_scripts(run, site):
    site.show(GONE, {**FREE, "vmid": 9999})
    site.change("restore", {"Result": "restored"}, GONE, {**COPY, "vmid": 9999})
    destroys(site, 9999)
    guest(site, "running", vmid=9999)
    done = run(archive=OLD, drill_vmid=9999, storage="s2", run_id="j.1")
    assert (done.failed, done.archive["volid"]) == (False, OLD), done.raw
    (call,) = site.calls("restore")
    assert call.startswith(f"9999 --archive {OLD} --tenant T-1 --pod drill.p1 --run j.1 --from-pod p1")
    assert "--storage s2" in call
    assert site.calls("power") == []  # the restore had started it


def test_without_a_pod_id_it_is_the_pod_that_the_vmid_is_now(run, site):
    assert run(pod_id=None).passed
    assert site.calls("restore") == [RESTORE]
    site.show(GONE, FREE)
    assert "give pod_id" in run(pod_id=None).msg


def test_what_an_earlier_drill_left_is_removed_first(run, site):
    site.show(POD, COPY)
    done = run()
    assert (done.failed, done.changed, done.passed) == (False, True, True), done.raw
    assert len(site.calls("destroy")) == 2


@pytest.mark.parametrize(
    "taken",
    [{"owner": {"tenant": "T-1", "pod": "p9"}}, {"owner": {"tenant": "T-2", "pod": "drill.p1"}}, {"owner": None}],
    ids=["pod", "tenant", "nobody"],
)
def test_what_is_not_the_drills_own_is_never_removed(run, site, taken):
    site.show(POD, {**COPY, **taken})
    for check in (True, False):
        refused = run(check)
        assert f"vmid {DRILL} belongs to another owner" in refused.msg
    assert site.calls("destroy") == site.calls("restore") == []


def test_check_mode_only_looks(run, site):
    planned = run(True)
    assert (planned.failed, planned.changed, planned.archive["volid"], planned.passed) == (False, False, NEW, None), planned.raw
    site.show(POD, COPY)
    assert run(True).changed
    assert site.calls("restore") == site.calls("destroy") == site.calls("power") == []


def test_an_archive_that_does_not_restore_fails_the_drill(run, site):
    site.fail("restore", 1, "archive is damaged", left=f"container {DRILL}")
    failed = run()
    assert failed.msg == f"archive {NEW} did not restore: cloudpod-restore.sh: archive is damaged"
    # What the restore left, the drill removed.
    assert (failed.retryable, failed.left_behind, failed.passed, failed.rc) == (False, "nothing", False, 1)
    assert len(site.calls("destroy")) == 2


@pytest.mark.parametrize(("rc", "retryable"), [(69, "no"), (75, "yes"), (143, "yes")])
def test_a_drill_that_could_not_be_held_judges_no_archive(run, site, rc, retryable):
    site.fail("restore", rc, "no room", retryable)
    failed = run()
    assert failed.msg == f"the drill of archive {NEW} could not be held: cloudpod-restore.sh: no room"
    assert (failed.retryable, failed.left_behind, failed.rc) == (retryable == "yes", "nothing", rc)
    assert "passed" not in failed.raw


@pytest.mark.parametrize("word", ["maintenance", "starting", "hung", None])
def test_a_guest_that_does_not_come_up_fails_the_drill(run, site, word):
    guest(site, word, reasons=["guest is hung"])
    failed = run(boot_timeout_s=1)
    said = f"says {word}" if word else "says nothing"
    assert f"archive {NEW} did not restore: its copy is running and its guest {said}" in failed.msg
    assert (failed.retryable, failed.left_behind, failed.reasons) == (False, "nothing", ["guest is hung"])
    assert removed(site)


def test_a_copy_that_does_not_start_fails_the_drill(run, site):
    site.fail("power", 1, "startup failed")
    failed = run()
    assert failed.msg == f"archive {NEW} did not restore: cloudpod-power.sh: startup failed"
    assert removed(site)


@pytest.mark.parametrize("passed", [True, False])
def test_a_copy_that_cannot_be_removed_is_named(run, site, passed):
    # The first destroy, of nothing, still works.
    site.fail("destroy", 75, "CT is locked (disk)", "yes", left=f"container {DRILL}")
    body = (site.dir / "cloudpod-destroy.sh").read_text()
    once = 'if [[ $(wc -l <"$0.args") == 1 ]]; then echo "Result   : absent"; exit; fi\n'
    (site.dir / "cloudpod-destroy.sh").write_text(body.replace("cat >&2", once + "cat >&2", 1))
    if not passed:
        guest(site, "maintenance")
    failed = run()
    assert failed.passed is passed
    assert f"container {DRILL}, the copy of {NEW}" in failed.left_behind
    assert "CT is locked (disk)" in failed.left_behind
    assert (failed.retryable, NEW in failed.msg) == (passed, True)
    assert ("says maintenance" in failed.msg) is not passed


def test_the_copy_is_removed_whatever_goes_wrong(run, site, monkeypatch):
    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(drill.Drill, "_when_up", broken)
    with pytest.raises(RuntimeError):
        drill.Drill(
            {**dict.fromkeys(("run_id", "archive", "drill_vmid", "storage")), **ASKED, **site.access}
            | {"boot_timeout_s": 1, "timeout_s": 60},
            run_command,
            False,
            print,
        ).drill()
    assert removed(site)


def run_command(command: list[str], **_: object) -> tuple[int, str, str]:
    """Run a script as AnsibleModule does."""
    import subprocess

    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def test_no_archive_is_no_drill(run, site):
    site.show({**POD, "backups": BACKUPS[:1]}, FREE)
    refused = run()
    assert "no archive of pod p1 of tenant T-1" in refused.msg
    assert site.calls("destroy") == site.calls("restore") == []


@pytest.mark.parametrize("verb", ["restore", "power", "health", "destroy"])
def test_a_drill_needs_our_own_scripts(run, site, verb):
    site.write(verb, ":")
    assert f"cloudpod-{verb}.sh is the site's own" in run().msg
    assert site.calls("restore") == site.calls("destroy") == []
