"""Address pools over HTTP: made, read, changed, deleted, given to nodes, and what is refused."""

import pytest

POOL = {"name": "lab3-pool", "firstIp": "10.1.30.10", "lastIp": "10.1.30.19", "gateway": "10.1.30.15"}
POD = {"tenantId": "TENANT-123", "hostname": "web", "cores": 1, "memoryMb": 512}


def told(sql):
    """Return the actions of the events about pools, in order."""
    return [action for (action,) in sql("SELECT data ->> 'action' FROM cloud_pod_events WHERE data ? 'pool' ORDER BY seq")]


@pytest.mark.parametrize("prefix", ["/internal", "/api"])
def test_a_new_pool_is_answered_with_its_place_and_state(api, sql, prefix):
    answer = api.simulate_post(f"{prefix}/address-pools", json=POOL)
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == f"{prefix}/address-pools/lab3-pool"
    read = api.simulate_get(answer.headers["location"])
    assert (read.json, read.headers["etag"]) == (answer.json, answer.headers["etag"])
    assert {name: read.json[name] for name in POOL} == POOL
    # One of the ten is the gateway's.
    assert (read.json["addresses"], read.json["used"], read.json["nodes"]) == (9, 0, [])
    assert told(sql) == ["POOL_CREATED"]


def test_a_pool_shows_its_nodes_and_how_much_of_it_is_booked(api, rows):
    rows.pod("lab1", ip="10.1.10.60")
    rows.pod("lab1", tenant_id="TENANT-456")
    pools = {pool["name"]: pool for pool in api.send("GET", "/address-pools").json["items"]}
    assert {name: (pool["nodes"], pool["used"], pool["addresses"]) for name, pool in pools.items()} == {
        "lab1-pool": (["lab1"], 2, 200),
        "lab2-pool": (["lab2"], 0, 200),
    }


@pytest.mark.parametrize(
    ("change", "field", "rule"),
    [
        ({"firstIp": None}, "firstIp", "valid string"),
        ({"firstIp": "10.1.30.256"}, "firstIp", "IPv4"),
        ({"firstIp": "10.1.30.0/24"}, "firstIp", "IPv4"),
        ({"firstIp": "fd00::1"}, "firstIp", "IPv4"),
        ({"lastIp": "\x00"}, "lastIp", "IPv4"),
        ({"lastIp": ""}, "lastIp", "IPv4"),
        ({"gateway": 5}, "gateway", "valid string"),
        ({"lastIp": "10.1.9.9"}, "lastIp", "below firstIp"),
        ({"lastGiven": "10.1.30.10"}, "lastGiven", "unknown field"),
    ],
)
def test_a_bad_pool_is_refused_and_nothing_is_written(api, sql, assert_problem, change, field, rule):
    before = sql("SELECT * FROM address_pools ORDER BY id")
    assert_problem(api.send("POST", "/address-pools", {**POOL, **change}), 422, field=field, rule=rule)
    assert_problem(api.send("PUT", "/address-pools/lab1-pool", change), 422, field=field, rule=rule)
    assert (sql("SELECT * FROM address_pools ORDER BY id"), told(sql)) == (before, [])


def test_a_second_of_the_name_is_refused(api, sql, assert_problem):
    assert_problem(api.send("POST", "/address-pools", {**POOL, "name": "lab1-pool"}), 409, "name_taken", field="name")
    assert told(sql) == []


@pytest.mark.parametrize(
    ("first", "last"), [("10.1.10.249", "10.1.11.1"), ("10.1.10.60", "10.1.10.61"), ("0.0.0.0", "10.1.10.50")]
)
def test_a_pool_that_shares_addresses_with_another_is_refused(api, sql, assert_problem, first, last):
    made = api.send("POST", "/address-pools", {**POOL, "firstIp": first, "lastIp": last})
    assert_problem(made, 409, "pool_overlap")
    assert (made.json["pool"], "lab1-pool" in made.json["detail"]) == ("lab1-pool", True)
    api.send("POST", "/address-pools", POOL)
    assert_problem(api.send("PUT", "/address-pools/lab3-pool", {"firstIp": first, "lastIp": last}), 409, "pool_overlap")
    assert told(sql) == ["POOL_CREATED"]


