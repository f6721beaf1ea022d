"""cloudpod-adopt.sh: a container made by hand becomes a pod, once, and nobody else's does."""

from __future__ import annotations

import time

import pytest

from tests.node_scripts import Scripts, failure, kill_all_of, node, summary

__all__ = ["node"]

ADOPT = ("--tenant", "TENANT-123", "--pod", "abc")
LINE = "10.1.10.77 9105 web TENANT-123 active"


@pytest.fixture
def by_hand(node: Scripts) -> Scripts:
    """Return a node with a container of the pool, 9105, that was made by hand."""
    node.lab.create(9105, "--hostname", "web", "--description", "ask Bob: 100%\nor Ann", ip="10.1.10.77")
    return node


def test_it_becomes_a_pod_and_keeps_what_is_its_own(by_hand: Scripts) -> None:
    done = by_hand.run("adopt", 9105, *ADOPT, "--run", "jobd.1")
    assert (done.returncode, summary(done)) == (0, {
        "VMID": "9105", "Host": "web", "Tenant": "TENANT-123", "Pod": "abc", "IP": "10.1.10.77", "Result": "adopted",
    }), done.stderr  # fmt: skip
    assert by_hand.ipam() == [LINE] and by_hand.outcomes() == ["adopted"]
    (row,) = by_hand.info(9105)
    assert row["owner"] == {"tenant": "TENANT-123", "pod": "abc"} and not row["unfinished"]
    assert row["config"]["description"] == "cloudpod tenant=TENANT-123 pod=abc\nask Bob: 100%\nor Ann"
    before = by_hand.traces(9105)
    assert summary(by_hand.run("adopt", 9105, *ADOPT))["Result"] == "unchanged"
    assert by_hand.traces(9105) == before


def test_a_pod_without_an_id_gets_one(node: Scripts) -> None:
    node.created(9101, pod=None, ip="10.1.10.91")
    assert summary(node.run("adopt", 9101, *ADOPT))["Result"] == "adopted"
    assert node.info(9101)[0]["owner"] == {"tenant": "TENANT-123", "pod": "abc"}


def test_another_owners_is_refused(node: Scripts) -> None:
    node.created(9101, ip="10.1.10.91")
    before = node.traces(9101)
    for owner in (("--tenant", "TENANT-9", "--pod", "abc"), ("--tenant", "TENANT-123", "--pod", "xyz")):
        done = node.run("adopt", 9101, *owner)
        assert (done.returncode, failure(done)["Left"]) == (77, "nothing")
    assert node.run("adopt", 100, *ADOPT).returncode == 77
    assert node.run("adopt", 9109, *ADOPT).returncode == 66
    assert node.traces(9101) == before


def test_an_address_that_another_line_has_is_refused(by_hand: Scripts) -> None:
    by_hand.ipam_file.write_text(by_hand.ipam_file.read_text() + "10.1.10.77 the printer\n")
    before = by_hand.lab.conf(9105)
    assert by_hand.run("adopt", 9105, *ADOPT).returncode == 73
    assert by_hand.ipam() == ["10.1.10.77 the printer"] and by_hand.lab.conf(9105) == before


def test_a_failure_leaves_nothing(by_hand: Scripts) -> None:
    by_hand.lab.switch("fail", "pct set", "--message", "no", "--times", 1)
    done = by_hand.run("adopt", 9105, *ADOPT)
    assert (done.returncode, failure(done)["Left"]) == (1, "nothing")
    assert by_hand.ipam() == [] and by_hand.info(9105)[0]["owner"] is None


def test_a_kill_at_any_moment_can_be_repeated(by_hand: Scripts) -> None:
    # The delays only spread the kills over the run: no single one has to hit anything.
    for step in range(6):
        process = by_hand.start("adopt", 9105, *ADOPT)
        time.sleep(0.05 * step)
        kill_all_of(process)
        assert by_hand.run("adopt", 9105, *ADOPT).returncode == 0
        assert by_hand.ipam() == [LINE]


def test_an_address_that_is_the_gateways_or_another_guests_is_refused(by_hand: Scripts) -> None:
    by_hand.lab.create(9106, ip="10.1.10.77")
    by_hand.lab.create(9107, ip="10.1.10.1")
    for vmid in (9105, 9107):
        assert by_hand.run("adopt", vmid, *ADOPT).returncode == 73
    assert by_hand.ipam() == []


def test_a_failure_leaves_a_line_that_was_there_and_a_success_has_the_firewall_file(by_hand: Scripts) -> None:
    by_hand.ipam_file.write_text(by_hand.ipam_file.read_text() + "10.1.10.77 9105 old TENANT-123 active\n")
    by_hand.lab.switch("fail", "pct set", "--message", "boom", "--times", 1)
    assert by_hand.run("adopt", 9105, *ADOPT).returncode == 1
    assert by_hand.ipam() == [LINE]
    assert by_hand.run("adopt", 9105, *ADOPT).returncode == 0
    assert "ipfilter: 1" in (by_hand.lab.dir / "etc/pve/firewall/9105.fw").read_text()
