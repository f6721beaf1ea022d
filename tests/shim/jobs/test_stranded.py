"""Jobs of a node that went offline: what was to make a pod is failed after an hour, what is to be ended is after a day."""

import pytest

from shim import db
from shim.jobs import stranded

TENANT, OTHER_TENANT = "TENANT-123", "TENANT-456"


@pytest.fixture
def create(api):
    """Return a way to order a pod on a node; it gives the ids of pod and job."""

    def order(node="lab1", tenant=TENANT):
        body = {"tenantId": tenant, "hostname": "a", "cores": 1, "memoryMb": 512, "node": node}
        answer = api.simulate_post("/internal/cloudpods", json=body)
        return answer.json["cloudPod"]["id"], answer.json["job"]["id"]

    return order


def strand():
    with db.session():
        stranded.fail_unbegun()


def test_it_is_failed_after_an_hour_and_gives_back_what_it_held(create, sql):
    (pod, job), (other_pod, other_job) = create(), create("lab2", OTHER_TENANT)
    sql("UPDATE cloud_pod_nodes SET status = 'offline' WHERE name = 'lab1'")
    strand()
    assert sql.row("cloud_pod_jobs", job)["status"] == "queued"
    sql("UPDATE cloud_pod_jobs SET created_at = created_at - interval '61 min'")
    strand()
    ended = sql.row("cloud_pod_jobs", job)
    assert (ended["status"], sql.row("cloud_pods", pod)["status"]) == ("failed", "failed")
    assert "lab1 is offline" in ended["error"]
    assert sql("SELECT cloud_pod_id FROM cloud_pod_allocations") == [(other_pod,)]
    assert sql("SELECT state FROM quota_entries WHERE job_id = %s", job) == [("released",)]
    assert sql.row("cloud_pod_jobs", other_job)["status"] == "queued"


def test_one_that_cannot_be_ended_keeps_nobody_behind_it_waiting(create, sql, monkeypatch, caplog):
    (_, broken), (_, job) = create(), create(tenant=OTHER_TENANT)
    sql("UPDATE cloud_pod_nodes SET status = 'offline'")
    sql("UPDATE cloud_pod_jobs SET created_at = created_at - interval '61 min'")
    end = stranded.ending.fail_queued

    def fail(held, failure):
        end(held, failure)
        if held.id == broken:
            raise KeyError("a payload that nobody understands")

    monkeypatch.setattr(stranded.ending, "fail_queued", fail)
    strand()
    assert [sql.row("cloud_pod_jobs", each)["status"] for each in (broken, job)] == ["queued", "failed"]
    assert broken in caplog.text


def test_what_was_begun_or_is_of_a_pod_that_is_there_waits(create, rows, sql):
    pod, begun = create()
    waiting = rows.job("SCALE", pod=rows.pod())
    sql("UPDATE cloud_pod_nodes SET status = 'offline'")
    sql("UPDATE cloud_pod_jobs SET created_at = created_at - interval '61 min', attempt = (type = 'CREATE')::int")
    strand()
    assert {sql.row("cloud_pod_jobs", job)["status"] for job in (begun, waiting)} == {"queued"}
    assert sql.row("cloud_pods", pod)["status"] == "provisioning"


def to_be_ended(rows, sql, age, **columns):
    """Insert a begun job that somebody asked to end so long ago."""
    asked = {"cancel_requested_at": sql.value("SELECT now() - %s::interval", age), "cancel_requested_by": "anna"}
    run = {"run_host": "gone", "run_pid": 7, "run_started": 7, "run_attempt": 2}
    return rows.job("SCALE", **{**asked, **run, "attempt": 2, "tries": 1, "lost": True, **columns})


def cancel_out_of_reach():
    with db.session():
        stranded.cancel_out_of_reach()


def test_what_is_to_be_ended_on_a_node_that_is_offline_is_after_a_day(rows, sql):
    pod = rows.pod()
    job = to_be_ended(rows, sql, "24 hours 1 s", pod=pod)
    follower = rows.job("BACKUP", pod=pod, after_job_id=job)
    recent = to_be_ended(rows, sql, "23 hours 59 min", pod=rows.pod())
    elsewhere = to_be_ended(rows, sql, "25 hours", pod=rows.pod("lab2"), node="lab2", tenant_id=OTHER_TENANT)
    cancel_out_of_reach()
    assert sql.row("cloud_pod_jobs", job)["status"] == "queued"
    sql("UPDATE cloud_pod_nodes SET status = 'offline' WHERE name = 'lab1'")
    cancel_out_of_reach()
    ended = sql.row("cloud_pod_jobs", job)
    assert (ended["status"], ended["lost"], ended["run_host"]) == ("cancelled", False, None)
    assert ended["error"].startswith("cancelled by anna")
    assert ended["failure"]["left_behind"].startswith("unknown: node lab1 is offline")
    assert sql.row("cloud_pod_jobs", follower)["status"] == "failed"
    told = "SELECT data->>'action' FROM cloud_pod_events WHERE job_id = %s"
    assert sql(told, job) == [("SCALE_CANCELLED",)]
    assert {sql.row("cloud_pod_jobs", each)["status"] for each in (recent, elsewhere)} == {"queued"}


def test_a_create_that_is_ended_out_of_reach_frees_nothing_that_may_stand_there(create, sql):
    pod, job = create()
    sql("UPDATE cloud_pod_nodes SET status = 'offline'")
    sql(
        "UPDATE cloud_pod_jobs SET attempt = 1, tries = 1, lost = true, cancel_requested_by = 'anna',"
        " cancel_requested_at = now() - interval '25 hours'"
    )
    cancel_out_of_reach()
    assert (sql.row("cloud_pod_jobs", job)["status"], sql.row("cloud_pods", pod)["status"]) == ("cancelled", "failed")
    assert sql("SELECT cloud_pod_id FROM cloud_pod_allocations") == [(pod,)]
    assert sql("SELECT state FROM quota_entries WHERE job_id = %s", job) == [("committed",)]


def test_what_nobody_asked_to_end_waits_for_its_node(rows, sql):
    job = rows.job("SCALE", pod=rows.pod(), attempt=2, tries=1, lost=True, created_at="2026-01-01")
    sql("UPDATE cloud_pod_nodes SET status = 'offline'")
    cancel_out_of_reach()
    assert sql.row("cloud_pod_jobs", job)["status"] == "queued"
