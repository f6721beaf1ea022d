"""The module node_info, its playbook, and what cloudpod_info says of a cluster."""

from __future__ import annotations

VERBS = ("create", "destroy", "backup", "restore", "adopt", "scale", "power", "snapshot", "cancel", "health", "info")
NAMES = [f"cloudpod-{verb}.sh" for verb in VERBS]


def test_a_node_tells_what_it_has_and_that_each_script_can_be_called(run_module, node):
    found = run_module("node_info", **node.access)
    assert (found.node, found.version, found.cluster, found.changed) == ("lab1", "0.1.0", None, False)
    assert (found.facts["cores"], found.facts["storage"]) == (64, "clients-main")
    assert found.scripts == [{"name": name, "present": True, "ours": True, "callable": True} for name in NAMES]


def test_what_cannot_be_called_is_told(run_module, fresh_lab):
    scripts = fresh_lab / "lab1/sbin"
    (scripts / "cloudpod-scale.sh").unlink()
    (scripts / "cloudpod-power.sh").write_text("#!/bin/sh\n# the site's own\n")
    (scripts / "cloudpod-power.sh").chmod(0o755)
    (scripts / "cloudpod-backup.sh").chmod(0o644)
    found = run_module("node_info", script_dir=str(scripts), sudo=False)
    states = {row["name"]: (row["present"], row["ours"], row["callable"]) for row in found.scripts}
    assert states["cloudpod-scale.sh"] == (False, False, False)
    assert states["cloudpod-power.sh"] == (True, False, True)
    assert states["cloudpod-backup.sh"] == (True, True, False)
    assert states["cloudpod-create.sh"] == (True, True, True)


def test_sudo_is_asked_and_no_script_is_run_by_that(run_module, fresh_lab, tmp_path, monkeypatch):
    """A sudo that forbids scaling, and writes down what it was asked."""
    sudo = tmp_path / "bin/sudo"
    sudo.parent.mkdir()
    sudo.write_text(
        f'#!/bin/sh\necho "$*" >>{tmp_path}/asked\n'
        'case "$*" in *cloudpod-scale.sh*) exit 1 ;; "-n -l "*) exit 0 ;; esac\nshift\nexec "$@"\n'
    )
    sudo.chmod(0o755)
    monkeypatch.setenv("PATH", f"{sudo.parent}:/usr/bin:/bin")
    found = run_module("node_info", script_dir=str(fresh_lab / "lab1/sbin"), sudo=True)
    assert [row["name"] for row in found.scripts if not row["callable"]] == ["cloudpod-scale.sh"]
    asked = (tmp_path / "asked").read_text().splitlines()
    assert [line for line in asked if not line.startswith("-n -l ")] == [f"-n {fresh_lab}/lab1/sbin/cloudpod-info.sh --node"]


def test_scripts_that_are_too_old_to_tell_are_known_by_that(run_module, fresh_lab):
    info = fresh_lab / "lab1/sbin/cloudpod-info.sh"
    info.write_text("#!/bin/sh\n# migra.cloudpods: of an earlier release\nexit 64\n")
    found = run_module("node_info", script_dir=str(info.parent), sudo=False)
    assert (found.failed, found.version, found.facts) == (False, None, None)


def test_info_tells_the_cluster(run_module, fresh_lab):
    pve = fresh_lab / "lab1/etc/pve"
    (pve / "corosync.conf").write_text("totem {\n  cluster_name: prod\n}\n")
    found = run_module("cloudpod_info", script_dir=str(fresh_lab / "lab1/sbin"), sudo=False, all=True)
    assert (found.cluster, found.elsewhere) == ({"name": "prod", "nodes": ["lab1"]}, [])
