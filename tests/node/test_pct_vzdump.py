"""vzdump, restore and pvesm: archives with Proxmox's names, logs, notes and retention."""

from __future__ import annotations

import re
import tarfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.lab_node import LabNode

NAME = r"vzdump-lxc-(\d+)-\d{4}_\d\d_\d\d-\d\d_\d\d_\d\d"


def dump(lab: LabNode) -> Path:
    """Return the directory of archives."""
    return lab.dir / "mnt/vzdump-backups/dump"


def backup(lab: LabNode, vmid: int, *options: str | int) -> str:
    """Back a container up; return what was printed, times replaced by T, a duration by D."""
    printed = lab.ok("vzdump", vmid, "--storage", "vzdump-backups", *options)
    printed = re.sub(r"\(\d\d:\d\d:\d\d\)", "(D)", printed)
    return re.sub(r"\d{4}[-_]\d\d[-_]\d\d[ -]\d\d[:_]\d\d[:_]\d\d", "T", printed)


def test_a_running_container_in_snapshot_mode(lab: LabNode) -> None:
    printed = backup(lab, 100, "--mode", "snapshot", "--compress", "zstd", "--notes-template", "{{guestname}} of\\nme")
    assert (
        printed
        == f"""\
INFO: starting new backup job: vzdump 100 --storage vzdump-backups --mode snapshot --compress zstd --notes-template \
'{{{{guestname}}}} of\\nme'
INFO: Starting Backup of VM 100 (lxc)
INFO: Backup started at T
INFO: status = running
INFO: CT Name: mail
INFO: including mount point rootfs ('/') in backup
INFO: backup mode: snapshot
INFO: ionice priority: 7
INFO: create storage snapshot 'vzdump'
INFO: creating vzdump archive '{dump(lab)}/vzdump-lxc-100-T.tar.zst'
INFO: Total bytes written: 10240 (10KiB, 23MiB/s)
INFO: archive file size: 10KB
INFO: adding notes to backup
INFO: cleanup temporary 'vzdump' snapshot
INFO: Finished Backup of VM 100 (D)
INFO: Backup finished at T
INFO: Backup job finished successfully
"""
    )
    names = sorted(path.name for path in dump(lab).iterdir())
    assert [re.sub(NAME, "N", name) for name in names] == ["N.log", "N.tar.zst", "N.tar.zst.notes"]
    assert next(dump(lab).glob("*.notes")).read_text() == "mail of\nme"
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d INFO: Starting", next(dump(lab).glob("*.log")).read_text())
    assert lab.running(100)
    assert "lock:" not in (lab.conf(100) or "")


def test_a_stopped_container_is_always_in_stop_mode(lab: LabNode) -> None:
    lab.create(9101, "--hostname", "web")
    printed = backup(lab, 9101, "--mode", "suspend", "--compress", "gzip", "--protected", 1)
    assert "INFO: status = stopped\nINFO: backup mode: stop\nINFO: ionice priority: 7\nINFO: CT Name: web\n" in printed
    archive = next(dump(lab).glob("*.tar.gz"))
    assert Path(f"{archive}.protected").exists()
    with tarfile.open(archive) as tar:
        assert tar.getnames()[:2] == ["./etc/vzdump/pct.conf", "./etc/vzdump/pct.fw"]
        assert "./etc/hostname" in tar.getnames()
        assert not [name for name in tar.getnames() if ".zfs" in name]


