"""A tenant's end: only when nothing of it is left, safe against orders that come at the same time, and its past stays known."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

ORDER = {"tenantId": "TENANT-123", "hostname": "shop", "cores": 1, "memoryMb": 512}


def delete(api, tenant="TENANT-123"):
    return api.simulate_delete(f"/internal/tenants/{tenant}")


@pytest.mark.parametrize("status", ["provisioning", "active", "deleting"])
def test_a_tenant_with_pods_stays(api, rows, assert_problem, status):
    rows.pod(vmid=9101, status=status)
    answer = delete(api)
    assert_problem(answer, 409, "tenant_has_pods")
    assert answer.json["vmids"] == [9101]
    assert api.simulate_get("/internal/tenants/TENANT-123").json["deletedAt"] is None


def test_a_tenant_of_whose_failed_pod_something_was_left_stays(api, rows, assert_problem):
    rows.pod(vmid=9101, status="failed")
    assert_problem(delete(api), 409, "tenant_has_pods")


@pytest.mark.parametrize("status", ["queued", "running"])
def test_a_tenant_with_unfinished_jobs_stays(api, rows, assert_problem, sql, status):
    pod = rows.pod(status="deleted", allocation=False)
    lease = sql.value("SELECT now() + interval '1 hour'") if status == "running" else None
    job = rows.job(pod=pod, status=status, lease_until=lease)
    answer = delete(api)
    assert_problem(answer, 409, "tenant_has_jobs")
    assert answer.json["jobIds"] == [job]


def test_another_tenants_pods_and_jobs_are_in_nobodys_way(api, rows):
    rows.job(pod=rows.pod(tenant_id="TENANT-456"), tenant_id="TENANT-456")
    rows.pod(status="deleted", allocation=False)
    rows.pod(status="failed", allocation=False)
    assert delete(api).status_code == 204
    assert delete(api, "TENANT-456").status_code == 409


@pytest.fixture
def deleted(api, rows):
    """Delete a tenant that had a pod."""
    rows.pod(vmid=9101, status="deleted", allocation=False)
    answer = delete(api)
    assert (answer.status_code, answer.text) == (204, "")


def test_what_a_deleted_tenant_had_stays_known(api, deleted):
    tenant = api.simulate_get("/internal/tenants/TENANT-123").json
    assert (tenant["slug"], tenant["deletedAt"] is not None) == ("tenant-123", True)
    pods = api.simulate_get("/internal/tenants/TENANT-123/cloudpods", query_string="status=deleted").json["items"]
    used = api.simulate_get("/internal/tenants/TENANT-123/usage").json["items"]
    assert [pod["vmid"] for pod in pods] == [pod["vmid"] for pod in used] == [9101]
    assert api.simulate_get("/internal/tenants/TENANT-123/quota").status_code == 200
    (event,) = api.simulate_get("/internal/tenants/TENANT-123/events").json["items"]
    assert (event["data"]["action"], event["data"]["slug"]) == ("TENANT_DELETED", "tenant-123")


def test_only_who_asks_for_deleted_tenants_sees_them_listed(api, deleted):
    def ids(query):
        return [tenant["id"] for tenant in api.simulate_get("/internal/tenants", query_string=query).json["items"]]

    assert (ids(""), ids("deleted=1"), ids("deleted=0&slug=tenant-123")) == (["TENANT-456"], ["TENANT-123"], [])


def test_nothing_can_be_done_with_a_deleted_tenant(api, sql, deleted, assert_problem):
    before = sql.counts()
    for method, path, body in [
        ("POST", "/cloudpods", ORDER),
        ("PUT", "/tenants/TENANT-123", {"name": "x"}),
        ("PUT", "/tenants/TENANT-123/quota", {"maxCloudPods": 1}),
        ("DELETE", "/tenants/TENANT-123", None),
    ]:
        assert_problem(api.simulate_request(method, f"/internal{path}", json=body), 404, "tenant_not_found")
    assert sql.counts() == before


def test_a_deleted_tenants_users_get_nothing_any_more(api, rows, assert_problem):
    headers = api.as_user("owner")
    assert api.simulate_get("/internal/tenants/TENANT-123", headers=headers).status_code == 200
    assert delete(api).status_code == 204
    assert_problem(api.simulate_get("/internal/tenants/TENANT-123", headers=headers), 401, "unauthenticated")


def test_its_slug_is_free_again_and_its_id_is_not(api, sql, deleted, assert_problem):
    owner = sql.value("SELECT owner_user_id FROM tenants WHERE id = 'TENANT-456'")
    like = {"name": "New", "slug": "tenant-123", "planId": "cloud-basic", "ownerUserId": owner}
    assert_problem(api.simulate_post("/internal/tenants", json={**like, "id": "TENANT-123"}), 409, "id_taken", field="id")
    assert api.simulate_post("/internal/tenants", json={**like, "id": "TENANT-124"}).json["slug"] == "tenant-123"
    assert delete(api, "TENANT-124").status_code == 204


def test_a_deletion_waits_for_an_order_under_way_and_then_sees_its_pod(api, sql, assert_problem, eventually):
    """An order that has read its tenant and not yet written its pod: held here by the vmids' lock."""
    sql("SELECT pg_advisory_lock(hashtextextended('cloudpods:vmid', 0))")
    with ThreadPoolExecutor(2) as pool:
        order = pool.submit(api.simulate_post, "/internal/cloudpods", json=ORDER)
        eventually(lambda: sql("SELECT 1 FROM pg_locks WHERE NOT granted AND locktype = 'advisory'"))
        deletion = pool.submit(delete, api)
        eventually(lambda: deletion.done() or sql("SELECT 1 FROM pg_locks WHERE NOT granted AND locktype <> 'advisory'"))
        assert not deletion.done()
        sql("SELECT pg_advisory_unlock(hashtextextended('cloudpods:vmid', 0))")
        assert order.result(timeout=20).status_code == 202
        assert_problem(deletion.result(timeout=20), 409, "tenant_has_pods")


def test_an_order_that_comes_during_a_deletion_finds_no_tenant(api, servers, sql, assert_problem, eventually):
    import psycopg2

    with ThreadPoolExecutor(1) as pool:
        deletion = psycopg2.connect(servers.database_url)
        # As `Tenant.hold` locks it.
        deletion.cursor().execute("SELECT 1 FROM tenants WHERE id = 'TENANT-123' FOR NO KEY UPDATE")
        order = pool.submit(api.simulate_post, "/internal/cloudpods", json=ORDER)
        eventually(lambda: order.done() or sql("SELECT 1 FROM pg_locks WHERE NOT granted"))
        deletion.cursor().execute("UPDATE tenants SET deleted_at = now() WHERE id = 'TENANT-123'")
        deletion.commit()
        deletion.close()
        assert_problem(order.result(timeout=20), 404, "tenant_not_found")
    assert sql.value("SELECT count(*) FROM cloud_pods") == 0


def test_orders_and_deletions_at_once_leave_no_pod_without_a_tenant(api, sql):
    barrier = threading.Barrier(6)

    def one(number):
        barrier.wait(timeout=20)
        return (delete(api) if number % 2 else api.simulate_post("/internal/cloudpods", json=ORDER)).status_code

    with ThreadPoolExecutor(6) as pool:
        codes = list(pool.map(one, range(6)))
    assert set(codes) <= {202, 204, 404, 409}
    assert not {202, 204} <= set(codes)
    gone = sql.value("SELECT deleted_at IS NOT NULL FROM tenants WHERE id = 'TENANT-123'")
    assert gone == (sql.value("SELECT count(*) FROM cloud_pods") == 0)
