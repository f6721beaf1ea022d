"""Snapshots over HTTP: orders, their outcomes, and what a second tenant sees."""

import pytest

from shim.cloudpods.recount import recount
from shim.db import session as db_session
from shim.jobs.models import CloudPodJob
from shim.worker import outcome
from shim.worker.playbook import Outcome

TENANT, OTHER_TENANT = "TENANT-123", "TENANT-456"
PATH = "/internal/cloudpods/9101/snapshots"
SEEN = {"status": "stopped", "cores": 1, "memory_mb": 512, "swap_mb": 256}
DONE = Outcome({"changed": True, "cloudpod": SEEN, "snapshots": []}, None)
FAILED = Outcome(None, {"msg": "snapshot feature is not available", "retryable": False, "left_behind": "nothing"})


@pytest.fixture
def pod(rows):
    """Make an active pod and return its id."""
    return rows.pod(vmid=9101)


@pytest.fixture
def order(api):
    """Return a way to order a change of the snapshot `before`."""

    def send(action, tenant=TENANT):
        if action == "create":
            return api.simulate_post(PATH, json={"tenantId": tenant, "name": "before", "reason": "upgrade"})
        if action == "rollback":
            return api.simulate_post(f"{PATH}/before/rollback", json={"tenantId": tenant})
        return api.simulate_delete(f"{PATH}/before", params={"tenantId": tenant})

    return send


@pytest.fixture
def end(finish):
    """Return a way to run an accepted order to an outcome; it returns the playbook's variables."""
    return lambda answer, result=DONE: finish(answer, result)


@pytest.fixture
def listed(api):
    """Return a way to list the pod's snapshots as (name, status)."""
    return lambda: [(item["name"], item["status"]) for item in api.simulate_get(PATH).json["items"]]


def test_a_snapshots_life(pod, order, end, listed, sql):
    first = order("create")
    assert listed() == [("before", "creating")]
    assert end(first).items() >= {"snapshot": "before", "state": "present", "vmid": 9101, "pod_id": pod}.items()
    assert listed() == [("before", "ready")]
    assert end(order("rollback"))["state"] == "rolled_back"
    last = order("delete")
    assert listed() == [("before", "deleting")]
    assert end(last)["state"] == "absent"
    assert listed() == []
    actions = [row[0] for row in sql("SELECT data->>'action' FROM cloud_pod_events ORDER BY seq")]
    assert [a for a in actions if a.startswith("SNAPSHOT")] == ["SNAPSHOT_CREATE", "SNAPSHOT_ROLLBACK", "SNAPSHOT_DELETE"]


def test_a_rollback_takes_the_pods_size_and_power_back_too(pod, order, end, sql):
    end(order("create"))
    end(order("rollback"))
    row = sql.row("cloud_pods", pod)
    assert (row["power_state"], row["cores"], row["memory_mb"], row["swap_mb"]) == ("stopped", 1, 512, 256)
    shares = sql("SELECT used_cpu_cores, used_memory_mb FROM cloud_pod_allocations WHERE cloud_pod_id = %s", pod)
    assert shares == [(1, 512)]


def test_a_failed_create_leaves_no_snapshot(pod, order, end, listed):
    end(order("create"), FAILED)
    assert listed() == []
    end(order("create"))
    assert listed() == [("before", "ready")]


def test_a_failed_delete_can_be_ordered_again(pod, order, end, listed):
    end(order("create"))
    end(order("delete"), FAILED)
    assert listed() == [("before", "ready")]
    end(order("delete"))
    assert listed() == []


def test_a_name_is_taken_once(pod, order, end, assert_problem):
    end(order("create"))
    assert_problem(order("create"), 409, "snapshot_exists", field="name")


@pytest.mark.parametrize("action", ["rollback", "delete"])
def test_a_snapshot_being_made_or_dropped_is_not_touched(pod, order, end, assert_problem, action):
    order("create")
    assert_problem(order(action), 409, "snapshot_not_ready")


@pytest.mark.parametrize("action", ["rollback", "delete"])
def test_a_missing_snapshot_is_not_found(pod, order, assert_problem, action):
    assert_problem(order(action), 404, "snapshot_not_found")


@pytest.mark.parametrize("action", ["create", "rollback", "delete"])
def test_another_tenants_pod_is_not_there(pod, order, end, sql, assert_problem, action):
    end(order("create"))
    jobs = sql.value("SELECT count(*) FROM cloud_pod_jobs")
    assert_problem(order(action, OTHER_TENANT), 404, "cloudpod_not_found")
    assert sql.value("SELECT count(*) FROM cloud_pod_jobs") == jobs


@pytest.mark.parametrize("name", ["", "a", "1abc", "with blank", "current", "vzdump", "x" * 41, "-x", "a;b", "a\x00b", 5, None])
def test_a_bad_name_is_refused_and_queues_nothing(api, pod, sql, assert_problem, name):
    assert_problem(api.simulate_post(PATH, json={"tenantId": TENANT, "name": name}), 422, "invalid_request", field="name")
    assert sql.value("SELECT count(*) FROM cloud_pod_jobs") == 0


