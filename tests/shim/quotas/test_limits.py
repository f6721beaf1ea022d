"""A tenant's limits: its plan's, its own, and its plan's again; also below what it uses, which only stops it from growing."""

from concurrent.futures import ThreadPoolExecutor

import pytest

LIMITS = {"maxCloudPods": 500, "maxCpuCores": 2000, "maxRamMb": 4_000_000, "maxDiskGb": 40_000}
ORDER = {"tenantId": "TENANT-123", "hostname": "shop", "cores": 2, "memoryMb": 512, "diskGb": 8}


def quota(api, tenant="TENANT-123"):
    return api.send("GET", f"/tenants/{tenant}/quota")


def put(api, body, tenant="TENANT-123", **headers):
    return api.send("PUT", f"/tenants/{tenant}/quota", body, **headers)


def told(sql, tenant="TENANT-123"):
    select = "SELECT data FROM cloud_pod_events WHERE tenant_id = %s AND data ->> 'action' = 'QUOTA_LIMITS_CHANGED'"
    return [row[0] for row in sql(f"{select} ORDER BY seq", tenant)]


@pytest.fixture
def small(api):
    """Make a plan that is smaller than the tenants' own."""
    limits = {"maxCloudPods": 1, "maxCpuCores": 1, "maxRamMb": 512, "maxDiskGb": 8}
    assert api.send("POST", "/plans", {"id": "small", "name": "Small", **limits}).status_code == 201
    return limits


def test_a_quota_tells_its_limits_and_what_is_used_and_reserved(api, rows):
    answer = quota(api).json
    assert {name: answer[name] for name in LIMITS} == LIMITS
    api.send("POST", "/cloudpods", ORDER)
    answer = quota(api).json
    amounts = ("CloudPods", "CpuCores", "RamMb", "DiskGb")
    assert [answer[f"used{name}"] for name in amounts] == [0, 0, 0, 0]
    assert [answer[f"reserved{name}"] for name in amounts] == [1, 2, 512, 8]
    assert quota(api, "TENANT-456").json["reservedCloudPods"] == 0


def test_limits_of_a_tenants_own_stay_its_own_until_it_follows_its_plan_again(api, sql):
    answer = put(api, {"maxCloudPods": 7})
    assert (answer.status_code, answer.json["maxCloudPods"], answer.json["followsPlan"]) == (200, 7, False)
    assert answer.json["maxCpuCores"] == 2000
    api.send("PUT", "/plans/cloud-basic", {"maxCpuCores": 3})
    assert (quota(api).json["maxCpuCores"], quota(api, "TENANT-456").json["maxCpuCores"]) == (2000, 3)
    again = put(api, {"followsPlan": True}).json
    assert (again["maxCloudPods"], again["maxCpuCores"], again["followsPlan"]) == (500, 3, True)
    first, second = told(sql)
    assert (first["before"]["maxCloudPods"], first["after"]["maxCloudPods"], first["followsPlan"]) == (500, 7, False)
    assert (second["before"]["maxCloudPods"], second["after"]["maxCpuCores"], second["followsPlan"]) == (7, 3, True)


@pytest.mark.parametrize("body", [{}, {"followsPlan": True}])
def test_a_change_that_changes_nothing_writes_nothing(api, sql, body):
    before = quota(api)
    answer = put(api, body)
    assert (answer.status_code, answer.json, answer.headers["etag"], told(sql)) == (
        200,
        before.json,
        before.headers["etag"],
        [],
    )


@pytest.mark.parametrize(
    ("body", "field", "rule"),
    [
        ({"maxCloudPods": -1}, "maxCloudPods", "greater"),
        ({"maxRamMb": 2**31}, "maxRamMb", "less"),
        ({"maxDiskGb": None}, "maxDiskGb", "integer"),
        ({"maxCpuCores": "8"}, "maxCpuCores", "integer"),
        ({"usedCloudPods": 0}, "usedCloudPods", "unknown field"),
        ({"max_cloud_pods": 5}, "max_cloud_pods", "unknown field"),
        ({"followsPlan": False}, "followsPlan", "True"),
        ({"followsPlan": None}, "followsPlan", "True"),
        ({"followsPlan": True, "maxCloudPods": 5}, "followsPlan", "only without limits"),
    ],
)
def test_bad_limits_are_refused(api, sql, assert_problem, body, field, rule):
    before = sql("SELECT * FROM tenant_quotas ORDER BY id")
    assert_problem(put(api, body), 422, "invalid_request", field=field, rule=rule)
    assert sql("SELECT * FROM tenant_quotas ORDER BY id") == before


