"""Regions over HTTP: which vmids their pods have, and what cannot be changed any more."""

import pytest

REGION = "migra-us-east-1"
POD = {"tenantId": "TENANT-123", "hostname": "web", "cores": 1, "memoryMb": 512}


@pytest.fixture
def region(api):
    """Return the region as it is read first."""
    return api.send("GET", f"/regions/{REGION}")


def change(api, **body):
    return api.send("PUT", f"/regions/{REGION}", body)


def told(sql):
    return [action for (action,) in sql("SELECT data ->> 'action' FROM cloud_pod_events WHERE data ? 'region' ORDER BY seq")]


@pytest.mark.parametrize("prefix", ["/internal", "/api"])
def test_a_region_begins_with_the_settings_vmids(api, prefix, tenants):
    answer = api.simulate_get(f"{prefix}/regions/{REGION}")
    assert answer.status_code == 200, answer.text
    numbers = [answer.json[name] for name in ("vmidFirst", "vmidAutoFirst", "vmidLast", "nextVmid")]
    assert numbers == [tenants.vmid_first, tenants.vmid_auto_first, tenants.vmid_last, tenants.vmid_auto_first]


def test_what_is_changed_holds_for_the_next_pods(api, sql, region, assert_problem):
    answer = change(api, vmidFirst=5000, vmidAutoFirst=6000, vmidLast=6001)
    assert answer.status_code == 200, answer.text
    assert (answer.json["nextVmid"], answer.headers["etag"] != region.headers["etag"]) == (6000, True)
    ((before, after),) = sql("SELECT data -> 'before', data -> 'after' FROM cloud_pod_events")
    assert (before["vmidFirst"], after["vmidFirst"]) == (region.json["vmidFirst"], 5000)
    assert told(sql) == ["REGION_CHANGED"]
    orders = [api.simulate_post("/internal/cloudpods", json=POD) for _ in range(3)]
    assert [order.json["cloudPod"]["vmid"] for order in orders[:2]] == [6000, 6001]
    assert_problem(orders[2], 409, "no_vmid_left")
    assert_problem(api.simulate_post("/internal/cloudpods", json={**POD, "vmid": 4999}), 422, field="vmid")
    assert api.simulate_post("/internal/cloudpods", json={**POD, "vmid": 5000}).status_code == 202


def test_a_change_that_changes_nothing_writes_nothing(api, sql, region):
    same = {name: region.json[name] for name in ("vmidFirst", "vmidAutoFirst", "vmidLast", "nextVmid")}
    answer = change(api, **same)
    assert (answer.json, answer.headers["etag"], told(sql)) == (region.json, region.headers["etag"], [])


@pytest.mark.parametrize(
    ("body", "field", "rule"),
    [
        ({"vmidFirst": 99}, "vmidFirst", "100"),
        ({"vmidFirst": None}, "vmidFirst", "integer"),
        ({"vmidLast": 900_000_000}, "vmidLast", "900000000"),
        ({"vmidLast": "9"}, "vmidLast", "integer"),
        ({"nextVmid": 1.5}, "nextVmid", "integer"),
        ({"vmidFirst": 20000}, "vmidAutoFirst", "from vmidFirst to vmidLast"),
        ({"vmidLast": 200}, "vmidAutoFirst", "from vmidFirst to vmidLast"),
        ({"name": "eu"}, "name", "unknown field"),
    ],
)
def test_a_bad_range_is_refused_and_nothing_is_written(api, sql, region, assert_problem, body, field, rule):
    assert_problem(change(api, **body), 422, "invalid_request", field=field, rule=rule)
    assert (api.send("GET", f"/regions/{REGION}").json, told(sql)) == (region.json, [])


@pytest.mark.parametrize("status", ["active", "provisioning", "failed"])
@pytest.mark.parametrize("body", [{"vmidFirst": 9102}, {"vmidFirst": 200, "vmidAutoFirst": 200, "vmidLast": 9100}])
def test_no_pods_vmid_comes_to_be_outside(api, sql, rows, assert_problem, status, body):
    rows.pod(vmid=9101, status=status, tenant_id="TENANT-456")
    answer = change(api, **body)
    assert_problem(answer, 409, "vmids_in_use")
    assert (answer.json["vmids"], told(sql)) == ([9101], [])
    sql("UPDATE cloud_pods SET region = 'eu-1'")
    assert change(api, **body).status_code == 200


def test_a_vmid_that_was_always_outside_or_is_no_more_in_use_does_not_matter(api, rows, region):
    """Adopted pods keep theirs."""
    rows.pod(vmid=150)
    rows.pod(vmid=9101, status="deleted", allocation=False)
    assert region.json["vmidFirst"] > 150
    assert change(api, vmidFirst=9102).status_code == 200


def test_the_counter_only_grows(api, sql, region, assert_problem):
    assert change(api, nextVmid=12000).json["nextVmid"] == 12000
    refused = change(api, nextVmid=11999)
    assert_problem(refused, 409, "vmid_given")
    assert (refused.json["nextVmid"], told(sql)) == (12000, ["REGION_CHANGED"])
    # Nor by the other number.
    assert change(api, vmidAutoFirst=10001).json["nextVmid"] == 12000
    assert api.simulate_post("/internal/cloudpods", json=POD).json["cloudPod"]["vmid"] == 12000


def test_of_two_who_change_what_they_read_the_second_is_told(api, region, assert_problem):
    url, read = f"/regions/{REGION}", {"If-Match": region.headers["etag"]}
    assert api.send("PUT", url, {"nextVmid": 12000}, **read).status_code == 200
    assert_problem(api.send("PUT", url, {"nextVmid": 13000}, **read), 412, "precondition_failed")


def test_what_orders_take_is_no_change_of_the_region(api, region):
    api.simulate_post("/internal/cloudpods", json=POD)
    read = api.send("GET", f"/regions/{REGION}")
    assert (read.json["nextVmid"], read.headers["etag"]) == (region.json["nextVmid"] + 1, region.headers["etag"])


@pytest.mark.parametrize("name", ["nowhere", "%00", "a%00b", "9" * 300])
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_a_region_without_a_node_is_not_found(api, assert_problem, method, name):
    assert_problem(api.send(method, f"/regions/{name}", {} if method == "PUT" else None), 404, "region_not_found")


def test_regions_are_listed_by_name(api):
    for node, region in (("n1", "eu-1"), ("n2", "ap-1")):
        api.send("POST", "/nodes", {"name": node, "region": region})

    def names(query):
        answer = api.simulate_get("/internal/regions", query_string=query)
        return [found["name"] for found in answer.json["items"]], answer.json["next"]

    assert names("") == (["ap-1", "eu-1", REGION], None)
    first, cursor = names("limit=2")
    second, end = names(f"limit=2&cursor={cursor}")
    assert (first, second, end) == (["ap-1", "eu-1"], [REGION], None)


def test_a_row_without_vmids_is_given_the_settings(api, sql, tenants):
    sql("INSERT INTO regions (name) VALUES (%s), ('other')", REGION)
    order = api.simulate_post("/internal/cloudpods", json=POD)
    assert (order.status_code, order.json["cloudPod"]["vmid"]) == (202, tenants.vmid_auto_first), order.text
    assert api.send("GET", "/regions/other").json["vmidLast"] == tenants.vmid_last
    assert {item["vmidFirst"] for item in api.send("GET", "/regions").json["items"]} == {tenants.vmid_first}
