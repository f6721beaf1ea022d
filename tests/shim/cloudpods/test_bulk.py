"""Many orders at once: all or none, one job each, one batch to follow."""

import json
import time

import pytest

from shim import caller
from shim.caller import Caller
from shim.db import session
from shim.errors import NotFound
from shim.jobs.batches import CloudPodBatch

TENANT, OTHER_TENANT = "TENANT-123", "TENANT-456"
NEW = {"hostname": "client-portal", "cores": 1, "memoryMb": 512}
PATH = "/internal/cloudpods/bulk"


def bulk(api, *items, tenant=TENANT, **params):
    return api.simulate_post(PATH, json={"tenantId": tenant, "items": list(items)}, params=params)


def test_a_batch_takes_different_orders_and_is_followed_to_its_end(api, rows, sql):
    power, gone = rows.pod(vmid=9101), rows.pod(vmid=9102)
    answer = bulk(
        api,
        NEW,
        {"action": "stop", "cloudPodId": power},
        {"action": "destroy", "vmid": 9102, "backupFirst": True},
        {**NEW, "cores": 2},
    )
    assert answer.status_code == 202, answer.text
    batch, items = answer.json["batch"], answer.json["items"]
    assert [item["type"] for item in items] == ["CREATE", "POWER", "DESTROY", "CREATE"]
    assert [item["cloudPodId"] for item in items[1:3]] == [power, gone]
    assert (batch["jobs"], batch["done"], batch["counts"]["queued"]) == (5, False, 5)
    assert answer.headers["location"] == f"/internal/batches/{batch['id']}"
    page = api.simulate_get(f"{answer.headers['location']}/jobs", params={"limit": 2}).json
    rest = api.simulate_get(f"{answer.headers['location']}/jobs", params={"limit": 3, "cursor": page["next"]}).json
    assert len({job["id"] for job in page["items"] + rest["items"]}) == 5
    assert rest["next"] is None
    sql("UPDATE cloud_pod_jobs SET status = 'success'")
    sql("UPDATE cloud_pod_jobs SET status = 'failed' WHERE id = %s", items[0]["jobId"])
    followed = api.simulate_get(answer.headers["location"]).json
    assert (followed["done"], followed["counts"]["success"], followed["counts"]["failed"]) == (True, 4, 1)


def test_one_that_is_refused_takes_all_back(api, rows, sql, assert_problem):
    rows.pod(vmid=9101, protected=True)
    before = sql.counts()
    answer = bulk(api, NEW, NEW, {"action": "destroy", "vmid": 9101})
    assert_problem(answer, 409, "pod_protected", field="items.2")
    assert sql.counts() == before
    assert sql.value("SELECT count(*) FROM cloud_pod_batches") == 0


def test_the_quota_is_that_of_all_together(api, sql, assert_problem):
    sql("UPDATE tenant_quotas SET max_cloud_pods = 2")
    assert_problem(bulk(api, NEW, NEW, NEW), 409, "quota_exceeded")
    assert sql.counts()["cloud_pods"] == 0
    assert bulk(api, NEW, NEW).status_code == 202


BAD = [
    ([], "items", ""),
    ([NEW] * 501, "items", ""),
    ([NEW, {**NEW, "memoryMb": 1}], "items.1.memoryMb", "greater"),
    ([{**NEW, "wrong": 1}], "items.0.wrong", "unknown"),
    ([NEW, NEW, {"action": "explode"}], "items.2.action", "create"),
    ([{**NEW, "tenantId": OTHER_TENANT}], "items.0.tenantId", "batch"),
    ([{"action": "destroy"}], "items.0.vmid", "needed"),
    ([{"action": "destroy", "vmid": "9101"}], "items.0.vmid", "needed"),
    ([{"action": "destroy", "vmid": True}], "items.0.vmid", "needed"),
    ([{"action": "destroy", "vmid": 9101, "cloudPodId": "x"}], "items.0.vmid", "needed"),
    ([{"action": ["create"]}], "items.0.action", "create"),
]


@pytest.mark.parametrize(("items", "field", "rule"), BAD, ids=[case[1] for case in BAD])
def test_a_bad_item_is_named_by_its_index_and_nothing_is_written(api, sql, assert_problem, items, field, rule):
    assert_problem(bulk(api, *items), 422, "invalid_request", field=field, rule=rule)
    assert sql.counts()["cloud_pod_jobs"] == 0


