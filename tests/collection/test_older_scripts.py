"""A site's own scripts: they know only the master spec's options and print only a summary."""

from __future__ import annotations

import shutil

import pytest

POD = {"vmid": 9101, "hostname": "client-portal", "tenant_id": "TENANT-123", "cores": 2, "memory_mb": 2048}
SPEC = (
    "--vmid 9101 --host client-portal --tenant TENANT-123 --bridge vmbr0 --storage clients-main --cores 2 --mem 2048 --swap 512"
)


def test_create_sends_the_specs_options_and_reads_the_address(run_module, site):
    site.write("create", "echo 'creating...'; echo 'IP       : 10.1.10.91'")
    made = run_module("cloudpod_create", **site.access, **POD, disk_gb=20, pod_id="p1", run_id="j.1")
    assert made.changed
    assert made.ip == "10.1.10.91"
    assert (made.cloudpod["cores"], made.cloudpod["owner"]["tenant"]) == (2, "TENANT-123")
    assert made.cloudpod["disk_gb"] is None
    assert site.calls("create") == [f"{SPEC} --auto-ip"]
    assert "disk_gb, pod_id, run_id was not sent" in made.warnings
    assert "could not be compared" in made.warnings


def test_create_with_an_address_keeps_it_when_the_script_is_silent(run_module, site):
    site.write("create", ":")
    made = run_module("cloudpod_create", **site.access, **POD, ip="10.1.10.91", auto_ip=False)
    assert made.ip == "10.1.10.91"
    assert site.calls("create") == [f"{SPEC} --ip 10.1.10.91"]


def test_a_failure_is_not_retryable_and_what_it_left_is_unknown(run_module, site):
    site.write("create", "echo 'something broke' >&2; exit 75")
    failed = run_module("cloudpod_create", **site.access, **POD)
    assert failed.failed
    assert failed.msg == "cloudpod-create.sh: something broke"
    assert (failed.retryable, failed.rc) == (False, 75)
    assert failed.left_behind.startswith("unknown")


@pytest.mark.parametrize(
    ("verb", "parameters"),
    [
        ("create", POD),
        ("destroy", {"vmid": 9101}),
        ("backup", {"vmid": 9101}),
        ("scale", {"vmid": 9101, "cores": 4, "memory_mb": 4096}),
    ],
)
def test_check_mode_starts_nothing_and_says_that_it_cannot_look(run_module, site, verb, parameters):
    site.write(verb, ":")
    planned = run_module(f"cloudpod_{verb}", _check=True, **site.access, **parameters)
    assert planned.changed
    assert "check mode cannot look" in planned.warnings
    assert site.calls(verb) == []


def test_destroy_sends_the_vmid_alone_and_warns_about_the_guard(run_module, site):
    site.write("destroy", ":")
    gone = run_module("cloudpod_destroy", **site.access, vmid=9101, tenant_id="TENANT-123")
    assert gone.changed
    assert site.calls("destroy") == ["9101"]
    assert "tenant_id was not sent" in gone.warnings


def test_backup_returns_what_the_summary_says(run_module, site):
    site.write("backup", "echo 'Archive  : t7-backup:backup/x.tar.zst'; echo 'Size     : 5 GB'")
    made = run_module("cloudpod_backup", **site.access, vmid=9101, mode="stop", retention={"keep_last": 3})
    assert site.calls("backup") == ["9101 --mode stop"]
    assert "retention was not sent" in made.warnings
    assert made.removed == []
    assert made.archive == {
        "volid": "t7-backup:backup/x.tar.zst", "size_bytes": None, "mode": "stop", "storage": None, "duration_s": None,
    }  # fmt: skip


def test_scale_sends_the_size_alone(run_module, site):
    site.write("scale", ":")
    scaled = run_module("cloudpod_scale", **site.access, vmid=9101, cores=4, memory_mb=4096, swap_mb=0)
    assert scaled.changed
    assert site.calls("scale") == ["9101 --cores 4 --mem 4096"]
    assert "swap_mb was not sent" in scaled.warnings


@pytest.mark.parametrize(
    ("body", "verdict", "reason"),
    [
        ("echo 'Status   : ok'", "ok", None),
        ("echo 'Verdict  : WARNING'; echo 'Memory   : 90 %'", "warning", None),
        ("echo 'Status   : running'", "unknown", "gave no verdict"),
        ("echo 'Status   : ok'; echo 'ct is down' >&2; exit 2", "unknown", "ct is down"),
        ("echo 'Health   : critical'; exit 2", "critical", "Health   : critical"),
        (":", "unknown", "gave no verdict"),
    ],
)
def test_health_is_asked_pod_by_pod_and_returned_as_printed(run_module, site, body, verdict, reason):
    site.write("health", body)
    found = run_module("cloudpod_health", **site.access, vmids=[9101, 9102])
    assert not found.failed
    assert site.calls("health") == ["9101", "9102"]
    assert [row["vmid"] for row in found.health] == [9101, 9102]
    assert found.health[0]["verdict"] == verdict
    assert (reason or "") in " ".join(found.health[0]["reasons"])
    assert bool(reason) == bool(found.health[0]["reasons"])


