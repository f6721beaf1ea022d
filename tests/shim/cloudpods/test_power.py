"""Start, shutdown, stop and reboot by the panel's `actions`: what is taken, what runs, what it comes to."""

import pytest

from shim.cloudpods import power
from shim.db import session as db_session
from shim.jobs.models import CloudPodJob
from shim.worker import outcome
from shim.worker.playbook import Outcome

TENANT, OTHER_TENANT = "TENANT-123", "TENANT-456"
VERBS = [
    ("start", {"state": "running", "force": False}, "running"),
    ("shutdown", {"state": "stopped", "force": False}, "stopped"),
    ("stop", {"state": "stopped", "force": True}, "stopped"),
    ("reboot", {"state": "restarted", "force": False}, "running"),
]


@pytest.fixture
def ask(api):
    """Return a way to order an action on pod 9101."""
    return lambda **body: api.simulate_post("/api/cloudpods/9101/actions", json=body)


@pytest.mark.parametrize(("action", "variables", "after"), VERBS)
def test_an_action_is_queued_run_and_noted(ask, rows, sql, action, variables, after):
    pod = rows.pod(vmid=9101)
    answer = ask(action=action, shutdownTimeoutS=30)
    assert answer.status_code == 202
    assert answer.json["job"]["type"] == "POWER"
    sql("UPDATE cloud_pod_jobs SET status = 'running', attempt = 1, tries = 1, lease_until = now() + interval '1 hour'")
    with db_session():
        job = CloudPodJob.find(answer.json["job"]["id"])
        given = power.variables(job)
        assert (
            given.items() >= {**variables, "shutdown_timeout_s": 30, "vmid": 9101, "tenant_id": TENANT, "pod_id": pod}.items()
        )
        outcome.write(job, Outcome({"changed": True, "cloudpod": {}}, None))
    assert sql.row("cloud_pods", pod)["power_state"] == after
    assert sql("SELECT data->>'action' FROM cloud_pod_events ORDER BY seq") == [("queued",), ("POWER_CHANGED",)]


def test_a_failure_leaves_what_was_known(ask, rows, sql):
    pod = rows.pod(vmid=9101, power_state="running")
    with db_session():
        job = rows.running("POWER", pod=pod, payload={"vmid": 9101, "action": "shutdown", "shutdownTimeoutS": 60})
        outcome.write(job, Outcome(None, {"msg": "container did not stop", "retryable": False, "left_behind": "nothing"}))
    assert sql.row("cloud_pods", pod)["power_state"] == "running"
    assert sql.row("cloud_pod_jobs", job.id)["error"] == "container did not stop"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"action": "explode"}, 422, "invalid_request"),
        ({"action": "start", "tenantId": OTHER_TENANT}, 404, "cloudpod_not_found"),
        ({"action": "start", "shutdownTimeoutS": 0}, 422, "invalid_request"),
        ({"action": "start", "shutdownTimeoutS": "60"}, 422, "invalid_request"),
        ({"action": "start", "mode": "snapshot"}, 422, "invalid_request"),
    ],
)
def test_a_bad_order_is_refused_and_queues_nothing(ask, rows, sql, assert_problem, body, status, code):
    rows.pod(vmid=9101)
    assert_problem(ask(**body), status, code)
    assert sql.value("SELECT count(*) FROM cloud_pod_jobs") == 0


@pytest.mark.parametrize("status", ["provisioning", "failed", "deleting", "deleted"])
def test_only_an_active_pod_has_power(ask, rows, assert_problem, status):
    rows.pod(vmid=9101, status=status)
    assert_problem(ask(action="start"), 409, "cloudpod_not_active")


@pytest.mark.parametrize(
    ("action", "seen", "done"),
    [
        ("start", "running", True),
        ("start", "stopped", False),
        ("stop", "stopped", True),
        ("shutdown", "running", False),
        ("reboot", "running", False),
    ],
)
def test_a_lost_run_is_done_when_the_pod_is_in_the_state_asked_for(rows, action, seen, done):
    pod = rows.pod(vmid=9101)
    with db_session():
        job = rows.running("POWER", pod=pod, payload={"vmid": 9101, "action": action, "shutdownTimeoutS": 60}, lost=True)
        whole = {"vmid": 9101, "exists": True, "in_pool": True, "unfinished": False, "owner": {"tenant": TENANT, "pod": pod}}
        assert (power.settle(job, {**whole, "status": seen}) is not None) is done
