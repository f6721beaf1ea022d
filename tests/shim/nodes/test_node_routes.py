"""Nodes over HTTP: added, read, changed, taken out of use, removed, and what is refused."""

import threading

import pytest

from shim.config import Settings

WHOLE = {
    "name": "lab3",
    "region": "eu-1",
    "status": "cordoned",
    "apiUrl": "https://lab3.example.com:8006/",
    "nodeName": "pve3",
    "totalCpuCores": 8,
    "totalMemoryMb": 32768,
    "totalDiskGb": 500,
    "cpuOvercommit": 2.5,
    "memoryOvercommit": 1,
    "diskOvercommit": 1.125,
    "storages": ["clients-main", "local_zfs"],
    "maxRunningJobs": 2,
    "addressPool": "lab3-pool",
}
POD = {"tenantId": "TENANT-123", "hostname": "web", "cores": 1, "memoryMb": 512}


@pytest.fixture
def pool(api):
    """Make an address pool that no node has."""
    api.send(
        "POST", "/address-pools", {"name": "lab3-pool", "firstIp": "10.1.30.5", "lastIp": "10.1.30.9", "gateway": "10.1.30.1"}
    )


def told(sql):
    """Return the actions of the events about nodes, in order."""
    return [action for (action,) in sql("SELECT data ->> 'action' FROM cloud_pod_events WHERE data ? 'node' ORDER BY seq")]


def last(sql):
    """Return what the newest event says was before and is now."""
    ((before, after),) = sql("SELECT data -> 'before', data -> 'after' FROM cloud_pod_events ORDER BY seq DESC LIMIT 1")
    return before, after


@pytest.mark.parametrize("prefix", ["/internal", "/api"])
def test_a_new_node_is_answered_with_its_place_and_state(api, sql, pool, prefix):
    answer = api.simulate_post(f"{prefix}/nodes", json=WHOLE)
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == f"{prefix}/nodes/lab3"
    read = api.simulate_get(answer.headers["location"])
    assert (read.json, read.headers["etag"]) == (answer.json, answer.headers["etag"])
    assert {name: read.json[name] for name in WHOLE} == WHOLE
    assert (told(sql), last(sql)[1]["region"]) == (["NODE_CREATED"], "eu-1")
    # Its region is there with it.
    assert api.simulate_get(f"{prefix}/regions/eu-1").status_code == 200


def test_a_name_is_enough(api):
    node = api.send("POST", "/nodes", {"name": "lab3"}).json
    assert (node["region"], node["status"], node["cpuOvercommit"], node["maxRunningJobs"]) == (
        "migra-us-east-1",
        "active",
        4,
        4,
    )
    assert (node["freeCpuCores"], node["storages"], node["addressPool"], node["syncedAt"]) == (None, None, None, None)
    order = api.simulate_post("/internal/cloudpods", json={**POD, "node": "lab3"})
    assert (order.status_code, order.json["cloudPod"]["node"]) == (202, "lab3"), order.text


def test_a_node_shows_what_is_taken_of_it_and_what_is_free(api, rows):
    sizes = {"totalCpuCores": 4, "totalMemoryMb": 4096, "memoryOvercommit": 1.5}
    api.send("PUT", "/nodes/lab1", sizes)
    rows.pod(cores=2, memory_mb=2048, disk_gb=8)
    pod = rows.pod(tenant_id="TENANT-456", cores=1, memory_mb=1024, disk_gb=2)
    rows.job("BACKUP", pod=pod, status="running", lease_until="now")
    node = api.send("GET", "/nodes/lab1").json
    assert (node["usedCpuCores"], node["usedMemoryMb"], node["usedDiskGb"]) == (3, 3072, 10)
    assert (node["freeCpuCores"], node["freeMemoryMb"], node["freeDiskGb"]) == (13, 3072, None)
    assert (node["pods"], node["runningJobs"], node["addressPool"]) == (2, 1, "lab1-pool")
    assert api.send("GET", "/nodes/lab2").json["pods"] == 0