def test_options_of_health_that_only_our_script_knows_are_not_sent(run_module, site):
    site.write("health", "echo 'Status   : ok'")
    found = run_module("cloudpod_health", **site.access, vmids=[9101], reach=True, in_guest=False, disk_warning_percent=70)
    assert site.calls("health") == ["9101"]
    assert "disk_warning_percent, reach was not sent" in found.warnings


def test_all_pods_cannot_be_asked_for(run_module, site):
    site.write("health", ":")
    assert "give vmids instead of all" in run_module("cloudpod_health", **site.access, all=True).msg
    assert "cloudpod-info.sh is not" in run_module("cloudpod_info", **site.access, all=True).msg


OWNED = {"tenant_id": "TENANT-123", "pod_id": "p1"}
OURS_ALONE = [
    ("power", {"state": "stopped"}),
    ("snapshot", {"name": "before"}),
    ("restore", OWNED),
    ("adopt", OWNED),
    ("cancel", {"run_id": "job1"}),
]


@pytest.mark.parametrize(("verb", "parameters"), OURS_ALONE)
def test_what_the_master_spec_does_not_know_is_not_guessed_at(run_module, site, verb, parameters):
    site.write(verb, ":")
    refused = run_module(f"cloudpod_{verb}", **site.access, vmid=9101, **parameters)
    assert f"cloudpod-{verb}.sh is the site's own" in refused.msg
    assert (refused.retryable, refused.left_behind) == (False, "nothing")
    assert site.calls(verb) == []


@pytest.mark.parametrize(("verb", "parameters"), OURS_ALONE)
def test_what_cannot_look_first_is_not_done(run_module, site, verb, parameters):
    site.write_ours(verb, ":")
    refused = run_module(f"cloudpod_{verb}", **site.access, vmid=9101, **parameters)
    assert "cloudpod-info.sh is not beside the scripts" in refused.msg
    assert site.calls(verb) == []


@pytest.fixture
def mixed(node, site):
    """Return the access to a site's own scripts beside our cloudpod-info.sh, as the role leaves a site that has some."""
    (site.dir / "sbin").mkdir()
    (site.dir / "lib").symlink_to(node.dir / "lib")
    shutil.copy2(node.dir / "sbin/cloudpod-info.sh", site.dir / "sbin")
    site.dir, site.access = site.dir / "sbin", {"script_dir": str(site.dir / "sbin"), "sudo": False}
    return site


def test_beside_our_info_script_an_older_script_still_gets_only_the_specs_options(run_module, mixed, vmid):
    mixed.write("create", "echo 'IP       : 10.1.10.91'")
    made = run_module("cloudpod_create", **mixed.access, **{**POD, "vmid": vmid}, pod_id="p1")
    assert made.changed
    assert made.ip == "10.1.10.91"
    assert mixed.calls("create") == [f"{SPEC} --auto-ip".replace("9101", str(vmid))]
    assert "pod_id was not sent" in made.warnings
    # This one only said so.
    assert "could not be looked at afterwards" in made.warnings


def test_beside_our_info_script_a_pod_without_an_owner_is_compared_as_far_as_it_goes(run_module, mixed, node, vmid):
    run_module("cloudpod_create", **node.access, **{**POD, "vmid": vmid})
    node.edit_conf(vmid, lambda text: "\n".join(line for line in text.splitlines() if not line.startswith("#")) + "\n")
    for verb in ("create", "destroy"):
        mixed.write(verb, ":")
    same = run_module("cloudpod_create", **mixed.access, **{**POD, "vmid": vmid})
    assert not same.changed
    assert "no owner marker" in same.warnings
    assert "cores is 2, asked 4" in run_module("cloudpod_create", **mixed.access, **{**POD, "vmid": vmid, "cores": 4}).msg
    # Our own script would have written the marker, so that its absence means another's.
    assert "tenant_id is not" in run_module("cloudpod_create", **node.access, **{**POD, "vmid": vmid}).msg
    assert "outside the pool" in run_module("cloudpod_destroy", **mixed.access, vmid=100).msg
    assert mixed.calls("destroy") == []