def test_a_change_names_what_it_changes_and_leaves_the_rest(api, sql):
    read = api.send("GET", "/address-pools/lab1-pool")
    answer = api.send("PUT", "/address-pools/lab1-pool", {"lastIp": "10.1.10.250"})
    assert answer.status_code == 200, answer.text
    assert (answer.json["lastIp"], answer.json["firstIp"]) == ("10.1.10.250", "10.1.10.50")
    assert answer.headers["etag"] != read.headers["etag"]
    ((before, after),) = sql("SELECT data -> 'before', data -> 'after' FROM cloud_pod_events")
    assert (before["lastIp"], after["lastIp"]) == ("10.1.10.249", "10.1.10.250")


def test_a_change_that_changes_nothing_writes_nothing(api, sql):
    read = api.send("GET", "/address-pools/lab1-pool")
    answer = api.send("PUT", "/address-pools/lab1-pool", {"gateway": "10.1.10.1", "firstIp": "10.1.10.50"})
    assert (answer.json, answer.headers["etag"], told(sql)) == (read.json, read.headers["etag"], [])


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_of_two_who_change_what_they_read_the_second_is_told(api, assert_problem, method):
    read = api.send("GET", "/address-pools/lab1-pool").headers["etag"]
    to = {"gateway": "10.1.10.2"}
    assert api.send("PUT", "/address-pools/lab1-pool", to, **{"If-Match": read}).status_code == 200
    body = {"gateway": "10.1.10.3"} if method == "PUT" else None
    assert_problem(api.send(method, "/address-pools/lab1-pool", body, **{"If-Match": read}), 412, "precondition_failed")


@pytest.mark.parametrize(
    ("change", "allowed"),
    [
        ({"lastIp": "10.1.10.99"}, False),
        ({"firstIp": "10.1.10.101"}, False),
        ({"gateway": "10.1.10.100"}, False),
        ({"lastIp": "10.1.10.100", "firstIp": "10.1.10.100"}, True),
        ({"gateway": "10.1.10.101"}, True),
    ],
)
@pytest.mark.parametrize("status", ["active", "failed"])
def test_an_address_of_a_pod_stays_a_pods(api, sql, rows, assert_problem, change, allowed, status):
    rows.pod("lab1", ip="10.1.10.100", status=status, tenant_id="TENANT-456")
    # Of these nothing is left, and that one is another pool's.
    rows.pod("lab1", ip="10.1.10.51", status="deleted", allocation=False)
    rows.pod("lab1", ip="10.1.10.52", status="failed", allocation=False)
    rows.pod("lab2", ip="10.1.20.60")
    answer = api.send("PUT", "/address-pools/lab1-pool", change)
    if allowed:
        assert (answer.status_code, told(sql)) == (200, ["POOL_CHANGED"]), answer.text
    else:
        assert_problem(answer, 409, "addresses_in_use")
        assert (answer.json["addresses"], told(sql)) == (["10.1.10.100"], [])


@pytest.mark.parametrize(
    ("change", "allowed"),
    [({"lastIp": "10.1.10.200"}, False), ({"gateway": "10.1.10.2"}, False), ({"lastIp": "10.1.10.254"}, True)],
)
def test_a_pool_is_not_made_smaller_while_its_node_chooses_an_address(api, rows, assert_problem, change, allowed):
    rows.pod("lab1", vmid=9101, status="provisioning")
    answer = api.send("PUT", "/address-pools/lab1-pool", change)
    if allowed:
        assert answer.status_code == 200, answer.text
    else:
        assert_problem(answer, 409, "pool_busy")
        assert answer.json["vmids"] == [9101]


