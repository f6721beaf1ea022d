"""Plans over HTTP, the tenants that follow them, and which plan a pod may be sold by."""

import pytest

LIMITS = {"maxCloudPods": 5, "maxCpuCores": 10, "maxRamMb": 8192, "maxDiskGb": 100}
GOOD = {"name": "Small", **LIMITS}
ORDER = {"tenantId": "TENANT-123", "hostname": "shop", "cores": 1, "memoryMb": 512}


@pytest.fixture
def small(api):
    """Make a plan; return the answer."""
    return api.send("POST", "/plans", {"id": "small", **GOOD})


def limits(api, tenant):
    quota = api.send("GET", f"/tenants/{tenant}/quota").json
    return {name: quota[name] for name in LIMITS}, quota["followsPlan"]


def events(sql, action):
    found = sql("SELECT tenant_id, data FROM cloud_pod_events WHERE data ->> 'action' = %s ORDER BY tenant_id", action)
    return {row[0]: row[1] for row in found}


@pytest.mark.parametrize("prefix", ["/internal", "/api"])
def test_a_new_plan_has_its_place_and_what_was_left_out(api, sql, prefix):
    answer = api.simulate_post(f"{prefix}/plans", json=GOOD)
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == f"{prefix}/plans/small"
    read = api.simulate_get(answer.headers["location"])
    assert (read.json, read.headers["etag"]) == (answer.json, answer.headers["etag"])
    left_out = {"id": "small", "slug": "small", "description": None, "backupPolicy": "basic"}
    assert {name: read.json[name] for name in (*GOOD, *left_out)} == {**GOOD, **left_out}
    assert events(sql, "PLAN_CREATED")[None]["plan"]["maxRamMb"] == 8192


@pytest.mark.parametrize(
    ("change", "field", "rule"),
    [
        *[({name: -1}, name, "greater") for name in LIMITS],
        *[({name: 2**31}, name, "less") for name in LIMITS],
        ({"maxCloudPods": 1.5}, "maxCloudPods", "integer"),
        ({"maxCloudPods": "5"}, "maxCloudPods", "integer"),
        ({"maxCloudPods": True}, "maxCloudPods", "integer"),
        ({"maxCloudPods": None}, "maxCloudPods", "integer"),
        ({"maxCloudPods": 10**400}, "maxCloudPods", ""),
        ({"backupPolicy": "gold"}, "backupPolicy", "basic"),
        ({"slug": "a b"}, "slug", "pattern"),
        ({"name": ""}, "name", "pattern"),
        ({"description": "a" * 2001}, "description", "2000"),
        ({"description": "\x00"}, "description", ""),
        ({"price": 5}, "price", "unknown field"),
    ],
)
def test_a_bad_plan_is_refused_and_nothing_is_written(api, sql, assert_problem, change, field, rule):
    before = sql("SELECT * FROM plans")
    assert_problem(api.send("POST", "/plans", {**GOOD, **change}), 422, "invalid_request", field=field, rule=rule)
    assert_problem(api.send("PUT", "/plans/cloud-basic", change), 422, "invalid_request", field=field, rule=rule)
    assert sql("SELECT * FROM plans") == before


@pytest.mark.parametrize("field", LIMITS)
def test_every_limit_is_asked_for(api, assert_problem, field):
    body = {name: value for name, value in GOOD.items() if name != field}
    assert_problem(api.send("POST", "/plans", body), 422, "invalid_request", field=field, rule="required")


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [({"id": "cloud-basic", "slug": "x"}, "id_taken", "id"), ({"id": "x", "slug": "cloud-basic"}, "slug_taken", "slug")],
)
def test_what_another_plan_has_cannot_be_taken(api, small, assert_problem, change, code, field):
    assert_problem(api.send("POST", "/plans", {**GOOD, **change}), 409, code, field=field)
    if field == "slug":
        assert_problem(api.send("PUT", "/plans/small", {"slug": "cloud-basic"}), 409, code, field=field)


