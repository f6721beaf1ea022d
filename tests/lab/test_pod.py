"""A pod's life on a node that differs from a Proxmox node only in who wrote pct."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.lab.real_node import RealNode, run

TENANT = "TENANT-LAB"


def create(lab: RealNode, vmid: int, **more: object) -> dict:
    """Create a pod by its playbook; return the playbook's result."""
    wanted = {"hostname": "lab-pod", "tenant_id": TENANT, "cores": 1, "memory_mb": 256, "swap_mb": 64, "auto_ip": True}
    return lab.playbook("cloudpod_create", vmid=vmid, **{**wanted, **more})["result"]


def guest(lab: RealNode, address: str, *command: str) -> str:
    """Run a command in a pod by SSH to its address, with the platform's key; return its stdout."""
    options = ["-F/dev/null", f"-i{lab.dir / 'ssh/id_ed25519'}", "-oBatchMode=yes", "-oIdentitiesOnly=yes"]
    # A pod's host key is new: what is proved here is that the pod's own sshd answers on its address.
    options += ["-oStrictHostKeyChecking=no", "-oUserKnownHostsFile=/dev/null", "-oConnectTimeout=5"]
    for _ in range(400):
        done = run("ssh", *options, f"root@{address}", "--", *command)
        if done.returncode != 255:
            break
        time.sleep(0.25)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.lab_smoke
def test_a_pod_lives_as_asked_and_leaves_nothing(lab: RealNode, vmid: int) -> None:
    result = create(lab, vmid)
    address = result["ip"]
    assert f"{address} {vmid} lab-pod {TENANT} active" in lab.ipam()
    assert run("ping", "-c1", "-W3", address).returncode == 0
    assert guest(lab, address, "hostname") == "lab-pod\n"
    assert guest(lab, address, "cat", "/proc/1/comm") == "systemd\n"
    assert (lab.memory_mb(vmid), lab.cpus(vmid)) == (256, 1)

    lab.playbook("cloudpod_scale", vmid=vmid, cores=2, memory_mb=512, swap_mb=64)
    assert lab.memory_mb(vmid) == 512
    assert lab.cpus(vmid) == min(2, os.cpu_count() or 1)
    assert guest(lab, address, "nproc") == f"{min(2, os.cpu_count() or 1)}\n"

    health = lab.playbook("cloudpod_health", vmids=[vmid])
    row = health["result"]["lxc1"]["health"][0]
    assert (row["vmid"], row["status"], row["memory"]["limit_mb"]) == (vmid, "running", 512)

    lab.playbook("cloudpod_destroy", vmid=vmid, tenant_id=TENANT)
    assert lab.traces(vmid) == []


def test_the_run_lock_is_free_while_the_pod_runs(lab: RealNode, vmid: int) -> None:
    create(lab, vmid)
    lock = lab.dir / "run/lock/cloudpods" / str(vmid)
    assert run("flock", "-n", lock, "true").returncode == 0
    assert '"busy": null' in run(lab.dir / "sbin/cloudpod-info.sh", vmid).stdout


def test_a_rollback_brings_a_removed_file_back(lab: RealNode, vmid: int) -> None:
    create(lab, vmid)
    lab.ok("pct", "exec", vmid, "--", "sh", "-c", "echo kept >/root/marker")
    lab.ok("pct", "snapshot", vmid, "before")
    lab.ok("pct", "exec", vmid, "--", "sh", "-c", "rm /root/marker /usr/bin/free")
    assert lab.pct("exec", vmid, "--", "ls", "/usr/bin/free").returncode != 0
    lab.ok("pct", "rollback", vmid, "before", "--start", 1)
    assert lab.ok("pct", "exec", vmid, "--", "cat", "/root/marker") == "kept\n"
    assert lab.ok("pct", "exec", vmid, "--", "ls", "/usr/bin/free") == "/usr/bin/free\n"
    lab.ok("pct", "delsnapshot", vmid, "before")
    assert "before" not in lab.ok("pct", "listsnapshot", vmid)


def test_a_backup_restores_what_was_there_and_not_what_was_removed(lab: RealNode, vmid: int) -> None:
    create(lab, vmid)
    lab.ok("pct", "exec", vmid, "--", "sh", "-c", "echo kept >/root/marker; rm -r /usr/share/perl5")
    result = lab.playbook("cloudpod_backup", vmid=vmid, tenant_id=TENANT, mode="snapshot")["result"]
    archive = result["archive"]["volid"]
    lab.playbook("cloudpod_destroy", vmid=vmid, tenant_id=TENANT)
    try:
        lab.ok("pct", "restore", vmid, archive, "--storage", "clients-main")
        lab.ok("pct", "start", vmid)
        assert lab.ok("pct", "exec", vmid, "--", "cat", "/root/marker") == "kept\n"
        assert lab.pct("exec", vmid, "--", "ls", "/usr/share/perl5").returncode != 0
    finally:
        lab.ok("pvesm", "free", archive)


def test_files_go_in_and_out(lab: RealNode, vmid: int, tmp_path: Path) -> None:
    create(lab, vmid)
    (tmp_path / "in").write_text("through\n")
    lab.ok("pct", "push", vmid, tmp_path / "in", "/root/file", "--perms", "640")
    assert lab.ok("pct", "exec", vmid, "--", "stat", "-c", "%a %U", "/root/file") == "640 root\n"
    lab.ok("pct", "pull", vmid, "/root/file", tmp_path / "out")
    assert (tmp_path / "out").read_text() == "through\n"


def test_exec_passes_the_exit_code_on(lab: RealNode, vmid: int) -> None:
    create(lab, vmid)
    assert lab.pct("exec", vmid, "--", "sh", "-c", "exit 7").returncode == 7


def test_a_full_disk_is_told_and_leaves_nothing(lab: RealNode, vmid: int) -> None:
    failed = lab.playbook(
        "cloudpod_create",
        ok=False,
        vmid=vmid,
        hostname="lab-pod",
        tenant_id=TENANT,
        cores=1,
        memory_mb=256,
        auto_ip=True,
        storage="clients-small",
        disk_gb=1,
    )
    assert "No space left on device" in failed["output"]
    assert lab.traces(vmid) == []


def test_a_container_of_somebody_else_is_not_touched(lab: RealNode, vmid: int) -> None:
    home = Path(f"/var/lib/lxc/{vmid}")
    home.mkdir()
    (home / "config").write_text("# somebody's\n")
    try:
        failed = run(lab.dir / "sbin/cloudpod-create.sh", *words(vmid))
        assert failed.returncode == 1
        assert "not this lab's" in failed.stderr
        assert (home / "config").read_text() == "# somebody's\n"
    finally:
        (home / "config").unlink()
        home.rmdir()


def words(vmid: int) -> list[object]:
    """Return arguments for cloudpod-create.sh."""
    asked = {"vmid": vmid, "host": "lab-pod", "tenant": TENANT, "cores": 1, "mem": 256, "swap": 0}
    return [*(word for key, value in asked.items() for word in (f"--{key}", value)), "--auto-ip"]
