"""Which node a new pod gets, and when none has room."""

import pytest

from shim.db import database
from shim.errors import Conflict, Invalid
from shim.nodes.candidates import Size
from shim.nodes.models import AddressPool
from shim.nodes.placement import place

pytestmark = pytest.mark.usefixtures("session")
SMALL = Size(1, 1024, 10)


@pytest.fixture
def totals(sql):
    """Return a way to say what a node has."""

    def give(name, memory_mb, disk_gb):
        columns = "total_memory_mb = %s, total_disk_gb = %s, total_cpu_cores = 4"
        sql(f"UPDATE cloud_pod_nodes SET {columns} WHERE name = %s", memory_mb, disk_gb, name)

    return give


def chosen(size=SMALL, *, region="migra-us-east-1", name=None):
    with database.atomic():
        return place(size, region=region, name=name).node.name


def test_the_node_with_the_larger_free_share_is_taken(totals):
    totals("lab1", 10240, 1000)
    totals("lab2", 20480, 1000)
    assert chosen() == "lab2"


def test_the_scarcer_of_memory_and_disk_decides(totals):
    totals("lab1", 10240, 1000)
    totals("lab2", 1024000, 20)
    assert chosen() == "lab1"


def test_what_is_allocated_counts(totals, rows):
    totals("lab1", 10240, 1000)
    totals("lab2", 10240, 1000)
    assert chosen() == "lab1"
    rows.pod("lab1", memory_mb=2048)
    assert chosen() == "lab2"


def test_nodes_that_are_alike_are_taken_by_name():
    assert chosen() == "lab1"


def test_a_node_whose_totals_are_not_known_takes_what_it_is_given():
    assert chosen(Size(128, 1048576, 16384)) == "lab1"


@pytest.mark.parametrize(("memory_mb", "disk_gb", "fits"), [(1024, 10, True), (1023, 10, False), (1024, 9, False)])
def test_a_pod_may_fill_a_node_to_the_brim_and_no_further(totals, memory_mb, disk_gb, fits):
    totals("lab1", memory_mb, disk_gb)
    if fits:
        assert chosen(name="lab1") == "lab1"
    else:
        with pytest.raises(Conflict) as caught:
            chosen(name="lab1")
        assert (caught.value.code, caught.value.extra["considered"]) == ("no_capacity", 1)
        (told,) = caught.value.extra["nodes"]
        assert (told["node"], told["fits"], len(told["refused"])) == ("lab1", False, 1)


@pytest.mark.parametrize(("cores", "fits"), [(16, True), (17, False)])
def test_cores_are_shared_by_time_fourfold(totals, cores, fits):
    totals("lab1", 102400, 1000)
    if fits:
        assert chosen(Size(cores, 1024, 10), name="lab1") == "lab1"
    else:
        with pytest.raises(Conflict):
            chosen(Size(cores, 1024, 10), name="lab1")


@pytest.mark.parametrize("status", ["cordoned", "draining", "offline"])
def test_a_node_that_is_not_active_gets_nothing(sql, status):
    sql("UPDATE cloud_pod_nodes SET status = %s WHERE name = 'lab1'", status)
    assert chosen() == "lab2"
    with pytest.raises(Conflict):
        chosen(name="lab1")


def test_a_node_of_another_region_gets_nothing(sql):
    sql("UPDATE cloud_pod_nodes SET region = 'eu' WHERE name = 'lab2'")
    assert chosen(region="eu") == "lab2"
    with pytest.raises(Invalid):
        chosen(region="eu", name="lab1")


def test_an_unknown_node_is_the_requests_fault():
    with pytest.raises(Invalid) as caught:
        chosen(name="lab9")
    assert (caught.value.code, caught.value.fields[0]["field"]) == ("unknown_node", "node")


POOL = AddressPool(name="p", first_ip="10.1.10.50", last_ip="10.1.10.249", gateway="10.1.10.60")
ADDRESSES = [
    ("10.1.10.50", None),
    ("10.1.10.249", None),
    ("10.1.10.49", "outside"),
    ("10.1.10.250", "outside"),
    ("10.1.11.60", "outside"),
    ("10.1.10.60", "gateway"),
]


@pytest.mark.parametrize(("ip", "rule"), ADDRESSES)
def test_a_pool_says_which_addresses_are_its_own(ip, rule):
    refusal = POOL.refusal(ip)
    assert refusal is None if rule is None else rule in refusal


def test_a_pools_addresses_may_be_stored_with_a_prefix():
    assert AddressPool(first_ip="10.1.10.50/32", last_ip="10.1.10.249/24", gateway="10.1.10.1/24").refusal("10.1.10.51") is None


OVERLAPS = [
    ("10.1.10.1", "10.1.10.49", None),
    ("10.1.10.1", "10.1.10.50", "lab1-pool"),
    ("10.1.10.249", "10.1.10.254", "lab1-pool"),
    ("10.1.10.100", "10.1.10.101", "lab1-pool"),
    ("10.0.0.0", "10.1.11.0", "lab1-pool"),
    ("10.1.10.250", "10.1.20.49", None),
]


@pytest.mark.parametrize(("first", "last", "name"), OVERLAPS)
def test_pools_that_share_an_address_overlap(first, last, name):
    assert AddressPool.overlapping(first, last, but="new") == name


def test_a_pool_does_not_overlap_with_itself():
    assert AddressPool.overlapping("10.1.10.50", "10.1.10.249", but="lab1-pool") is None


def in_turn(last_given=None):
    pool = AddressPool(first_ip="10.1.10.254/32", last_ip="10.1.11.2", gateway="10.1.11.0/24", last_given=last_given)
    return [ip.removeprefix("10.1.") for ip in pool.in_turn()]


def test_addresses_come_in_turn_from_the_one_given_last():
    assert in_turn() == ["10.254", "10.255", "11.1", "11.2"]
    assert in_turn("10.1.10.255/32") == ["11.1", "11.2", "10.254", "10.255"]
    assert in_turn("10.1.11.2") == ["10.254", "10.255", "11.1", "11.2"]
    # A pool that was made smaller afterwards still has all of its own.
    assert sorted(in_turn("10.1.99.9")) == sorted(in_turn("10.1.9.9")) == sorted(in_turn())
