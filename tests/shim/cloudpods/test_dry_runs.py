"""Dry runs: everything is checked and told, a job runs in check mode, and nothing changes."""

import pytest

from shim import db
from shim.jobs.catalog import ACTIONS
from shim.jobs.claim import claim
from shim.jobs.models import CloudPodJob
from shim.worker import outcome
from shim.worker.playbook import Outcome

TENANT, OTHER_TENANT = "TENANT-123", "TENANT-456"
BODY = {"tenantId": TENANT, "hostname": "client-portal", "cores": 2, "memoryMb": 2048}
KEPT = ("cloud_pods", "cloud_pod_allocations", "quota_entries", "tenant_quotas", "regions")


def state(sql):
    """Return all that a dry run must leave as it is."""
    return {table: sorted(map(str, sql(f"SELECT * FROM {table}"))) for table in KEPT}


def new(api, **body):
    return api.simulate_post("/internal/cloudpods", params={"dryRun": "1"}, json={**BODY, **body})


def change(api, verb, **body):
    return api.simulate_post(f"/internal/cloudpods/9101/{verb}", params={"dryRun": "1"}, json={"tenantId": TENANT, **body})


def test_a_dry_run_of_a_new_pod_tells_quota_and_place_and_leaves_nothing(api, sql):
    before = state(sql)
    answer = new(api)
    assert answer.status_code == 202, answer.text
    told = answer.json
    assert told["cloudPod"] is None
    assert (told["job"]["dryRun"], told["job"]["cloudPodId"], told["job"]["type"]) == (True, None, "CREATE")
    assert told["quota"]["asked"] == {"pods": 1, "cores": 2, "ramMb": 2048, "diskGb": 8}
    assert told["quota"]["before"]["pods"] == 0
    assert told["quota"]["after"]["ramMb"] == 2048
    assert told["placement"]["node"] == "lab1"
    assert state(sql) == before


def test_a_dry_run_of_a_destroy_does_not_bar_the_destroy(api, rows):
    rows.pod(vmid=9101)
    assert change(api, "destroy").status_code == 202
    assert api.simulate_post("/internal/cloudpods/9101/destroy", json={"tenantId": TENANT}).status_code == 202


def test_the_vmid_of_a_dry_run_is_still_free(api):
    vmid = new(api).json["job"]["payload"]["vmid"]
    assert api.simulate_post("/internal/cloudpods", json=BODY).json["cloudPod"]["vmid"] == vmid


def test_a_dry_run_refuses_what_the_order_would(api, rows, sql, assert_problem):
    rows.pod(vmid=9101, protected=True)
    before = (state(sql), sql.counts())
    assert_problem(new(api, vmid=9101), 409, "vmid_taken")
    assert_problem(new(api, cores=0), 422, "invalid_request")
    assert_problem(new(api, tenantId="TENANT-9"), 404, "tenant_not_found")
    assert_problem(change(api, "destroy"), 409, "pod_protected")
    assert_problem(change(api, "scale", tenantId=OTHER_TENANT, newCores=4), 404, "cloudpod_not_found")
    assert (state(sql), sql.counts()) == before


def test_a_dry_run_over_the_quota_is_refused(api, sql, assert_problem):
    sql("UPDATE tenant_quotas SET max_ram_mb = 1024")
    assert_problem(new(api), 409, "quota_exceeded")


VERBS = [("destroy", {}), ("backup", {}), ("scale", {"newCores": 4})]


@pytest.mark.parametrize(("verb", "fields"), VERBS)
def test_a_dry_run_of_a_change_leaves_the_pod_as_it_is_whatever_comes_of_it(api, rows, sql, verb, fields):
    rows.pod(vmid=9101)
    before = state(sql)
    for ending in (Outcome({"changed": True}, None), Outcome(None, {"msg": "no", "retryable": False, "left_behind": "x"})):
        answer = change(api, verb, **fields)
        assert answer.json["cloudPod"]["status"] == "active"
        with db.session():
            job = claim(list(ACTIONS), worker="w", lease_s=60)
            assert (job.id, job.dry_run, job.changes_pod) == (answer.json["job"]["id"], True, False)
            given = ACTIONS[job.type].handler.variables(job)
            outcome.write(job, ending)
        assert (given["vmid"], given["tenant_id"]) == (9101, TENANT)
        assert state(sql) == before
    told = sql("SELECT data->>'action' FROM cloud_pod_events WHERE data->>'action' LIKE 'DRY%%' ORDER BY seq")
    assert told == [("DRY_RUN",), ("DRY_RUN_FAILED",)]


def test_the_quota_of_a_change_is_told(api, rows, sql):
    rows.pod(vmid=9101)
    assert change(api, "scale", newMemoryMb=4096).json["quota"]["asked"]["cores"] >= 0


def test_a_new_pods_dry_run_has_its_variables_from_its_payload(api, sql):
    new(api, ip="10.1.10.91")
    with db.session():
        job = claim(list(ACTIONS), worker="w", lease_s=60)
        given = ACTIONS["CREATE"].handler.variables(job)
        outcome.write(job, Outcome({"changed": True, "ip": None}, None))
    assert {name: given[name] for name in ("hostname", "cores", "memory_mb", "swap_mb", "disk_gb", "ip", "tenant_id")} == {
        "hostname": "client-portal",
        "cores": 2,
        "memory_mb": 2048,
        "swap_mb": 512,
        "disk_gb": 8,
        "ip": "10.1.10.91",
        "tenant_id": TENANT,
    }
    assert {"storage", "bridge", "vmid", "pod_id", "run_id"} <= set(given)
    assert sql.row("cloud_pod_jobs", job.id)["status"] == "success"


def test_a_dry_run_does_not_wait_for_the_pods_changes_nor_they_for_it(api, rows):
    pod = rows.pod(vmid=9101)
    rehearsal = change(api, "scale", newCores=4).json["job"]["id"]
    real = rows.job("SCALE", pod=pod)
    with db.session():
        taken = {claim(list(ACTIONS), worker="w", lease_s=60).id for _ in range(2)}
    assert taken == {rehearsal, real}


@pytest.mark.parametrize(
    "path", ["/internal/cloudpods/9101/restore", "/internal/cloudpods/9101/actions", "/internal/cloudpods/9101/snapshots"]
)
def test_what_cannot_be_rehearsed_is_not_done_instead(api, rows, sql, assert_problem, path):
    rows.pod(vmid=9101)
    body = {"tenantId": TENANT, **({"action": "restore"} if path.endswith("actions") else {})}
    assert_problem(api.simulate_post(path, params={"dryRun": "1"}, json=body), 422, "invalid_request", field="dryRun")
    assert sql.counts()["cloud_pod_jobs"] == 0


@pytest.mark.parametrize("value", ["2", "maybe", ""])
def test_a_dry_run_that_is_neither_yes_nor_no_is_refused(api, sql, value):
    answer = api.simulate_post(f"/internal/cloudpods?dryRun={value}", json=BODY)
    assert answer.status_code in (202, 422)
    if answer.status_code == 202:
        # Falcon takes an empty parameter for an absent one.
        assert value == ""


def test_a_lost_dry_run_runs_again_without_a_look(api, sql, tenants):
    from shim.worker import run

    job_id = new(api).json["job"]["id"]
    with db.session():
        job = claim(list(ACTIONS), worker="w", lease_s=60)
        job.lost = True
        assert run._settle(job, tenants, None) is None
        job.tries = job.max_tries
        given_up = run._settle(job, tenants, None)
    assert (job.id, given_up.failure["left_behind"]) == (job_id, "nothing")
    with db.session():
        assert CloudPodJob.find(job_id).status == "running"