def test_every_bad_item_is_named(api):
    answer = bulk(api, {**NEW, "cores": 0}, NEW, {**NEW, "hostname": "-"})
    assert [error["field"] for error in answer.json["errors"]] == ["items.0.cores", "items.2.hostname"]


@pytest.mark.parametrize("items", [5, "x", [5], [[]], {"0": NEW}, None])
def test_items_that_are_none_are_refused(api, assert_problem, items):
    answer = api.simulate_post(PATH, json={"tenantId": TENANT, "items": items})
    assert_problem(answer, 422, "invalid_request")


def test_another_tenants_pods_are_not_found_in_a_batch(api, rows, sql, assert_problem):
    rows.pod(vmid=9101)
    assert_problem(bulk(api, {"action": "stop", "vmid": 9101}, tenant=OTHER_TENANT), 404, "cloudpod_not_found", field="items.0")
    assert_problem(bulk(api, NEW, tenant="TENANT-9"), 404, "tenant_not_found")
    assert sql.counts()["cloud_pod_jobs"] == 0


def test_another_tenants_batch_is_not_found(api):
    batch = bulk(api, NEW).json["batch"]["id"]
    with session(), caller.asking(Caller(name="b", role="owner", tenant_id=OTHER_TENANT)), pytest.raises(NotFound):
        CloudPodBatch.find(batch)


def test_a_dry_run_of_a_batch_counts_its_items_together_and_leaves_nothing(api, rows, sql, assert_problem):
    rows.pod(vmid=9101)
    before = {**sql.counts(), "cloud_pod_jobs": 0, "cloud_pod_events": 0}
    answer = bulk(api, NEW, NEW, {"action": "stop", "vmid": 9101}, dryRun="1")
    assert answer.status_code == 202, answer.text
    assert answer.json["quota"]["asked"] == {"pods": 2, "cores": 2, "ramMb": 1024, "diskGb": 16}
    assert len({item["vmid"] for item in answer.json["items"]}) == 3
    # A tenant's pods are spread over the nodes, those of the same batch too.
    assert {item["placement"]["node"] for item in answer.json["items"]} == {"lab1", "lab2"}
    assert {**sql.counts(), "cloud_pod_jobs": 0, "cloud_pod_events": 0} == before
    assert sql("SELECT DISTINCT dry_run FROM cloud_pod_jobs") == [(True,)]
    sql("UPDATE tenant_quotas SET max_cloud_pods = 1")
    assert_problem(bulk(api, NEW, NEW, dryRun="1"), 409, "quota_exceeded")


def test_five_hundred_new_pods_take_seconds(api, sql):
    # The pools of the two nodes have 200 addresses each.
    sql("UPDATE address_pools SET last_ip = set_masklen(last_ip, 32) + 512 WHERE name = 'lab1-pool'")
    sql("UPDATE tenant_quotas SET max_cloud_pods = 500, max_cpu_cores = 500, max_ram_mb = 256000, max_disk_gb = 4000")
    # Not the clock on the wall, which also counts what else the machine does.
    began = time.process_time()
    answer = bulk(api, *[NEW] * 500)
    took = time.process_time() - began
    assert answer.status_code == 202, answer.text
    assert answer.json["batch"]["jobs"] == 500
    assert len({item["vmid"] for item in answer.json["items"]}) == 500
    assert sql.value("SELECT count(*) FROM cloud_pod_jobs WHERE batch_id = %s", answer.json["batch"]["id"]) == 500
    assert took < 30, f"{took:.1f} s"


def test_this_route_takes_larger_bodies_than_others(api, sql, assert_problem):
    items = [{**NEW, "hostname": "a" * 60, "requestedBy": "b" * 64} for _ in range(500)]
    document = json.dumps({"tenantId": TENANT, "items": items}).encode()
    assert len(document) > 64 * 1024
    sql("UPDATE tenant_quotas SET max_cloud_pods = 0")
    headers = {"Content-Type": "application/json", "Idempotency-Key": "k"}
    assert_problem(api.simulate_post(PATH, body=document, headers=headers), 409, "quota_exceeded")
    assert_problem(api.simulate_post(PATH, body=document + b" " * 1024 * 1024, headers=headers), 413)