def test_delete_wants_to_know_whose_it_is(api, pod, assert_problem):
    assert_problem(api.simulate_delete(f"{PATH}/before"), 422, "invalid_request", field="tenantId")
    assert_problem(api.simulate_delete(f"{PATH}/before", params={"tenant": TENANT}), 422, "invalid_request", field="tenant")


def test_a_destroyed_pods_snapshots_are_forgotten(api, pod, order, end, sql):
    end(order("create"))
    destroyed = api.simulate_post("/internal/cloudpods/9101/destroy", json={"tenantId": TENANT})
    held = "status = 'running', attempt = 1, lease_until = now() + interval '1 hour'"
    sql(f"UPDATE cloud_pod_jobs SET {held} WHERE type = 'DESTROY'")
    with db_session():
        outcome.write(CloudPodJob.find(destroyed.json["job"]["id"]), Outcome({"changed": True}, None))
    assert sql.value("SELECT count(*) FROM cloud_pod_snapshots") == 0


def seen(cores, memory_mb=2048):
    return Outcome(
        {"changed": True, "cloudpod": {"status": "running", "cores": cores, "memory_mb": memory_mb, "swap_mb": 512}}, None
    )


@pytest.fixture
def larger_before(api, pod, order, end, sql):
    """Let the pod have a snapshot of when it had 2 cores, and one core by now; its tenant may have 2."""
    end(order("create"))
    end(api.simulate_post("/internal/cloudpods/9101/scale", json={"tenantId": TENANT, "newCores": 1}), seen(1))
    sql("UPDATE tenant_quotas SET max_cpu_cores = 2, follows_plan = false WHERE tenant_id = %s", TENANT)


def share(sql, pod):
    return sql.value("SELECT used_cpu_cores FROM cloud_pod_allocations WHERE cloud_pod_id = %s", pod)


def used(sql):
    return sql.value("SELECT used_cpu_cores FROM tenant_quotas WHERE tenant_id = %s", TENANT)


def test_a_size_that_comes_back_is_reserved_with_the_order(larger_before, pod, order, end, rows, sql):
    answer = order("rollback")
    assert (used(sql), share(sql, pod)) == (1, 2)
    end(answer, seen(2))
    assert (used(sql), share(sql, pod), sql.row("cloud_pods", pod)["cores"]) == (2, 2, 2)


def test_a_size_that_did_not_come_back_is_given_back(larger_before, pod, order, end, sql):
    end(order("rollback"), FAILED)
    assert (used(sql), share(sql, pod)) == (1, 1)
    assert sql("SELECT state FROM quota_entries WHERE reason = 'order' ORDER BY id")[-1] == ("released",)


def test_a_size_that_the_quota_has_no_room_for_does_not_come_back(larger_before, pod, order, rows, sql, assert_problem):
    rows.pod(vmid=9102, cores=1)
    rows.pod(vmid=9103, cores=1, tenant_id=OTHER_TENANT)
    before = sql.counts()
    assert_problem(order("rollback"), 409, "quota_exceeded")
    assert sql.counts() == before


def test_a_size_that_the_node_has_no_room_for_does_not_come_back(larger_before, order, sql, assert_problem):
    sql("UPDATE cloud_pod_nodes SET total_cpu_cores = 1, cpu_overcommit = 1, synced_at = now()")
    assert_problem(order("rollback"), 409, "no_capacity")


@pytest.mark.parametrize("within", [True, False])
def test_an_unknown_size_that_is_more_than_the_quota_allows_is_ordered_back(larger_before, pod, order, end, sql, within):
    sql("UPDATE cloud_pod_snapshots SET cores = NULL, memory_mb = NULL")
    end(order("rollback"), seen(2 if within else 3))
    assert (used(sql), share(sql, pod)) == ((2, 2) if within else (3, 3))
    ordered = sql("SELECT payload->'newCores', status FROM cloud_pod_jobs WHERE type = 'SCALE' AND status = 'queued'")
    assert ordered == ([] if within else [(1, "queued")])
    told = sql.value("SELECT count(*) FROM cloud_pod_events WHERE data->>'action' = 'SIZE_OVER_QUOTA'")
    assert told == (0 if within else 1)


def test_a_rollback_leaves_the_room_that_a_later_scale_booked(api, pod, order, end, sql):
    end(order("create"))
    rollback = order("rollback")
    scale = api.simulate_post("/internal/cloudpods/9101/scale", json={"tenantId": TENANT, "newCores": 4})
    end(rollback, seen(2))
    assert (used(sql), share(sql, pod)) == (2, 4)
    end(scale, seen(4))
    assert (used(sql), share(sql, pod)) == (4, 4)


def test_no_order_under_way_is_a_difference(larger_before, order, pod, end):
    answer = order("rollback")
    with db_session():
        assert recount(TENANT, mend=False) == []
    end(answer, seen(2))
    with db_session():
        assert recount(TENANT, mend=False) == []