def test_stop_mode_stops_and_starts_again(lab: LabNode) -> None:
    lab.switch("delay", "vzdump", 5)
    process = lab.start("vzdump", 100, "--storage", "vzdump-backups", "--mode", "stop")
    deadline = time.monotonic() + 60
    while not list(dump(lab).glob("*.tar.dat")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert "lock: backup\n" in (lab.conf(100) or "")
    assert not lab.running(100)
    stdout, _ = process.communicate(timeout=60)
    assert "INFO: stopping virtual guest\n" in stdout
    assert "INFO: restarting vm\n" in stdout
    assert lab.running(100)


FAILURES = [
    (
        ["999", "--storage", "vzdump-backups"],
        "ERROR: Backup of VM 999 failed - unable to find VM '999'\n",
        "job errors\n",
    ),
    (
        ["9101", "--storage", "vzdump-backups"],
        "ERROR: Backup of VM 9101 failed - CT is locked (disk)\n",
        "job errors\n",
    ),
    (
        ["100", "--storage", "nosuch"],
        "",
        "could not activate storage 'nosuch': storage 'nosuch' does not exist could not get storage information for "
        "'nosuch': storage 'nosuch' does not exist\n",
    ),
    (["100", "--storage", "clients-main"], "", "can't use storage 'clients-main' for backups - wrong content type\n"),
]


@pytest.mark.parametrize(("argv", "stdout", "stderr"), FAILURES)
def test_failures(lab: LabNode, argv: list[str], stdout: str, stderr: str) -> None:
    lab.create(9101, "--lock", "disk")
    done = lab.run("vzdump", *argv)
    assert done.returncode == 255
    assert stdout in done.stdout
    assert done.stderr.endswith(stderr)
    assert not list(dump(lab).iterdir())


def test_a_failure_half_way_leaves_no_archive_and_no_lock(lab: LabNode) -> None:
    lab.switch("fail", "vzdump", "--vmid", 100, "--half", "--message", "disk is gone")
    done = lab.run("vzdump", 100, "--storage", "vzdump-backups")
    assert (done.returncode, done.stderr) == (255, "job errors\n")
    assert "ERROR: Backup of VM 100 failed - disk is gone\n" in done.stdout
    assert done.stdout.endswith("INFO: Backup job finished with errors\n")
    assert not list(dump(lab).iterdir())
    assert "lock:" not in (lab.conf(100) or "")


def test_sigterm_leaves_no_archive_and_no_lock(lab: LabNode) -> None:
    lab.switch("delay", "vzdump", 30)
    process = lab.start("vzdump", 100, "--storage", "vzdump-backups")
    deadline = time.monotonic() + 60
    while not list(dump(lab).glob("*.dat")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.terminate()
    stdout, _ = process.communicate(timeout=60)
    assert process.returncode == 255
    assert "ERROR: Backup of VM 100 failed - interrupted by signal\n" in stdout
    assert not list(dump(lab).iterdir())
    assert "lock:" not in (lab.conf(100) or "")


def test_only_one_vzdump_at_a_time(lab: LabNode) -> None:
    lab.switch("delay", "vzdump", 5)
    first = lab.start("vzdump", 100, "--storage", "vzdump-backups")
    deadline = time.monotonic() + 60
    while not list(dump(lab).glob("*.dat")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    second = lab.run("vzdump", 101, "--storage", "vzdump-backups", "--lockwait", 0)
    assert second.returncode == 255
    assert second.stdout == "ERROR: can't acquire lock '/var/run/vzdump.lock' (wait = 0)\n"
    assert first.communicate(timeout=60)[0].endswith("Backup job finished successfully\n")


def fake_archives(lab: LabNode, vmid: int, stamps: list[str]) -> None:
    """Lay empty archives of a container with these times in their names."""
    for stamp in stamps:
        (dump(lab) / f"vzdump-lxc-{vmid}-{stamp}.tar.zst").touch()


@pytest.mark.parametrize(("keep", "left"), [
    ("keep-last=2", ["2026_01_03-02_00_00"]),
    ("keep-last=1,keep-daily=2", ["2026_01_02-01_00_00", "2026_01_03-02_00_00"]),
    ("keep-all=1", ["2026_01_02-01_00_00", "2026_01_03-01_00_00", "2026_01_03-02_00_00"]),
])  # fmt: skip
def test_retention(lab: LabNode, keep: str, left: list[str]) -> None:
    stamps = ["2026_01_02-01_00_00", "2026_01_03-01_00_00", "2026_01_03-02_00_00"]
    fake_archives(lab, 100, stamps)
    fake_archives(lab, 101, stamps)
    backup(lab, 100, "--prune-backups", keep)
    old = sorted(path.name for path in dump(lab).glob("vzdump-lxc-100-2026_01_*"))
    assert old == [f"vzdump-lxc-100-{stamp}.tar.zst" for stamp in left]
    assert len(list(dump(lab).glob("vzdump-lxc-101-*"))) == 3


def test_protected_archives_are_not_pruned(lab: LabNode) -> None:
    fake_archives(lab, 100, ["2026_01_02-01_00_00", "2026_01_03-01_00_00"])
    (dump(lab) / "vzdump-lxc-100-2026_01_02-01_00_00.tar.zst.protected").touch()
    printed = backup(lab, 100, "--prune-backups", "keep-last=1")
    assert "INFO: prune older backups with retention: keep-last=1\n" in printed
    assert "INFO: removing backup 'vzdump-backups:backup/vzdump-lxc-100-T.tar.zst'\n" in printed
    assert "INFO: pruned 1 backup(s) not covered by keep-retention policy\n" in printed
    assert (dump(lab) / "vzdump-lxc-100-2026_01_02-01_00_00.tar.zst").exists()


@pytest.mark.parametrize("compress", ["0", "gzip", "zstd"])
def test_restore_brings_configuration_and_files_back(lab: LabNode, compress: str) -> None:
    lab.create(9101, "--hostname", "web", "--description", "cloudpod tenant=T pod=p")
    before = lab.conf(9101)
    backup(lab, 9101, "--compress", compress)
    volid = lab.ok("pvesm", "list", "vzdump-backups").splitlines()[1].split()[0]
    taken = lab.pct("restore", 9101, volid, "--storage", "clients-main")
    assert (taken.returncode, taken.stderr) == (255, "CT 9101 already exists on node 'lab1'\n")
    lab.ok("pct", "destroy", 9101)
    printed = lab.ok("pct", "restore", 9101, volid, "--storage", "clients-main", "--pool", "ClientPods")
    assert printed.startswith(f"recovering backed-up configuration from '{volid}'\nrestoring '{volid}' now..\n")
    assert printed.endswith("merging backed-up and given configuration..\n")
    assert lab.conf(9101) == before
    assert (lab.dir / "clients/main/subvol-9101-disk-0/etc/hostname").read_text() == "web\n"
    assert lab.pool() == {9101}


def test_restore_with_unique_and_force(lab: LabNode) -> None:
    lab.create(9101, "--hostname", "web")
    backup(lab, 9101)
    volid = lab.ok("pvesm", "list", "vzdump-backups").splitlines()[1].split()[0]
    lab.ok("pct", "create", 9102, volid, "--restore", "--unique", 1, "--storage", "clients-main", "--hostname", "two")
    assert "hostname: two\n" in (lab.conf(9102) or "")
    assert re.findall("hwaddr=[^,]+", lab.conf(9101) or "") != re.findall("hwaddr=[^,]+", lab.conf(9102) or "")
    lab.ok("pct", "start", 9101)
    running = lab.pct("restore", 9101, volid, "--storage", "clients-main", "--force", 1)
    assert running.stderr == "unable to restore CT 9101 - can't overwrite running container\n"
    lab.ok("pct", "stop", 9101)
    lab.ok("pct", "restore", 9101, volid, "--storage", "clients-main", "--force", 1)
    assert lab.disks(9101) == ["subvol-9101-disk-1"]


def test_pvesm(lab: LabNode) -> None:
    lines = lab.ok("pvesm", "status").splitlines()
    assert lines[0] == "Name                  Type     Status     Total (KiB)      Used (KiB) Available (KiB)        %"
    assert [line.split()[:3] for line in lines[1:]] == [
        ["clients-backup", "zfspool", "active"],
        ["clients-main", "zfspool", "active"],
        ["local", "dir", "active"],
        ["t7-backup", "dir", "active"],
        ["vzdump-backups", "dir", "active"],
    ]
    assert lab.ok("pvesm", "list", "vzdump-backups") == "Volid Format  Type      Size VMID\n"
    backup(lab, 100)
    header, row = lab.ok("pvesm", "list", "vzdump-backups").splitlines()
    assert header.split() == ["Volid", "Format", "Type", "Size", "VMID"]
    volid, form, kind, size, vmid = row.split()
    path = Path(lab.ok("pvesm", "path", volid).strip())
    assert (form, kind, int(size), vmid) == ("tar", "backup", path.stat().st_size, "100")
    assert re.fullmatch(NAME + r"\.tar", path.name)
    lab.ok("pvesm", "free", volid)
    assert not list(dump(lab).iterdir())