@pytest.mark.parametrize(
    ("change", "field", "rule"),
    [
        ({"region": None}, "region", "valid string"),
        ({"region": "a b"}, "region", "1 to 64"),
        ({"status": "gone"}, "status", "offline"),
        ({"status": None}, "status", "offline"),
        ({"apiUrl": "ftp://x"}, "apiUrl", "pattern"),
        ({"apiUrl": "https://a b"}, "apiUrl", "pattern"),
        ({"nodeName": "\x00"}, "nodeName", "1 to 64"),
        ({"totalCpuCores": -1}, "totalCpuCores", "0"),
        ({"totalMemoryMb": 2**31}, "totalMemoryMb", "2147483647"),
        ({"totalDiskGb": None}, "totalDiskGb", "integer"),
        ({"totalDiskGb": 1.5}, "totalDiskGb", "integer"),
        ({"cpuOvercommit": 0}, "cpuOvercommit", "0.1"),
        ({"cpuOvercommit": 100.5}, "cpuOvercommit", "100"),
        ({"memoryOvercommit": "2"}, "memoryOvercommit", "number"),
        ({"diskOvercommit": float("nan")}, "diskOvercommit", ""),
        ({"diskOvercommit": float("inf")}, "diskOvercommit", ""),
        ({"storages": "local"}, "storages", "list"),
        ({"storages": ["a/b"]}, "storages.0", "1 to 64"),
        ({"storages": ["s"] * 101}, "storages", "100"),
        ({"maxRunningJobs": 0}, "maxRunningJobs", "1"),
        ({"addressPool": "nowhere"}, "addressPool", "no address pool"),
        ({"used": 1}, "used", "unknown field"),
    ],
)
def test_a_bad_node_is_refused_and_nothing_is_written(api, sql, assert_problem, change, field, rule):
    before = sql("SELECT * FROM cloud_pod_nodes ORDER BY id")
    code = "unknown_pool" if change == {"addressPool": "nowhere"} else "invalid_request"
    status = 400 if "Overcommit" in field and rule == "" else 422
    for method, path, body in (("POST", "/nodes", {"name": "lab3", **change}), ("PUT", "/nodes/lab1", change)):
        answer = api.send(method, path, body)
        if status == 400:
            assert answer.status_code in (400, 422)
        else:
            assert_problem(answer, status, code, field=field, rule=rule)
    assert (sql("SELECT * FROM cloud_pod_nodes ORDER BY id"), told(sql)) == (before, [])


@pytest.mark.parametrize("name", [None, "", "a b", "\x00", "a/b", "x" * 65, 5])
def test_a_node_needs_a_name_that_can_be_one(api, assert_problem, name):
    assert_problem(api.send("POST", "/nodes", {} if name is None else {"name": name}), 422, field="name")


def test_a_second_of_the_name_is_refused_and_a_name_stays(api, sql, assert_problem):
    assert_problem(api.send("POST", "/nodes", {"name": "lab1"}), 409, "name_taken", field="name")
    assert_problem(api.send("PUT", "/nodes/lab1", {"name": "lab9"}), 422, field="name", rule="unknown field")
    assert told(sql) == []


def test_a_change_names_what_it_changes_and_leaves_the_rest(api, sql):
    read = api.send("GET", "/nodes/lab1")
    answer = api.send("PUT", "/nodes/lab1", {"cpuOvercommit": 2.0004, "storages": ["local"], "nodeName": "pve1"})
    assert answer.status_code == 200, answer.text
    different = {name for name, value in answer.json.items() if value != read.json[name]}
    assert different == {"cpuOvercommit", "storages", "nodeName", "updatedAt"}
    assert (answer.json["cpuOvercommit"], answer.headers["etag"] != read.headers["etag"]) == (2, True)
    assert last(sql) == (
        {"cpuOvercommit": 4, "storages": None, "nodeName": "lab1"},
        {"cpuOvercommit": 2, "storages": ["local"], "nodeName": "pve1"},
    )


def test_a_change_that_changes_nothing_writes_nothing(api, sql):
    read = api.send("GET", "/nodes/lab1")
    same = {"cpuOvercommit": 4, "diskOvercommit": 1.0, "status": "active", "addressPool": "lab1-pool", "storages": None}
    answer = api.send("PUT", "/nodes/lab1", same)
    assert (answer.json, answer.headers["etag"], told(sql)) == (read.json, read.headers["etag"], [])


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_of_two_who_change_what_they_read_the_second_is_told(api, assert_problem, method):
    read = api.send("GET", "/nodes/lab1").headers["etag"]
    assert api.send("PUT", "/nodes/lab1", {"maxRunningJobs": 5}, **{"If-Match": read}).status_code == 200
    answer = api.send(method, "/nodes/lab1", {"maxRunningJobs": 6} if method == "PUT" else None, **{"If-Match": read})
    assert_problem(answer, 412, "precondition_failed")
    assert api.send("GET", "/nodes/lab1").json["maxRunningJobs"] == 5