def test_a_changed_plan_changes_the_limits_of_those_who_follow_it_and_no_others(api, sql, small):
    api.send("PUT", "/tenants/TENANT-456/quota", {"maxCloudPods": 7})
    own = limits(api, "TENANT-456")
    answer = api.send("PUT", "/plans/cloud-basic", {"maxCloudPods": 3, "description": "less"})
    assert (answer.status_code, answer.json["maxCloudPods"], answer.json["maxRamMb"]) == (200, 3, 4_000_000)
    assert (limits(api, "TENANT-123")[0]["maxCloudPods"], limits(api, "TENANT-456")) == (3, own)
    told = events(sql, "QUOTA_LIMITS_CHANGED")["TENANT-123"]
    assert (told["before"]["maxCloudPods"], told["after"]["maxCloudPods"]) == (500, 3)
    assert events(sql, "PLAN_CHANGED")[None]["after"]["maxCloudPods"] == 3


def test_a_changed_name_changes_nobodys_limits(api, sql):
    before = api.send("GET", "/tenants/TENANT-123/quota")
    assert api.send("PUT", "/plans/cloud-basic", {"name": "Basic", "slug": "basic"}).json["slug"] == "basic"
    after = api.send("GET", "/tenants/TENANT-123/quota")
    assert (after.json, after.headers["etag"]) == (before.json, before.headers["etag"])
    assert events(sql, "QUOTA_LIMITS_CHANGED") == {}


def test_pods_keep_the_plan_they_were_sold_by(api):
    pod = api.send("POST", "/cloudpods", ORDER).json["cloudPod"]
    api.send("PUT", "/plans/cloud-basic", {"maxCloudPods": 3})
    assert api.send("GET", f"/cloudpods/{pod['id']}").json["planSnapshot"]["maxCloudPods"] == 500


def test_of_two_who_change_what_they_read_the_second_is_told(api, small, assert_problem):
    read = small.headers["etag"]
    assert api.send("PUT", "/plans/small", {"name": "S"}, **{"If-Match": f'"x", {read}'}).status_code == 200
    assert_problem(api.send("PUT", "/plans/small", {"name": "T"}, **{"If-Match": read}), 412, "precondition_failed")
    assert_problem(api.send("DELETE", "/plans/small", **{"If-Match": read}), 412, "precondition_failed")


def test_a_plan_is_deleted_when_nobody_has_it(api, small, sql, assert_problem):
    assert api.send("DELETE", "/plans/small").status_code == 204
    assert_problem(api.send("GET", "/plans/small"), 404, "plan_not_found")
    assert_problem(api.send("DELETE", "/plans/cloud-basic"), 409, "plan_in_use")
    assert list(events(sql, "PLAN_DELETED")) == [None]


def test_plans_are_listed_newest_first_and_found_by_slug(api, small):
    def ids(query):
        return [plan["id"] for plan in api.simulate_get("/internal/plans", query_string=query).json["items"]]

    assert (ids(""), ids("slug=cloud-basic"), ids("limit=1")) == (["small", "cloud-basic"], ["cloud-basic"], ["small"])


def test_a_pod_may_be_sold_by_a_smaller_plan_and_keeps_that_one(api, small):
    pod = api.send("POST", "/cloudpods", {**ORDER, "planId": "small"}).json["cloudPod"]
    assert (pod["planSnapshot"]["id"], pod["planSnapshot"]["maxCpuCores"]) == ("small", 10)


def test_a_pod_may_be_sold_by_a_plan_of_the_same_size(api, sql):
    columns = "name, slug, max_cloud_pods, max_cpu_cores, max_ram_mb, max_disk_gb"
    sql(f"INSERT INTO plans (id, {columns}) SELECT 'same', 'Same', 'same', 500, 2000, 4000000, 40000")
    assert api.send("POST", "/cloudpods", {**ORDER, "planId": "same"}).json["cloudPod"]["planSnapshot"]["id"] == "same"


@pytest.mark.parametrize("larger", LIMITS)
def test_a_plan_that_is_larger_in_anything_is_refused(api, sql, assert_problem, larger):
    api.send("POST", "/plans", {"id": "other", **GOOD, larger: 2**31 - 1})
    answer = api.send("POST", "/cloudpods", {**ORDER, "planId": "other"})
    assert_problem(answer, 422, "plan_not_allowed", field="planId", rule=larger)
    assert sql.counts()["cloud_pods"] == 0


@pytest.mark.parametrize("plan_id", ["nothing", "%00", "a%00b"])
def test_no_such_plan_is_not_found(api, assert_problem, plan_id):
    for method, body in (("GET", None), ("PUT", {}), ("DELETE", None)):
        assert_problem(api.send(method, f"/plans/{plan_id}", body), 404, "plan_not_found")