def test_limits_below_what_is_used_are_taken_and_stop_growth_only(api, sql, rows, assert_problem):
    rows.pod(vmid=9101)
    sql("UPDATE tenant_quotas SET used_cloud_pods = 1, used_cpu_cores = 2 WHERE tenant_id = 'TENANT-123'")
    answer = put(api, {"maxCloudPods": 0, "maxCpuCores": 0})
    assert (answer.json["maxCloudPods"], answer.json["usedCloudPods"]) == (0, 1)
    assert_problem(api.send("POST", "/cloudpods", ORDER), 409, "quota_exceeded")
    assert api.send("POST", "/cloudpods", {**ORDER, "tenantId": "TENANT-456"}).status_code == 202
    assert api.send("POST", "/cloudpods/9101/destroy", {"tenantId": "TENANT-123"}).status_code == 202


def test_another_plan_brings_its_limits_also_below_what_is_used_and_over_a_tenants_own(api, sql, small):
    sql("UPDATE tenant_quotas SET used_cloud_pods = 3 WHERE tenant_id = 'TENANT-123'")
    put(api, {"maxCloudPods": 7})
    assert api.send("PUT", "/tenants/TENANT-123", {"planId": "small"}).json["planId"] == "small"
    answer = quota(api).json
    assert {name: answer[name] for name in small} == small
    assert (answer["followsPlan"], answer["usedCloudPods"]) == (True, 3)
    assert quota(api, "TENANT-456").json["maxCloudPods"] == 500
    assert told(sql)[-1]["after"] == small


def test_of_two_who_change_what_they_read_the_second_is_told(api, assert_problem):
    read = quota(api).headers["etag"]
    assert put(api, {"maxCloudPods": 7}, **{"If-Match": read}).status_code == 200
    assert_problem(put(api, {"maxCloudPods": 8}, **{"If-Match": read}), 412, "precondition_failed")
    assert quota(api).json["maxCloudPods"] == 7


def test_an_order_under_way_does_not_spoil_what_was_read_of_the_limits(api):
    read = quota(api).headers["etag"]
    api.send("POST", "/cloudpods", ORDER)
    assert put(api, {"maxCloudPods": 7}, **{"If-Match": read}).status_code == 200


def test_a_tenant_without_a_quota_gets_one_by_being_given_limits(api, sql, assert_problem):
    sql("DELETE FROM tenant_quotas WHERE tenant_id = 'TENANT-123'")
    assert_problem(quota(api), 404, "quota_not_found")
    assert put(api, {"maxCloudPods": 7}).json["maxCloudPods"] == 7
    assert quota(api).json["maxDiskGb"] == 40_000


def test_a_plan_and_a_tenant_that_leaves_it_changed_at_once_end_in_one_state(api, sql, small):
    """Whichever comes first: the tenant has its new plan's limits, never those of the plan that it left."""
    for number in range(8):
        with ThreadPoolExecutor(2) as pool:
            plan = pool.submit(api.send, "PUT", "/plans/cloud-basic", {"maxCpuCores": 100 + number})
            tenant = pool.submit(api.send, "PUT", "/tenants/TENANT-123", {"planId": "small"})
            assert (plan.result(timeout=20).status_code, tenant.result(timeout=20).status_code) == (200, 200)
        answer = quota(api).json
        assert {name: answer[name] for name in small} == small
        api.send("PUT", "/tenants/TENANT-123", {"planId": "cloud-basic"})
        assert quota(api).json["maxCpuCores"] == 100 + number


def test_a_plan_change_waits_for_a_tenant_that_is_leaving_the_plan(api, servers, sql, small, eventually):
    """A plan's change that begins before a tenant has left it must not give that one's quota the old plan's limits."""
    import psycopg2

    with ThreadPoolExecutor(2) as pool:
        worker = psycopg2.connect(servers.database_url)
        worker.cursor().execute("SELECT 1 FROM tenant_quotas WHERE tenant_id = 'TENANT-123' FOR UPDATE")
        tenant = pool.submit(api.send, "PUT", "/tenants/TENANT-123", {"planId": "small"})
        eventually(lambda: tenant.done() or sql("SELECT 1 FROM pg_locks WHERE NOT granted"))
        plan = pool.submit(api.send, "PUT", "/plans/cloud-basic", {"maxCpuCores": 77})
        eventually(lambda: len(sql("SELECT 1 FROM pg_locks WHERE NOT granted")) >= 2)
        # What a worker writes while it holds the quota: it must not wait for the tenant's row, which waits for the quota.
        worker.cursor().execute("SET lock_timeout = '5s'")
        worker.cursor().execute("INSERT INTO cloud_pod_events (tenant_id, type, message) VALUES ('TENANT-123', 'INFO', 'x')")
        worker.commit()
        worker.close()
        assert (tenant.result(timeout=20).status_code, plan.result(timeout=20).status_code) == (200, 200)
    assert (quota(api).json["maxCpuCores"], quota(api, "TENANT-456").json["maxCpuCores"]) == (1, 77)