@pytest.mark.parametrize(
    ("verb", "status", "action"),
    [("cordon", "cordoned", "NODE_CORDONED"), ("drain", "draining", "NODE_DRAINING")],
)
def test_a_node_out_of_use_gets_no_new_pods_and_says_how_many_remain(api, sql, rows, assert_problem, verb, status, action):
    rows.pod()
    for _ in range(2):
        answer = api.send("POST", f"/nodes/lab1/{verb}")
        assert (answer.status_code, answer.json["status"], answer.json["pods"]) == (200, status, 1), answer.text
    assert (told(sql), last(sql)) == ([action], ({"status": "active"}, {"status": status}))
    assert_problem(api.simulate_post("/internal/cloudpods", json={**POD, "node": "lab1"}), 409, "no_capacity")
    assert api.send("POST", "/nodes/lab1/uncordon").json["status"] == "active"
    assert told(sql)[1:] == ["NODE_UNCORDONED"]
    assert api.simulate_post("/internal/cloudpods", json={**POD, "node": "lab1"}).status_code == 202


def test_an_offline_node_is_brought_back_by_nothing_but_a_put(api, sql, assert_problem):
    assert api.send("PUT", "/nodes/lab1", {"status": "offline"}).json["status"] == "offline"
    for verb in ("cordon", "uncordon", "drain"):
        assert_problem(api.send("POST", f"/nodes/lab1/{verb}"), 409, "node_offline")
    assert api.send("PUT", "/nodes/lab1", {"status": "active"}).json["status"] == "active"
    assert told(sql) == ["NODE_CHANGED", "NODE_CHANGED"]


def test_a_node_with_pods_stays_in_its_region(api, rows, assert_problem):
    rows.pod("lab1", tenant_id="TENANT-456")
    assert_problem(api.send("PUT", "/nodes/lab1", {"region": "eu-1"}), 409, "node_has_pods")
    assert api.send("PUT", "/nodes/lab2", {"region": "eu-1"}).json["region"] == "eu-1"
    assert [item["name"] for item in api.send("GET", "/regions").json["items"]] == ["eu-1", "migra-us-east-1"]


def test_an_empty_node_is_removed_and_what_was_there_keeps_its_name(api, sql, rows, assert_problem):
    gone = rows.pod(allocation=False, status="deleted")
    job = rows.job("DESTROY", pod=gone, status="success")
    look = rows.job("NODE_SYNC", tenant_id=None)
    running = rows.job("RECONCILE", tenant_id=None, status="running", attempt=1, lease_until="now")
    answer = api.send("DELETE", "/nodes/lab1")
    assert (answer.status_code, answer.text) == (204, "")
    for method, path in (("GET", ""), ("PUT", ""), ("DELETE", ""), ("POST", "/drain"), ("POST", "/sync"), ("GET", "/foreign")):
        assert_problem(api.send(method, f"/nodes/lab1{path}", {} if method == "PUT" else None), 404, "node_not_found")
    assert [item["name"] for item in api.send("GET", "/nodes").json["items"]] == ["lab2"]
    assert api.send("GET", f"/cloudpods/{gone}").json["node"] == "lab1"
    assert [item["id"] for item in api.send("GET", "/jobs?node=lab1&type=DESTROY").json["items"]] == [job]
    assert [api.send("GET", f"/jobs/{id}").json["status"] for id in (look, running)] == ["cancelled", "cancelled"]
    assert told(sql) == ["NODE_DELETED"]
    assert api.send("GET", "/address-pools/lab1-pool").json["nodes"] == []


def test_a_removed_node_that_is_added_again_begins_anew_under_its_id(api, sql, pool):
    before = api.send("PUT", "/nodes/lab1", {"totalCpuCores": 9, "storages": ["a"], "maxRunningJobs": 9}).json
    api.send("DELETE", "/nodes/lab1")
    answer = api.send("POST", "/nodes", {"name": "lab1", "totalMemoryMb": 1024, "addressPool": "lab3-pool"})
    assert (answer.status_code, answer.json["id"]) == (201, before["id"]), answer.text
    node = answer.json
    assert (node["totalCpuCores"], node["totalMemoryMb"], node["storages"], node["maxRunningJobs"]) == (0, 1024, None, 4)
    assert (node["status"], node["addressPool"]) == ("active", "lab3-pool")
    assert told(sql) == ["NODE_CHANGED", "NODE_DELETED", "NODE_CREATED"]