@pytest.mark.parametrize("to_the_pool_of", ["lab1", "lab2"])
def test_a_pool_is_not_shared_while_a_node_of_it_chooses_an_address(api, sql, rows, assert_problem, to_the_pool_of):
    """On the side of the node that has the pool, or of the one that joins it."""
    pod = rows.pod("lab1", vmid=9101, status="provisioning")
    joins = {"lab1": "lab2", "lab2": "lab1"}[to_the_pool_of]
    pool = {"addressPool": f"{to_the_pool_of}-pool"}
    answer = api.send("PUT", f"/nodes/{joins}", pool)
    assert_problem(answer, 409, "pool_busy")
    assert answer.json["vmids"] == [9101]
    if joins == "lab2":
        assert_problem(api.send("POST", "/nodes", {"name": "lab3", **pool}), 409, "pool_busy")
    sql("UPDATE cloud_pods SET status = 'active', ip = '10.1.10.70' WHERE id = %s", pod)
    assert api.send("PUT", f"/nodes/{joins}", pool).json["addressPool"] == pool["addressPool"]
    assert api.send("GET", f"/address-pools/{to_the_pool_of}-pool").json["nodes"] == ["lab1", "lab2"]


def test_of_a_shared_pool_the_addresses_are_given_and_never_the_gateways(api):
    api.send("POST", "/address-pools", {**POOL, "firstIp": "10.1.30.14", "lastIp": "10.1.30.16"})
    for node in ("lab1", "lab2"):
        assert api.send("PUT", f"/nodes/{node}", {"addressPool": "lab3-pool"}).status_code == 200
    orders = [api.simulate_post("/internal/cloudpods", json=POD) for _ in range(3)]
    assert [order.status_code for order in orders] == [202, 202, 409]
    assert [order.json["cloudPod"]["ip"] for order in orders[:2]] == ["10.1.30.14", "10.1.30.16"]


def test_a_pool_whose_beginning_moves_gives_addresses_from_there(api, sql):
    """The search goes on behind the address that was given last, which is outside by now."""
    api.send("POST", "/address-pools", {**POOL, "firstIp": "10.1.30.20", "lastIp": "10.1.30.40"})
    for node in ("lab1", "lab2"):
        api.send("PUT", f"/nodes/{node}", {"addressPool": "lab3-pool"})
    pod = api.simulate_post("/internal/cloudpods", json=POD).json["cloudPod"]
    sql("UPDATE cloud_pods SET status = 'deleted' WHERE id = %s", pod["id"])
    assert api.send("PUT", "/address-pools/lab3-pool", {"firstIp": "10.1.30.38"}).status_code == 200
    assert api.simulate_post("/internal/cloudpods", json=POD).json["cloudPod"]["ip"] == "10.1.30.38"


def test_a_pool_of_no_node_is_deleted(api, sql, assert_problem):
    refused = api.send("DELETE", "/address-pools/lab1-pool")
    assert_problem(refused, 409, "pool_in_use")
    assert refused.json["nodes"] == ["lab1"]
    api.send("PUT", "/nodes/lab1", {"addressPool": None})
    answer = api.send("DELETE", "/address-pools/lab1-pool")
    assert (answer.status_code, answer.text) == (204, "")
    assert_problem(api.send("GET", "/address-pools/lab1-pool"), 404, "pool_not_found")
    assert told(sql)[-1] == "POOL_DELETED"


def test_the_pool_of_a_removed_node_is_deleted_too(api):
    api.send("DELETE", "/nodes/lab1")
    assert api.send("DELETE", "/address-pools/lab1-pool").status_code == 204


@pytest.mark.parametrize("name", ["nobody", "%00", "a%00b", "9" * 300])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_no_pool_is_not_found(api, assert_problem, method, name):
    assert_problem(api.send(method, f"/address-pools/{name}", {} if method == "PUT" else None), 404, "pool_not_found")


def test_pools_are_listed_newest_first(api):
    api.send("POST", "/address-pools", POOL)

    def names(query):
        answer = api.simulate_get("/internal/address-pools", query_string=query)
        return [pool["name"] for pool in answer.json["items"]], answer.json["next"]

    first, cursor = names("limit=2")
    second, end = names(f"limit=2&cursor={cursor}")
    assert (first, second, end) == (["lab3-pool", "lab2-pool"], ["lab1-pool"], None)
