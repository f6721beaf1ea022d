"""What a new pod gets of what there is once: node, vmid and address, by orders that come at the same time."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from psycopg2.extras import Json

from shim.db import database
from shim.nodes.candidates import Size
from shim.nodes.placement import place
from shim.worker.playbook import Outcome

TENANT, OTHER_TENANT = "TENANT-123", "TENANT-456"
BODY = {"tenantId": TENANT, "hostname": "client-portal", "cores": 1, "memoryMb": 1024}
FOREIGN = {"foreign": [{"vmid": 10001, "ip": "10.1.10.51"}, {"vmid": 9300, "ip": None}]}


def order(api, **changes):
    return api.simulate_post("/internal/cloudpods", json={**BODY, **changes})


def at_once(api, orders):
    """Send all orders at the same time; return the answers in their order."""
    with ThreadPoolExecutor(len(orders)) as threads:
        return list(threads.map(lambda changes: order(api, **changes), orders))


@pytest.fixture
def shared(sql):
    """Return a way to let lab1 and lab2 share one pool of these addresses."""

    def share(first, last, gateway="10.1.10.1"):
        sql("UPDATE address_pools SET first_ip = %s, last_ip = %s, gateway = %s WHERE name = 'lab1-pool'", first, last, gateway)
        sql("UPDATE cloud_pod_nodes SET address_pool_id = (SELECT id FROM address_pools WHERE name = 'lab1-pool')")

    return share


@pytest.fixture
def known(rows):
    """Let the last look at lab1 have seen containers that are none of ours."""
    rows.job("POD_SCAN", tenant_id=None, status="success", result=Json(FOREIGN))


def ips(sql):
    return [ip for (ip,) in sql("SELECT ip FROM cloud_pods ORDER BY ip::inet")]


# --- addresses of a shared pool ----------------------------------------------------------------------------------


def test_nodes_that_share_a_pool_never_get_the_same_address(api, shared, sql):
    shared("10.1.10.50", "10.1.10.249")
    orders = [{"node": f"lab{1 + number % 2}", "tenantId": (TENANT, OTHER_TENANT)[number // 2 % 2]} for number in range(20)]
    assert {answer.status_code for answer in at_once(api, orders)} == {202}
    assert ips(sql) == [f"10.1.10.{number}" for number in range(50, 70)]


def test_of_more_orders_than_addresses_each_address_is_given_once(api, shared, sql):
    shared("10.1.10.50", "10.1.10.54", gateway="10.1.10.52")
    answers = at_once(api, [{}] * 8)
    assert Counter(answer.status_code for answer in answers) == {202: 4, 409: 4}
    assert {answer.json["code"] for answer in answers if answer.status_code == 409} == {"no_capacity"}
    assert ips(sql) == ["10.1.10.50", "10.1.10.51", "10.1.10.53", "10.1.10.54"]


def test_an_address_goes_to_the_node_and_the_client_sees_it(api, shared, finish):
    shared("10.1.10.50", "10.1.10.249")
    answer = order(api)
    assert answer.json["cloudPod"]["ip"] == "10.1.10.50"
    given = finish(answer, Outcome({"vmid": 10000, "ip": "10.1.10.50", "changed": True}, None))
    assert (given["ip"], "auto_ip" in given) == ("10.1.10.50", False)


def test_a_node_with_a_pool_of_its_own_chooses_itself(api, finish):
    answer = order(api)
    assert answer.json["cloudPod"]["ip"] == ""
    given = finish(answer, Outcome({"vmid": 10000, "ip": "10.1.10.50", "changed": True}, None))
    assert (given["auto_ip"], "ip" in given) == (True, False)


def test_an_address_that_came_free_is_given_last(api, shared, sql, finish):
    shared("10.1.10.50", "10.1.10.52")
    first = order(api)
    finish(first, Outcome(None, {"msg": "no", "retryable": False, "left_behind": "nothing"}))
    assert [order(api).json["cloudPod"]["ip"] for _ in range(3)] == ["10.1.10.51", "10.1.10.52", "10.1.10.50"]


def test_a_failed_pod_of_which_something_is_left_keeps_its_address(api, shared, finish):
    shared("10.1.10.50", "10.1.10.51")
    finish(order(api), Outcome(None, {"msg": "no", "retryable": False, "left_behind": "container 10000"}))
    assert order(api).json["cloudPod"]["ip"] == "10.1.10.51"
    assert order(api).json["code"] == "no_capacity"


def test_an_address_known_to_be_somebody_elses_is_passed_over(api, shared, known):
    shared("10.1.10.50", "10.1.10.60")
    assert [order(api).json["cloudPod"]["ip"] for _ in range(2)] == ["10.1.10.50", "10.1.10.52"]


def test_the_one_address_left_of_a_thousand_is_found(api, shared, sql, rows):
    shared("10.1.10.0", "10.1.13.255", gateway="10.1.10.0")
    owner = rows.pod(ip="10.1.10.1")
    columns = "tenant_id, node_id, hostname, status, cores, memory_mb"
    sql(
        f"INSERT INTO cloud_pods (vmid, ip, {columns}) SELECT 20000 + n, host('10.1.10.0'::inet + n), {columns}"
        " FROM cloud_pods, generate_series(2, 1023) n WHERE n <> 700 AND id = %s",
        owner,
    )
    assert order(api).json["cloudPod"]["ip"] == "10.1.12.188"
    assert order(api).json["code"] == "no_capacity"


# --- vmids -------------------------------------------------------------------------------------------------------


def test_vmids_of_two_regions_and_two_tenants_never_meet(api, sql):
    sql("UPDATE cloud_pod_nodes SET region = 'eu' WHERE name = 'lab2'")
    regions = ("migra-us-east-1", "eu")
    orders = [{"region": regions[number % 2], "tenantId": (TENANT, OTHER_TENANT)[number // 2 % 2]} for number in range(16)]
    assert {answer.status_code for answer in at_once(api, orders)} == {202}
    vmids = [vmid for (vmid,) in sql("SELECT vmid FROM cloud_pods")]
    assert len(set(vmids)) == 16
    for region in regions:
        highest = sql.value("SELECT max(vmid) FROM cloud_pods WHERE region = %s", region)
        assert sql.value("SELECT next_vmid FROM regions WHERE name = %s", region) == highest + 1


def test_a_vmid_is_not_picked_a_second_time(api, finish):
    finish(order(api), Outcome(None, {"msg": "no", "retryable": False, "left_behind": "nothing"}))
    assert order(api).json["cloudPod"]["vmid"] == 10001


def test_a_vmid_known_to_be_somebody_elses_is_refused(api, known, sql, assert_problem):
    for tenant in (TENANT, OTHER_TENANT):
        assert_problem(order(api, vmid=9300, tenantId=tenant), 409, "vmid_taken", field="vmid", rule="none of ours")
    assert sql.counts()["cloud_pods"] == 0
    assert order(api, vmid=9301).status_code == 202


def test_a_vmid_that_the_last_look_no_longer_showed_is_free_again(api, known, rows, assert_problem):
    rows.job("POD_SCAN", tenant_id=None, status="success", result=Json({"foreign": []}))
    assert order(api, vmid=9300).status_code == 202


def test_what_looks_foreign_and_is_a_live_pod_of_ours_bars_nobody(api, rows, shared):
    """A scan that ran while the pod was made saw a container that had no row yet."""
    shared("10.1.10.50", "10.1.10.60")
    rows.pod(vmid=9300, ip="10.1.10.58")
    rows.job("POD_SCAN", tenant_id=None, status="success", result=Json({"foreign": [{"vmid": 9300, "ip": "10.1.10.50"}]}))
    assert order(api).json["cloudPod"]["ip"] == "10.1.10.50"


# --- nodes -------------------------------------------------------------------------------------------------------


def nodes_of(sql, tenant):
    counted = (
        "SELECT n.name, count(*) FROM cloud_pods p JOIN cloud_pod_nodes n ON n.id = p.node_id WHERE tenant_id = %s GROUP BY 1"
    )
    return dict(sql(counted, tenant))


def test_a_tenants_pods_are_spread_whatever_others_have(api, sql):
    for tenant in (TENANT, OTHER_TENANT, TENANT, OTHER_TENANT):
        assert order(api, tenantId=tenant).status_code == 202
    assert nodes_of(sql, TENANT) == nodes_of(sql, OTHER_TENANT) == {"lab1": 1, "lab2": 1}


def test_orders_at_once_fill_nodes_to_the_brim_and_no_further(api, sql):
    sql("UPDATE cloud_pod_nodes SET total_memory_mb = 3 * 1024, memory_overcommit = 1")
    answers = at_once(api, [{"tenantId": (TENANT, OTHER_TENANT)[number % 2]} for number in range(10)])
    assert Counter(answer.status_code for answer in answers) == {202: 6, 409: 4}
    assert sql("SELECT sum(used_memory_mb) FROM cloud_pod_allocations GROUP BY node_id") == [(3072,), (3072,)]


def test_two_of_a_role_stand_on_two_nodes(session, sql, rows):
    rows.pod("lab1")
    sql("UPDATE cloud_pod_allocations SET role = 'database'")
    for _ in range(3):
        rows.pod("lab2")

    def chosen(tenant, role):
        with database.atomic():
            return place(Size(1, 1, 1), region="migra-us-east-1", tenant_id=tenant, role=role).node.name

    # The tenant has more pods on lab2, but none of the role.
    assert (chosen(TENANT, "web"), chosen(TENANT, "database"), chosen(OTHER_TENANT, "database")) == ("lab1", "lab2", "lab1")


def test_a_node_without_the_pods_storage_gets_none_and_one_whose_storages_are_unknown_may(api, sql, assert_problem):
    sql("UPDATE cloud_pod_nodes SET storages = %s WHERE name = 'lab1'", Json(["other"]))
    assert [order(api).json["cloudPod"]["node"] for _ in range(2)] == ["lab2", "lab2"]
    assert_problem(order(api, node="lab1"), 409, "no_capacity")


def test_a_node_whose_pool_has_no_address_left_gets_none_unless_one_is_brought(api, sql, rows):
    sql("UPDATE address_pools SET last_ip = first_ip WHERE name = 'lab1-pool'")
    rows.pod("lab1", ip="10.1.10.50", tenant_id=OTHER_TENANT)
    assert [order(api).json["cloudPod"]["node"] for _ in range(2)] == ["lab2", "lab2"]
    refused = order(api, node="lab1")
    assert (refused.status_code, refused.json["code"]) == (409, "no_capacity")
    assert "address: all 1 of its address pool are taken" in refused.json["nodes"][0]["refused"]


# --- room to grow ------------------------------------------------------------------------------------------------


def grow(api, **size):
    return api.simulate_post("/internal/cloudpods/9101/scale", json={"tenantId": TENANT, **size})


def booked(sql):
    return sql("SELECT used_cpu_cores, used_memory_mb FROM cloud_pod_allocations ORDER BY 1, 2")


def test_room_that_one_grows_into_is_not_there_for_another(api, rows, sql, assert_problem):
    rows.pod(vmid=9101)
    sql("UPDATE cloud_pod_nodes SET total_memory_mb = 2048, memory_overcommit = 2")
    assert grow(api, newMemoryMb=3584).status_code == 202
    assert_problem(order(api, node="lab1", memoryMb=1024, tenantId=OTHER_TENANT), 409, "no_capacity")
    assert order(api, node="lab1", memoryMb=512, tenantId=OTHER_TENANT).status_code == 202


def test_what_shrinks_keeps_its_room_until_it_is_smaller(api, rows, sql, finish):
    rows.pod(vmid=9101)
    answer = grow(api, newMemoryMb=1024)
    assert booked(sql) == [(2, 2048)]
    finish(answer, Outcome({"vmid": 9101, "cloudpod": {"status": "running"}, "pending": [], "changed": True}, None))
    assert booked(sql) == [(2, 1024)]


def test_while_nobody_knows_whether_it_grew_the_room_stays_booked(api, rows, sql, finish):
    rows.pod(vmid=9101)
    answer = grow(api, newMemoryMb=4096)
    sql("UPDATE cloud_pod_jobs SET lost = true")
    finish(answer, Outcome(None, {"msg": "no", "retryable": False, "left_behind": "container 9101, perhaps larger"}))
    assert booked(sql) == [(2, 4096)]