@pytest.mark.parametrize("status", ["active", "provisioning", "deleting", "failed"])
def test_a_node_with_something_of_a_pod_stays(api, sql, rows, assert_problem, status):
    rows.pod(vmid=9101, status=status)
    answer = api.send("DELETE", "/nodes/lab1")
    assert_problem(answer, 409, "node_has_pods")
    assert (answer.json["vmids"], told(sql)) == ([9101], [])


def test_a_node_with_unfinished_jobs_stays_and_its_looks_with_it(api, sql, rows, assert_problem):
    job, look = rows.job("RESTORE_DRILL"), rows.job("NODE_SYNC", tenant_id=None)
    answer = api.send("DELETE", "/nodes/lab1")
    assert_problem(answer, 409, "node_has_jobs")
    assert (answer.json["jobIds"], sql.row("cloud_pod_jobs", look)["status"], told(sql)) == ([job], "queued", [])


def at_once(*calls):
    """Make calls in threads that begin together; return what each returned, in their order."""
    gate, found = threading.Barrier(len(calls)), [None] * len(calls)

    def run(place, call):
        gate.wait()
        found[place] = call()

    threads = [threading.Thread(target=run, args=(place, call)) for place, call in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return found


@pytest.mark.parametrize("_round", range(5))
def test_a_node_is_not_removed_under_a_pod_that_comes_at_the_same_time(api, sql, _round):
    creates = [lambda: api.simulate_post("/internal/cloudpods", json={**POD, "node": "lab2"}) for _ in range(3)]
    looks = [lambda: api.send("POST", "/nodes/lab2/sync"), lambda: api.send("POST", "/nodes/lab2/reconcile")]
    removed, *answers = at_once(lambda: api.send("DELETE", "/nodes/lab2"), *creates, *looks)
    ordered, looked = answers[:3], answers[3:]
    taken = sum(answer.status_code == 202 for answer in ordered)
    if removed.status_code == 204:
        assert taken == 0
        assert {answer.json["code"] for answer in ordered} == {"unknown_node"}
        assert {answer.status_code for answer in looked} <= {202, 404}
        assert sql.value("SELECT count(*) FROM cloud_pod_jobs WHERE status IN ('queued', 'running')") == 0
    else:
        assert (removed.status_code, removed.json["code"]) == (409, "node_has_pods")
        assert taken > 0
    assert sql.value("SELECT count(*) FROM cloud_pod_allocations") == taken


def test_of_several_who_add_a_node_one_does(api, sql):
    answers = at_once(*[lambda: api.send("POST", "/nodes", {"name": "lab3"})] * 4)
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]
    assert told(sql) == ["NODE_CREATED"]


@pytest.mark.parametrize("name", ["nobody", "%00", "a%00b", "%F0%9F%98%80", "9" * 300])
@pytest.mark.parametrize(
    ("method", "verb"), [("GET", ""), ("PUT", ""), ("DELETE", ""), ("POST", "/cordon"), ("POST", "/drain")]
)
def test_no_node_is_not_found(api, assert_problem, method, verb, name):
    assert_problem(api.send(method, f"/nodes/{name}{verb}", {} if method == "PUT" else None), 404, "node_not_found")


def test_nodes_are_listed_newest_first_and_found_by_region_and_status(api, pool):
    api.send("POST", "/nodes", WHOLE)

    def names(query):
        answer = api.simulate_get("/internal/nodes", query_string=query)
        assert answer.status_code == 200, answer.text
        return [node["name"] for node in answer.json["items"]], answer.json["next"]

    assert names("") == (["lab3", "lab2", "lab1"], None)
    assert names("region=eu-1") == (["lab3"], None)
    assert names("status=active") == (["lab2", "lab1"], None)
    first, cursor = names("limit=2")
    second, end = names(f"limit=2&cursor={cursor}")
    assert (first, second, end) == (["lab3", "lab2"], ["lab1"], None)


@pytest.mark.parametrize("query", ["name=x", "status=gone", "limit=0", "cursor=x", "region=a&region=b", "region=%00"])
def test_a_bad_query_is_refused(api, assert_problem, query):
    assert_problem(api.simulate_get("/internal/nodes", query_string=query), 422)


def test_the_settings_region_is_a_new_nodes(tenants: Settings, api_on):
    api = api_on(tenants.model_copy(update={"region": "eu-7"}))
    assert api.send("POST", "/nodes", {"name": "lab3"}).json["region"] == "eu-7"
