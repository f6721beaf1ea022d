"""cloudpod-create.sh: what a pod looks like, addresses, and who may have which vmid."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab_node import LabNode
from tests.node_scripts import Scripts, create_arguments, failure, finished, node, summary, taken

__all__ = ["node"]

SUMMARY = """\
VMID     : 9101
Host     : client-portal
Tenant   : TENANT-123
Pod      : abc
IP       : 10.1.10.91
Gateway  : 10.1.10.1
Bridge   : vmbr0
Storage  : clients-main
Disk     : 8
Cores    : 2
Memory   : 2048
Swap     : 512
Status   : running
HostKey  : {key}
Result   : created
"""


def test_a_pod_is_made_as_asked(node: Scripts) -> None:
    done = node.create(ip="10.1.10.91")
    key = node.info(9101)[0]["host_key"]
    assert key.startswith("ssh-ed25519 ")
    assert (done.returncode, done.stdout) == (0, SUMMARY.format(key=key)), done.stderr
    assert node.ipam() == ["10.1.10.91 9101 client-portal TENANT-123 active"]
    assert node.lab.running(9101) and 9101 in node.lab.pool()
    conf = node.lab.conf(9101) or ""
    lines = ["#cloudpod tenant=TENANT-123 pod=abc", "unprivileged: 1", "features: nesting=1", "onboot: 1", "cores: 2",
             "memory: 2048", "swap: 512", "hostname: client-portal"]  # fmt: skip
    assert set(lines) <= set(conf.splitlines())
    for word in ("name=eth0", "bridge=vmbr0", "firewall=1", "ip=10.1.10.91/24", "gw=10.1.10.1"):
        assert word in next(line for line in conf.splitlines() if line.startswith("net0: "))
    assert (node.lock_dir / "9101").read_text() == ""


def test_the_log_has_one_line_with_all_fields(node: Scripts) -> None:
    node.created(ip="10.1.10.91")
    (line,) = node.log()
    shown = {key: line[key] for key in ("script", "vmid", "run", "tenant", "outcome", "rc", "ip")}
    assert shown == {"script": "cloudpod-create", "vmid": 9101, "run": "job1.1", "tenant": "TENANT-123",
                     "outcome": "created", "rc": 0, "ip": "10.1.10.91"}  # fmt: skip
    assert set(line) == {*shown, "ts", "message", "duration_ms", "pid"}
    assert line["ts"].endswith("Z") and len(line["ts"]) == len("2026-11-21T00:00:00.000Z")
    assert 0 < line["duration_ms"] < 60_000


def test_the_least_that_can_be_asked_takes_the_nodes_defaults(node: Scripts) -> None:
    said = node.created(pod=None, run=None, bridge=None, storage=None)
    assert (said["Pod"], said["Bridge"], said["Storage"], said["IP"]) == ("-", "vmbr0", "clients-main", "10.1.10.50")
    assert node.log()[0]["run"] is None
    assert node.info(9101)[0]["owner"] == {"tenant": "TENANT-123", "pod": None}


def test_disk_gateway_template_and_a_tenant_with_a_colon(node: Scripts) -> None:
    template = "local:vztmpl/debian-12-standard_12.7-1_amd64.tar.zst"
    said = node.created(disk=12, gw="10.1.10.254", template=template, tenant="org:7", pod="p:1")
    assert (said["Disk"], said["Gateway"], said["Tenant"]) == ("12", "10.1.10.254", "org:7")
    row = node.info(9101)[0]
    assert (row["disk_gb"], row["gateway"], row["owner"]) == (12, "10.1.10.254", {"tenant": "org:7", "pod": "p:1"})
    assert node.run("scale", 9101, "--cores", 2, "--mem", 64, "--tenant", "org:7", "--pod", "p:1").returncode == 0


def authorized_keys(lab: LabNode, vmid: int) -> str:
    """Return the keys that create put into a container."""
    (file,) = (lab.dir / "clients/main").glob(f"subvol-{vmid}-disk-0/**/authorized_keys")
    return file.read_text()


@pytest.mark.parametrize("given", [None, "own.pub", "path"])
def test_the_key_inside_is_the_platforms_unless_another_is_asked(node: Scripts, given: str | None) -> None:
    (node.keys_dir / "own.pub").write_text("ssh-ed25519 AAAAown own\n")
    node.created(ssh_keys=str(node.keys_dir / "own.pub") if given == "path" else given)
    assert ("AAAAown" if given else "AAAAplatform") in authorized_keys(node.lab, 9101)


def test_a_node_without_a_platform_key_makes_pods_without_one(node: Scripts) -> None:
    (node.keys_dir / "platform.pub").unlink()
    node.created()
    assert list((node.lab.dir / "clients/main").glob("subvol-9101-disk-0/**/authorized_keys")) == []


def test_twenty_at_once_get_twenty_addresses(node: Scripts) -> None:
    vmids = range(9101, 9121)
    started = [node.start("create", *create_arguments(vmid)) for vmid in vmids]
    done = [finished(process) for process in started]
    assert [each.returncode for each in done] == [0] * 20, [each.stderr for each in done if each.returncode]
    assert len({summary(each)["IP"] for each in done}) == 20
    assert len(node.ipam()) == 20 and all(line.endswith(" active") for line in node.ipam())
    assert len({row["ip"] for row in node.info()}) == 20


def test_addresses_in_the_file_or_any_conf_are_taken(node: Scripts) -> None:
    other = node.lab.dir / "etc/pve/nodes/lab2"
    (other / "lxc").mkdir(parents=True)
    (other / "qemu-server").mkdir()
    snapshot = "net0: name=eth0,bridge=vmbr0,ip=10.1.10.51/24\n\n[before]\nnet1: name=eth1,ip=10.1.10.52/24,type=veth\n"
    (other / "lxc/777.conf").write_text(snapshot + "\n[pve:pending]\nnet0: name=eth0,bridge=vmbr0,ip=10.1.10.53/24\n")
    (other / "qemu-server/778.conf").write_text("ipconfig0: gw=10.1.10.1,ip=10.1.10.54/24\n")
    foreign = ["10.1.10.50 the printer, do not touch", "   10.1.10.55", "10.1.10.56/24 # a vip", "hello", "",
               "# 10.1.10.57 is free", "10.1.10.58\tx"]  # fmt: skip
    node.ipam_file.write_text(node.ipam_file.read_text() + "\n".join(foreign))
    assert node.created()["IP"] == "10.1.10.57"
    for address in ("10.1.10.50", "10.1.10.52", "10.1.10.53", "10.1.10.54", "10.1.10.55", "10.1.10.56", "10.1.10.58"):
        done = node.create(9102, ip=address)
        assert (done.returncode, failure(done)["Error"]) == (73, f"address {address} is taken")
        assert taken(done) == "ip"
        node.assert_no_trace(9102)
    assert node.ipam()[:-1] == foreign
    assert node.run("destroy", 9101).returncode == 0
    assert node.ipam() == foreign


def test_an_exhausted_range_is_said(node: Scripts) -> None:
    node.install(ip_first="10.1.10.60", ip_last="10.1.10.61")
    assert [node.created(vmid)["IP"] for vmid in (9101, 9102)] == ["10.1.10.60", "10.1.10.61"]
    done = node.create(9103)
    assert (done.returncode, failure(done)["Retryable"]) == (69, "no")
    assert failure(done)["Error"] == "no free address from 10.1.10.60 to 10.1.10.61"
    node.assert_no_trace(9103)


def test_what_a_killed_run_reserved_is_used_again_when_nothing_else_is_free(node: Scripts) -> None:
    node.install(ip_first="10.1.10.60", ip_last="10.1.10.60")
    line = "10.1.10.60 9105 gone TENANT-9 reserved:job9.1"
    node.ipam_file.write_text(node.ipam_file.read_text() + line + "\n")
    (node.lock_dir).mkdir(mode=0o700)
    (node.lock_dir / "9105").write_text("")
    assert node.created()["IP"] == "10.1.10.60"
    assert node.ipam() == ["10.1.10.60 9101 client-portal TENANT-123 active"]


@pytest.mark.parametrize("kept_by", ["lock", "conf", "active"])
def test_a_reserved_address_somebody_may_still_use_is_taken(node: Scripts, kept_by: str) -> None:
    state = "active" if kept_by == "active" else "reserved:job9.1"
    node.ipam_file.write_text(f"{node.ipam_file.read_text()}10.1.10.60 9105 gone TENANT-9 {state}\n")
    if kept_by == "lock":
        node.hold("9105")
    if kept_by == "conf":
        node.lab.conf_path(9105).write_text("lock: create\n")
    assert node.create(ip="10.1.10.60").returncode == 73
    node.assert_no_trace(9101)


@pytest.mark.parametrize("folder", ["lab1/lxc", "lab2/lxc", "lab2/qemu-server"])
def test_a_vmid_that_any_node_knows_is_taken(node: Scripts, folder: str) -> None:
    path = node.lab.dir / "etc/pve/nodes" / folder / "9101.conf"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("hostname: theirs\n")
    done = node.create()
    assert (done.returncode, failure(done)["Retryable"], failure(done)["Left"]) == (73, "no", "nothing")
    assert taken(done) == "vmid"
    assert path.read_text() == "hostname: theirs\n" and node.ipam() == [] and node.outcomes() == ["failed"]


def test_a_second_create_is_refused_and_leaves_the_first_alone(node: Scripts) -> None:
    node.created(ip="10.1.10.91")
    before = node.traces(9101)
    done = node.create(ip="10.1.10.91")
    assert done.returncode == 73
    # It is no one else's: whoever made it need not choose another.
    assert taken(done) is None
    assert node.traces(9101) == before


@pytest.mark.parametrize("owner", [{"tenant": "TENANT-9"}, {"pod": "xyz"}, {"pod": None}])
def test_a_pod_of_another_owner_has_its_vmid(node: Scripts, owner: dict[str, str | None]) -> None:
    node.created()
    done = node.create(**owner)
    assert (done.returncode, taken(done)) == (73, "vmid")


def test_a_container_made_by_hand_at_the_same_moment_has_the_vmid(node: Scripts) -> None:
    node.lab.switch("fail", "pct create", "--message", "unable to create CT 9101: CT 9101 already exists on node 'lab1'")
    done = node.create()
    assert (done.returncode, taken(done), failure(done)["Left"]) == (73, "vmid", "nothing")
    assert node.ipam() == []


def test_what_the_node_lacks_is_said_in_its_words(node: Scripts) -> None:
    rows = [
        ({"storage": "nosuch"}, 69, "storage 'nosuch' does not exist"),
        ({"storage": "vzdump-backups"}, 69, "storage 'vzdump-backups' cannot hold content 'rootdir' on this node"),
        ({"template": "local:vztmpl/nosuch.tar.zst"}, 69, "volume 'local:vztmpl/nosuch.tar.zst' does not exist"),
        ({"bridge": "vmbr9"}, 69, "bridge 'vmbr9' does not exist"),
        ({"disk": 16384}, 69, "GB free, 16384 GB are needed"),
    ]
    for changes, code, words in rows:
        done = node.create(**changes)
        assert done.returncode == code and words in failure(done)["Error"], done.stderr
        node.assert_no_trace(9101)
    assert node.created()["Result"] == "created"


def test_the_address_file_keeps_its_mode_and_may_be_a_link(node: Scripts, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere.txt"
    node.ipam_file.chmod(0o644)
    node.ipam_file.rename(target)
    node.ipam_file.symlink_to(target)
    node.created()
    assert node.ipam_file.is_symlink() and target.stat().st_mode & 0o777 == 0o644
    assert len(node.ipam()) == 1 and [path.name for path in tmp_path.glob("elsewhere*")] == ["elsewhere.txt"]


def test_a_missing_address_file_is_made(node: Scripts) -> None:
    node.ipam_file.unlink()
    assert node.created()["IP"] == "10.1.10.50"
    assert node.ipam_file.read_text() == "10.1.10.50 9101 client-portal TENANT-123 active\n"
