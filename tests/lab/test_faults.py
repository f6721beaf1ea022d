"""What goes wrong between a worker and a pod: what is said, whether trying again helps, and that nothing is left half-way.

Each fault is made for real on the node; the outcome is the one a worker writes into its job.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab import worker_run
from tests.lab.real_node import NODE, RealNode, run

TENANT, OTHER_TENANT = "TENANT-LAB", "TENANT-OTHER"
SSH_ARGS = "-o GlobalKnownHostsFile=/dev/null -o StrictHostKeyChecking=yes -o IdentitiesOnly=yes"
TEMPLATE = "debian-12-standard_12.7-1_amd64.tar.zst"


def order(vmid: int, **more: object) -> dict:
    """Return the variables of a create."""
    size = {"cores": 1, "memory_mb": 256, "swap_mb": 64, "auto_ip": True}
    return {
        "vmid": vmid,
        "hostname": "lab-pod",
        "tenant_id": TENANT,
        "pod_id": f"pod-{vmid}",
        "run_id": "job1.1",
        **size,
        **more,
    }


def guard(vmid: int) -> dict:
    """Return the variables that name a pod made by `order`."""
    return {"vmid": vmid, "tenant_id": TENANT, "pod_id": f"pod-{vmid}"}


@pytest.fixture
def pod(lab: RealNode, vmid: int) -> int:
    """Return the vmid of a running pod."""
    made = worker_run.outcome("cloudpod_create", order(vmid))
    assert made["failure"] is None, made
    return vmid


def failed(name: str, variables: dict, *, says: str, retryable: bool, left: str = "nothing") -> dict:
    """Run a playbook that must fail; check what it says, whether it may be tried again and what it left."""
    done = worker_run.outcome(name, variables)
    assert done["result"] is None, done
    failure = done["failure"]
    assert re.search(says, failure["msg"]), failure["msg"]
    assert NODE in failure["msg"]
    assert failure["retryable"] is retryable, failure
    assert re.fullmatch(left, failure["left_behind"]), failure["left_behind"]
    return dict(failure)


@contextlib.contextmanager
def aside(path: Path) -> Iterator[None]:
    """Have a file or folder out of the way for a while."""
    hidden = path.with_name(f".{path.name}.aside")
    path.rename(hidden)
    try:
        yield
    finally:
        hidden.rename(path)


# -- the way to the node -----------------------------------------------------------------------------------------------


def test_ssh_refused(lab: RealNode, vmid: int) -> None:
    says = r"cannot reach node lxc1: .*Connection refused.*check that the node is up"
    failed("cloudpod_create", order(vmid, ansible_port=1), says=says, retryable=True)
    assert lab.traces(vmid) == []


def test_the_host_key_is_another(lab: RealNode, vmid: int, tmp_path: Path) -> None:
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "other")
    kind, key = (tmp_path / "other.pub").read_text().split()[:2]
    known = tmp_path / "known_hosts"
    known.write_text(f"{(lab.dir / 'ssh/known_hosts').read_text().split()[0]} {kind} {key}\n")
    variables = order(vmid, ansible_ssh_common_args=f"-o UserKnownHostsFile={known} {SSH_ARGS}")
    says = r"Host key verification failed.*installed anew.*somebody may be answering in its place"
    failed("cloudpod_create", variables, says=f"(?s){says}", retryable=False)
    assert lab.traces(vmid) == []


def test_the_key_is_refused(lab: RealNode, vmid: int, tmp_path: Path) -> None:
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "other")
    variables = order(vmid, ansible_ssh_private_key_file=str(tmp_path / "other"))
    says = r"Permission denied \(publickey\).*cloudpod_node_authorized_keys"
    failed("cloudpod_create", variables, says=f"(?s){says}", retryable=False)
    assert lab.traces(vmid) == []


def test_sudo_is_refused(lab: RealNode, vmid: int) -> None:
    with aside(Path("/etc/sudoers.d/cloudpods-lab")):
        says = r"sudo: .*migra\.cloudpods\.cloudpod_node installs the rule"
        failed("cloudpod_create", order(vmid), says=says, retryable=False)
    assert lab.traces(vmid) == []


# -- what the node lacks -----------------------------------------------------------------------------------------------


def test_the_disk_is_full_while_unpacking(lab: RealNode, vmid: int) -> None:
    failed(
        "cloudpod_create",
        order(vmid, storage="clients-small", disk_gb=1),
        says=r"No space left on device|GB free",
        retryable=False,
    )
    assert lab.traces(vmid) == []


def test_the_template_is_missing(lab: RealNode, vmid: int) -> None:
    with aside(lab.dir / "var/lib/vz/template/cache" / TEMPLATE):
        says = rf"volume 'local:vztmpl/{TEMPLATE}' does not exist"
        failed("cloudpod_create", order(vmid), says=says, retryable=False)
    assert lab.traces(vmid) == []


def test_the_bridge_is_missing(lab: RealNode, vmid: int) -> None:
    failed("cloudpod_create", order(vmid, bridge="vmbr77"), says=r"bridge 'vmbr77' does not exist", retryable=False)
    assert lab.traces(vmid) == []


def test_the_storage_is_inactive(lab: RealNode, vmid: int) -> None:
    with aside(lab.dir / "clients/main"):
        failed("cloudpod_create", order(vmid), says=r"storage 'clients-main' is inactive", retryable=False)
    assert lab.traces(vmid) == []


def test_the_backup_storage_cannot_hold_archives(lab: RealNode, pod: int) -> None:
    variables = {**guard(pod), "mode": "snapshot", "storage": "clients-main"}
    failed("cloudpod_backup", variables, says=r"storage 'clients-main'.*archives", retryable=False)


# -- guests that do not obey -------------------------------------------------------------------------------------------


def test_a_container_that_never_boots(lab: RealNode, vmid: int, tmp_path: Path) -> None:
    template = lab.dir / "var/lib/vz/template/cache/debian-12-broken_1_amd64.tar.gz"
    (tmp_path / "etc").mkdir()
    with tarfile.open(template, "w:gz") as archive:
        archive.add(tmp_path / "etc", "./etc")
    try:
        variables = order(vmid, template=f"local:vztmpl/{template.name}")
        failed("cloudpod_create", variables, says=rf"startup for container '{vmid}' failed|did not stay up", retryable=False)
    finally:
        template.unlink()
    assert lab.traces(vmid) == []


def test_a_container_that_ignores_its_shutdown(lab: RealNode, pod: int) -> None:
    lab.ok("pct", "exec", pod, "--", "systemctl", "mask", "--runtime", "halt.target", "poweroff.target")
    variables = {**guard(pod), "state": "stopped", "shutdown_timeout_s": 2}
    left = rf"container {pod} runs, and may still obey the shutdown"
    failed("cloudpod_power", variables, says="container did not stop", retryable=False, left=left)
    assert "running" in lab.ok("pct", "status", pod)
    done = worker_run.outcome("cloudpod_power", {**variables, "force": True})
    assert done["failure"] is None, done
    assert "stopped" in lab.ok("pct", "status", pod)


# -- what is cut in the middle -----------------------------------------------------------------------------------------


def test_ssh_is_cut_in_the_middle_of_a_create(lab: RealNode, vmid: int) -> None:
    lab.ok("lab-switch", "delay", "pct create", 3)
    try:
        under_way = worker_run.start("cloudpod_create", order(vmid))
        wait_until((lab.dir / f"etc/pve/lxc/{vmid}.conf").exists, "the create has begun")
        for pid in sessions(lab):
            os.kill(pid, signal.SIGKILL)
        failure = worker_run.wait(under_way)["failure"]
    finally:
        lab.ok("lab-switch", "reset")
    assert (failure["retryable"], failure["left_behind"]) == (True, "unknown"), failure
    assert re.search(r"cannot reach node lxc1: .*the connection was lost", failure["msg"], re.DOTALL), failure["msg"]
    # Meanwhile the script goes on, and says so; the same order again finds one pod, or makes it.
    wait_until(lambda: not busy(lab, vmid), "the script is through")
    again = worker_run.outcome("cloudpod_create", order(vmid, run_id="job1.2"))
    assert again["failure"] is None, again
    assert lab.ipam().count(f" {vmid} ") == 1
    assert "running" in lab.ok("pct", "status", vmid)


def test_the_node_is_rebooted_in_the_middle_of_a_backup(lab: RealNode, pod: int) -> None:
    lab.ok("lab-switch", "delay", "vzdump", 30)
    try:
        under_way = worker_run.start("cloudpod_backup", {**guard(pod), "run_id": "job2.1", "mode": "snapshot"})
        wait_until(lambda: "lock: backup" in (lab.dir / f"etc/pve/lxc/{pod}.conf").read_text(), "the backup has begun")
        power_cut(lab, pod)
        failure = worker_run.wait(under_way)["failure"]
    finally:
        lab.ok("lab-switch", "reset")
        lab.ok("lab-host", "up")
    assert (failure["retryable"], failure["left_behind"]) == (True, "unknown"), failure
    # After the reboot nothing holds the lock that vzdump left: the same job again makes the archive, and one.
    lab.ok("pct", "start", pod) if "lock" not in (lab.dir / f"etc/pve/lxc/{pod}.conf").read_text() else None
    again = worker_run.outcome("cloudpod_backup", {**guard(pod), "run_id": "job2.2", "mode": "snapshot"})
    assert again["failure"] is None, again
    archives = [line for line in lab.ok("pvesm", "list", "vzdump-backups").splitlines() if f"-{pod}-" in line]
    assert len(archives) == 1, archives
    lab.ok("pvesm", "free", archives[0].split()[0])


# -- archives ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def archive(lab: RealNode, pod: int) -> Iterator[str]:
    """Return the volume id of an archive of the pod, in which /root/marker says kept."""
    lab.ok("pct", "exec", pod, "--", "sh", "-c", "echo kept >/root/marker")
    made = worker_run.outcome("cloudpod_backup", {**guard(pod), "run_id": "job3.1", "mode": "snapshot"})
    assert made["failure"] is None, made
    lab.ok("pct", "exec", pod, "--", "sh", "-c", "echo later >/root/marker")
    yield made["result"]["archive"]["volid"]
    for line in lab.ok("pvesm", "list", "vzdump-backups").splitlines():
        if f"-{pod}-" in line:
            lab.ok("pvesm", "free", line.split()[0])


def test_a_corrupt_archive_is_found_before_the_pod_is_touched(lab: RealNode, pod: int, archive: str) -> None:
    path = Path(lab.ok("pvesm", "path", archive).strip())
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"\0" * 4096)
    variables = {**guard(pod), "run_id": "job4.1", "archive": archive, "force": True}
    failed("cloudpod_restore", variables, says=rf"{re.escape(archive)}.*(corrupt|cannot be read|damaged)", retryable=False)
    assert "running" in lab.ok("pct", "status", pod)
    assert lab.ok("pct", "exec", pod, "--", "cat", "/root/marker") == "later\n"


def test_a_restore_over_a_live_pod_wants_force(lab: RealNode, pod: int, archive: str) -> None:
    variables = {**guard(pod), "run_id": "job5.1", "archive": archive}
    failed("cloudpod_restore", variables, says=rf"{pod}.*exists.*force", retryable=False)
    assert lab.ok("pct", "exec", pod, "--", "cat", "/root/marker") == "later\n"
    done = worker_run.outcome("cloudpod_restore", {**variables, "force": True})
    assert done["failure"] is None, done
    assert lab.ok("pct", "exec", pod, "--", "cat", "/root/marker") == "kept\n"


def test_another_tenants_archive_is_refused(lab: RealNode, pod: int, archive: str, tmp_path: Path) -> None:
    """Also when it is asked for by whoever has the vmid now."""
    new = pod + 500
    variables = {
        "vmid": new,
        "tenant_id": OTHER_TENANT,
        "pod_id": f"pod-{new}",
        "run_id": "job6.1",
        "archive": archive,
        "from_vmid": pod,
        "from_pod_id": f"pod-{pod}",
        "hostname": "thief",
        "auto_ip": True,
    }
    failed("cloudpod_restore", variables, says=r"archive .*(is not one of pod|does not belong|is not of pod)", retryable=False)
    assert lab.traces(new) == []

    worker_run.outcome("cloudpod_destroy", guard(pod))
    made = worker_run.outcome(
        "cloudpod_create", {**order(pod), "tenant_id": OTHER_TENANT, "pod_id": "pod-new", "run_id": "job7.1"}
    )
    assert made["failure"] is None, made
    mine = {"vmid": pod, "tenant_id": OTHER_TENANT, "pod_id": "pod-new", "run_id": "job8.1", "archive": archive, "force": True}
    failed("cloudpod_restore", mine, says=r"archive .*(is not one of pod|does not belong|is not of pod)", retryable=False)
    assert lab.pct("exec", pod, "--", "cat", "/root/marker").returncode != 0


# -- what the tests do to the node -------------------------------------------------------------------------------------


def wait_until(condition: Callable[[], object], what: str, deadline_s: float = 60) -> None:
    """Return as soon as the condition holds; fail after a deadline."""
    deadline = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {deadline_s:g} s: {what}"
        time.sleep(0.05)


def busy(lab: RealNode, vmid: int) -> bool:
    """Return whether a script holds the pod."""
    return json.loads(run(lab.dir / "sbin/cloudpod-info.sh", vmid).stdout)["pods"][0]["busy"] is not None


def children(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            found += [int(path.parent.name)] if int(fields[1]) == pid else []
    return found


def sessions(lab: RealNode) -> list[int]:
    """Return the processes of the lab's sshd that serve a connection: each one of root's and one of the user's below it."""
    roots = children(int((lab.dir / "run/sshd.pid").read_text()))
    return [*roots, *(pid for root in roots for pid in children(root))]


def power_cut(lab: RealNode, vmid: int) -> None:
    """End at once what the node runs for us: connections, scripts, vzdump, the container. Its files stay as they are."""
    pids, left = [], children(int((lab.dir / "run/sshd.pid").read_text()))
    while left:
        pid = left.pop()
        pids.append(pid)
        left += children(pid)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    run("lxc-stop", "-n", vmid, "-k")
