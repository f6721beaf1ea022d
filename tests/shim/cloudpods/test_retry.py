"""`POST /internal/jobs/{id}/retry`: a job that came to nothing, ordered anew by the function that took the first."""

import threading

import pytest
from psycopg2.extras import Json

from shim import db
from shim.cloudpods import sweep
from shim.jobs.catalog import ACTIONS
from shim.jobs.models import CloudPodJob
from shim.jobs.queue import Wakeups
from shim.worker import outcome
from shim.worker.playbook import Outcome

TENANT, OTHER_TENANT = "TENANT-123", "TENANT-456"
POD = "/internal/cloudpods/9101"
MINE = {"tenantId": TENANT}
NEW = {**MINE, "hostname": "client-portal", "cores": 2, "memoryMb": 2048}
RUNS = "status = 'running', attempt = 1, tries = 1, lease_until = now() + interval '1 hour'"
REFUSED = Outcome(None, {"msg": "the node refused", "retryable": False, "left_behind": "nothing"})


def retry(api, job, headers=None, **body):
    return api.simulate_post(f"/internal/jobs/{job}/retry", json=body, headers=headers)


@pytest.fixture
def fail(sql):
    """Return a way to end a job without success."""

    def end(job_id, left="nothing"):
        sql(f"UPDATE cloud_pod_jobs SET {RUNS} WHERE id = %s", job_id)
        with db.session():
            job = CloudPodJob.find(job_id)
            job.max_tries = job.tries
            job.lost = True
            outcome.write(job, Outcome(None, {**REFUSED.failure, "left_behind": left}))
        assert sql.row("cloud_pod_jobs", job_id)["status"] == "failed"
        return job_id

    return end


@pytest.fixture
def pod(rows, sql):
    """Make a pod with a snapshot and a backup, and one of another tenant; return the pod's id."""
    rows.pod("lab2", tenant_id=OTHER_TENANT)
    made = rows.pod(vmid=9101, ip="10.1.10.91")
    rows.backup(made)
    sql("INSERT INTO cloud_pod_snapshots (cloud_pod_id, name, status) VALUES (%s, 'before', 'ready')", made)
    return made


def order(api, what):
    """Give an order and return its job."""
    method, path, body = ORDERS[what]
    answer = api.send(method, path, body)
    assert answer.status_code in (200, 202), answer.text
    return answer.json["job"]


def on(verb):
    return f"/cloudpods/9101/{verb}"


ORDERS = {
    "create": ("POST", "/cloudpods", NEW),
    "create just this one": ("POST", "/cloudpods", {**NEW, "vmid": 9200, "ip": "10.1.10.99", "node": "lab1", "diskGb": 4}),
    "create, dry run": ("POST", "/cloudpods?dryRun=1", NEW),
    "destroy": ("POST", on("destroy"), {**MINE, "reason": "not paid"}),
    "destroy, dry run": ("POST", on("destroy?dryRun=1"), MINE),
    "backup": ("POST", on("backup"), {**MINE, "mode": "stop", "reason": "before the update"}),
    "scale": ("POST", on("scale"), {**MINE, "newCores": 3, "force": True}),
    "scale, dry run": ("POST", on("scale?dryRun=1"), {**MINE, "newMemoryMb": 4096}),
    "power": ("POST", on("actions"), {"action": "reboot", "shutdownTimeoutS": 5}),
    "snapshot": ("POST", on("snapshots"), {**MINE, "name": "after"}),
    "rollback": ("POST", on("snapshots/before/rollback"), MINE),
    "delete a snapshot": ("DELETE", f"{on('snapshots/before')}?tenantId={TENANT}", None),
    "restore": ("POST", on("restore"), {**MINE, "force": True}),
    "restore as new": ("POST", on("restore"), {**MINE, "asNew": True, "hostname": "second", "reason": "to look"}),
    "restore as just this one": ("POST", on("restore"), {**MINE, "asNew": True, "vmid": 9200, "ip": "10.1.10.99", "cores": 1}),
    "drill": ("POST", on("restore-drill"), MINE),
    "health": ("GET", on("health?refresh=1"), None),
    "reconcile": ("POST", "/nodes/lab1/reconcile", None),
    "sync": ("POST", "/nodes/lab1/sync", None),
    "scan": ("GET", "/nodes/lab1/foreign?refresh=1", None),
}
# What each order chooses by itself, and who asked, which is said anew.
CHOSEN = ("vmid", "podId")


@pytest.mark.parametrize("what", ORDERS)
def test_every_order_can_be_given_anew_as_it_was(api, pod, fail, sql, what):
    first = order(api, what)
    fail(first["id"])
    answer = retry(api, first["id"], requestedBy="user-2")
    assert answer.status_code == 202, answer.text
    again = answer.json["job"]
    assert answer.headers["location"] == f"/internal/jobs/{again['id']}"
    assert again["retryOf"] == first["id"] != again["id"]
    same = ("type", "status", "tenantId", "nodeId", "dryRun")
    assert {name: again[name] for name in same} == {name: first[name] for name in same}
    # `before`: what the pod was before its destruction was ordered.
    chosen = (*(CHOSEN if first["payload"].get("autoVmid") else ()), "before")
    by = {"requestedBy": "user-2"} if first["tenantId"] else {}
    said = {name: value for name, value in again["payload"].items() if name not in chosen}
    assert said == {name: value for name, value in {**first["payload"], **by}.items() if name not in chosen}
    # The columns are the order's own as well.
    columns = ("changes_pod", "priority", "max_tries", "scheduled")
    old, new = (sql.row("cloud_pod_jobs", job["id"]) for job in (first, again))
    assert {name: old[name] for name in columns} == {name: new[name] for name in columns}


@pytest.mark.parametrize("what", ["create", "destroy"])
def test_who_ordered_it_need_not_be_called_as_a_body_may_say(api, pod, fail, sql, what):
    method, path, body = ORDERS[what]
    asks = api.as_user("owner", user="anna+pods@example.com")
    first = api.send(method, path, {**body, "requestedBy": "user-1"}, **asks).json["job"]
    fail(first["id"])
    answer = retry(api, first["id"], asks)
    assert answer.status_code == 202, answer.text
    jobs = (first, answer.json["job"])
    assert {job["requestedBy"] for job in jobs} == {first["payload"]["requestedBy"]} == {"anna+pods@example.com"}


def test_a_sweep_is_ordered_anew(api, pod, fail, sql):
    with db.session():
        (first,) = [job.id for job in sweep.order_due(60) if job.node_name == "lab1"]
    fail(first)
    again = retry(api, first).json["job"]
    assert (again["type"], again["retryOf"], again["cloudPodId"]) == ("HEALTH_SWEEP", first, None)


def test_an_adoption_is_ordered_anew(api, rows, fail, sql):
    seen = {
        "vmid": 9300,
        "status": "running",
        "hostname": "old-mail",
        "ip": "10.1.10.77",
        "cores": 1,
        "memoryMb": 512,
        "swapMb": 0,
        "diskGb": 8,
        "storage": "clients-main",
        "bridge": "vmbr0",
        "unfinished": False,
        "owner": None,
    }
    scan = rows.job("POD_SCAN", tenant_id=None, status="success", payload={})
    sql("UPDATE cloud_pod_jobs SET result = %s, finished_at = now() WHERE id = %s", Json({"foreign": [seen]}), scan)
    first = api.simulate_post("/internal/nodes/lab1/adopt", json={**MINE, "vmid": 9300}).json["job"]
    fail(first["id"])
    assert retry(api, first["id"], api.as_user("owner")).status_code == 403
    again = retry(api, first["id"]).json
    assert (again["job"]["retryOf"], again["cloudPod"]["vmid"], again["cloudPod"]["status"]) == (
        first["id"],
        9300,
        "provisioning",
    )


def test_every_action_was_tried():
    tried = {
        "HEALTH_SWEEP",
        "ADOPT",
        "CREATE",
        "DESTROY",
        "BACKUP",
        "SCALE",
        "POWER",
        "SNAPSHOT",
        "RESTORE",
        "RESTORE_DRILL",
        "HEALTH_CHECK",
        "RECONCILE",
        "NODE_SYNC",
        "POD_SCAN",
    }
    # A blueprint's is refused: its deployment is tried again (tests/shim/blueprints/test_deployments.py).
    assert tried == set(ACTIONS) - {"BLUEPRINT"}


# --- which jobs


@pytest.mark.parametrize(
    ("status", "code"), [("queued", "job_not_over"), ("running", "job_not_over"), ("success", "nothing_to_retry")]
)
def test_what_is_not_over_or_succeeded_is_not_ordered_anew(api, pod, rows, sql, assert_problem, status, code):
    job = rows.job(pod=pod)
    running = RUNS if status == "running" else f"status = '{status}'"
    sql(f"UPDATE cloud_pod_jobs SET {running} WHERE id = %s", job)
    assert_problem(retry(api, job), 409, code)
    assert sql.value("SELECT count(*) FROM cloud_pod_jobs") == 1


def test_a_cancelled_job_is_ordered_anew(api, pod, rows):
    job = rows.job(pod=pod, status="cancelled", payload={"vmid": 9101, "mode": "snapshot", **MINE})
    assert retry(api, job).json["job"]["retryOf"] == job


def test_a_job_is_ordered_anew_once_unless_that_failed_as_well(api, pod, fail, assert_problem):
    first = fail(order(api, "backup")["id"])
    second = retry(api, first).json["job"]["id"]
    problem = retry(api, first)
    assert_problem(problem, 409, "already_retried")
    assert (problem.json["jobId"], second in problem.json["detail"]) == (second, True)
    fail(second)
    third = retry(api, first)
    assert (third.status_code, third.json["job"]["retryOf"]) == (202, first)


def test_what_repeats_a_failed_retry_counts_for_the_first_as_well(api, pod, fail, sql, assert_problem):
    first = fail(order(api, "backup")["id"])
    second = fail(retry(api, first).json["job"]["id"])
    third = retry(api, second).json["job"]
    assert third["retryOf"] == second
    for job in (first, second):
        assert retry(api, job).json["jobId"] == third["id"]
    sql("UPDATE cloud_pod_jobs SET status = 'success' WHERE id = %s", third["id"])
    assert_problem(retry(api, first), 409, "already_retried")


def test_what_repeats_the_first_counts_for_its_failed_retry_as_well(api, pod, fail):
    first = fail(order(api, "backup")["id"])
    second = fail(retry(api, first).json["job"]["id"])
    third = retry(api, first).json["job"]
    assert retry(api, second).json["jobId"] == third["id"]


def test_those_who_follow_the_first_job_are_told(api, pod, fail, sql):
    first = fail(order(api, "backup")["id"])
    second = retry(api, first, requestedBy="user-2").json["job"]["id"]
    told = "SELECT tenant_id, cloud_pod_id, data FROM cloud_pod_events WHERE job_id = %s AND data->>'action' = 'JOB_RETRIED'"
    ((tenant, about, data),) = sql(told, first)
    assert (tenant, about) == (TENANT, pod)
    assert data.items() >= {"retryJobId": second, "requestedBy": "user-2"}.items()


def test_a_retry_wakes_a_worker(api, tenants, pod, fail):
    first = fail(order(api, "drill")["id"])
    wakeups = Wakeups(tenants.redis_url)
    before = wakeups.waiting("RESTORE_DRILL")
    retry(api, first)
    assert wakeups.waiting("RESTORE_DRILL") == before + 1


# --- who


@pytest.mark.parametrize(("role", "status"), [("owner", 202), ("admin", 202), ("dev", 403), ("billing", 403)])
def test_who_may_order_may_order_anew(api, pod, fail, sql, role, status):
    first = fail(order(api, "backup")["id"])
    before = sql.counts()
    assert retry(api, first, api.as_user(role)).status_code == status
    assert (sql.counts() == before) is (status == 403)


@pytest.mark.parametrize("what", ["backup", "create", "reconcile"])
def test_another_tenants_job_and_a_nodes_are_not_found(api, pod, fail, sql, assert_problem, what):
    first = fail(order(api, what)["id"])
    before = sql.counts()
    assert_problem(retry(api, first, api.as_user("owner", OTHER_TENANT)), 404, "job_not_found")
    assert_problem(retry(api, first, tenantId=OTHER_TENANT), 404, "job_not_found")
    assert sql.counts() == before


def test_a_nodes_look_is_not_a_tenants_to_order(api, pod, fail, assert_problem):
    first = fail(order(api, "reconcile")["id"])
    assert_problem(retry(api, first, api.as_user("owner")), 404, "job_not_found")


@pytest.mark.parametrize("job", ["no-such-job", "%00", "9101"])
def test_an_unknown_job_is_not_found(api, assert_problem, job):
    assert_problem(retry(api, job), 404, "job_not_found")


@pytest.mark.parametrize(
    ("body", "field"), [({"vmid": 1}, "vmid"), ({"tenantId": 1}, "tenantId"), ({"requestedBy": ""}, "requestedBy")]
)
def test_a_bad_body_is_refused(api, pod, fail, sql, assert_problem, body, field):
    first = fail(order(api, "backup")["id"])
    assert_problem(retry(api, first, **body), 422, "invalid_request", field=field)
    assert sql.value("SELECT count(*) FROM cloud_pod_jobs") == 1


# --- a new pod


def test_a_new_pod_is_another_one_with_another_vmid_and_the_failed_one_stays(api, pod, fail, sql):
    first = order(api, "create")
    fail(first["id"])
    again = retry(api, first["id"]).json
    assert again["cloudPod"]["id"] != first["cloudPodId"] == sql.row("cloud_pods", first["cloudPodId"])["id"]
    assert again["cloudPod"]["vmid"] != first["payload"]["vmid"]
    assert sql.row("cloud_pods", first["cloudPodId"])["status"] == "failed"
    assert sql.value("SELECT count(*) FROM quota_entries WHERE state = 'reserved'") == 1


@pytest.mark.parametrize("what", ["create just this one", "restore as just this one"])
def test_a_vmid_that_was_asked_for_is_asked_for_again(api, pod, fail, rows, assert_problem, what):
    first = fail(order(api, what)["id"])
    assert retry(api, first).json["cloudPod"].items() >= {"vmid": 9200, "ip": "10.1.10.99"}.items()


def test_a_vmid_that_somebody_has_by_now_is_refused(api, pod, fail, rows, sql, assert_problem):
    first = fail(order(api, "create just this one")["id"])
    rows.pod("lab2", tenant_id=OTHER_TENANT, vmid=9200)
    before = sql.counts()
    assert_problem(retry(api, first), 409, "vmid_taken", field="vmid")
    assert sql.counts() == before


@pytest.mark.parametrize("what", ["create", "restore as new"])
def test_what_a_new_pod_left_is_to_be_destroyed_first(api, pod, fail, sql, assert_problem, what):
    first = order(api, what)
    fail(first["id"], left="container 100")
    problem = retry(api, first["id"])
    assert_problem(problem, 409, "left_behind")
    assert (problem.json["cloudPodId"], problem.json["leftBehind"]) == (first["cloudPodId"], "container 100")
    destroy = api.simulate_post(f"/internal/cloudpods/{first['cloudPodId']}/destroy", json=MINE)
    assert destroy.status_code == 202, destroy.text
    assert_problem(retry(api, first["id"]), 409, "left_behind")
    sql(f"UPDATE cloud_pod_jobs SET {RUNS} WHERE id = %s", destroy.json["job"]["id"])
    with db.session():
        outcome.write(CloudPodJob.find(destroy.json["job"]["id"]), Outcome({"changed": True}, None))
    assert retry(api, first["id"]).status_code == 202


def test_a_pod_that_stands_after_all_is_not_made_again(api, pod, fail, sql, assert_problem):
    first = order(api, "create")
    fail(first["id"])
    sql("UPDATE cloud_pods SET status = 'active' WHERE id = %s", first["cloudPodId"])
    assert_problem(retry(api, first["id"]), 409, "nothing_to_retry")


def test_a_node_that_is_offline_by_now_gets_no_new_pod(api, pod, fail, sql, assert_problem):
    first = fail(order(api, "create just this one")["id"])
    sql("UPDATE cloud_pod_nodes SET status = 'offline' WHERE name = 'lab1'")
    before = sql.counts()
    answer = retry(api, first)
    assert answer.status_code in (409, 422), answer.text
    assert "lab1" in answer.json["detail"]
    assert sql.counts() == before


def test_a_copy_of_a_pod_that_no_order_could_name_is_ordered_anew(api, pod, fail, sql):
    # An adopted container may be of any size and name.
    sql("UPDATE cloud_pods SET memory_mb = 8, hostname = 'old_mail' WHERE id = %s", pod)
    first = fail(order(api, "restore as new")["id"])
    assert retry(api, first).json["job"]["payload"].items() >= {"memoryMb": 8, "hostname": "second"}.items()


# --- what became of the pod meanwhile


def test_quota_that_is_used_up_by_now_is_not_overdrawn(api, pod, fail, sql, assert_problem):
    first = fail(order(api, "create")["id"])
    sql("UPDATE tenant_quotas SET max_cpu_cores = used_cpu_cores + 1 WHERE tenant_id = %s", TENANT)
    before = sql.counts()
    assert_problem(retry(api, first), 409, "quota_exceeded")
    assert sql.counts() == before


CHANGES = ("backup", "scale", "power", "snapshot", "rollback", "delete a snapshot", "restore", "health", "scale, dry run")


@pytest.mark.parametrize("what", CHANGES)
def test_a_pod_that_is_deleted_by_now_is_not_changed(api, pod, fail, sql, rows, assert_problem, what):
    first = fail(order(api, what)["id"])
    sql("UPDATE cloud_pods SET status = 'deleted' WHERE id = %s", pod)
    # Its vmid is another tenant's pod by now.
    rows.pod("lab2", tenant_id=OTHER_TENANT, vmid=9101)
    before = sql.counts()
    problem = retry(api, first)
    assert_problem(problem, 409, "cloudpod_not_active")
    assert "deleted" in problem.json["detail"]
    assert sql.counts() == before


def test_a_deleted_pod_is_not_destroyed_anew(api, pod, fail, sql, assert_problem):
    first = fail(order(api, "destroy")["id"])
    sql("UPDATE cloud_pods SET status = 'deleted' WHERE id = %s", pod)
    assert_problem(retry(api, first), 409, "cloudpod_deleted")


def test_a_protected_pod_is_not_destroyed_anew(api, pod, fail, sql, assert_problem):
    first = fail(order(api, "destroy")["id"])
    sql("UPDATE cloud_pods SET protected = true WHERE id = %s", pod)
    assert_problem(retry(api, first), 409, "pod_protected")


def test_a_removed_archive_is_not_restored(api, pod, fail, sql):
    first = fail(order(api, "restore")["id"])
    sql("UPDATE cloud_pod_backups SET status = 'removed' WHERE cloud_pod_id = %s", pod)
    answer = retry(api, first)
    assert answer.status_code in (404, 409), answer.text


@pytest.mark.parametrize("what", ["health", "drill", "reconcile", "sync", "scan", "destroy"])
def test_what_is_on_its_way_already_is_named_instead(api, pod, fail, sql, assert_problem, what):
    first = fail(order(api, what)["id"])
    pending = order(api, what)["id"]
    before = sql.counts()
    problem = retry(api, first)
    assert_problem(problem, 409, "job_pending")
    assert problem.json["jobId"] == pending
    assert sql.counts() == before


def test_a_look_at_a_node_that_is_deleted_by_now_is_refused(api, pod, fail, sql, assert_problem):
    first = fail(order(api, "sync")["id"])
    sql("UPDATE cloud_pod_nodes SET deleted_at = now(), status = 'offline', address_pool_id = NULL WHERE name = 'lab1'")
    assert_problem(retry(api, first), 404, "node_not_found")


def test_a_change_of_a_pod_on_a_node_that_is_offline_waits_for_it(api, pod, fail, sql):
    first = fail(order(api, "backup")["id"])
    sql("UPDATE cloud_pod_nodes SET status = 'offline' WHERE name = 'lab1'")
    assert retry(api, first).json["job"]["status"] == "queued"


# --- a backup first


@pytest.fixture(params=["destroy", "scale"])
def with_backup(request, api, pod):
    """Order a change with a backup first; return the answer."""
    size = {"newCores": 4} if request.param == "scale" else {}
    answer = api.simulate_post(f"{POD}/{request.param}", json={**MINE, "backupFirst": True, **size})
    assert answer.status_code == 202, answer.text
    return answer.json


def test_a_change_whose_backup_failed_has_one_again(api, with_backup, fail):
    fail(with_backup["backupJob"]["id"])
    again = retry(api, with_backup["job"]["id"]).json
    assert (again["backupJob"]["type"], again["job"]["afterJobId"]) == ("BACKUP", again["backupJob"]["id"])
    assert again["backupJob"]["id"] != with_backup["backupJob"]["id"]
    assert (again["job"]["retryOf"], again["backupJob"]["retryOf"]) == (with_backup["job"]["id"], None)


def test_a_pod_that_was_backed_up_and_then_not_quite_destroyed_is_not_backed_up_again(api, with_backup, fail, sql):
    job, backup = with_backup["job"], with_backup["backupJob"]
    sql("UPDATE cloud_pod_jobs SET status = 'success' WHERE id = %s", backup["id"])
    fail(job["id"], left="container 9101")
    again = retry(api, job["id"])
    assert again.status_code == 202, again.text
    # A scale leaves the pod as it was: it is the whole order again.
    assert ("backupJob" in again.json) is (job["type"] == "SCALE")


# --- limits, keys, and two at once


def test_a_retry_counts_for_the_rate_limit_of_its_order(tenants, api_on, rows, fail, assert_problem):
    limited = api_on(tenants.model_copy(update={"rate_orders": "1/hour"}))
    rows.pod(vmid=9101)
    first = fail(order(limited, "backup")["id"])
    assert_problem(retry(limited, first), 429, "rate_limited")


def test_a_retry_sent_twice_with_a_key_is_one_job(api, pod, fail, sql):
    first = fail(order(api, "backup")["id"])
    one, two = (retry(api, first, {"Idempotency-Key": "again-1"}) for _ in range(2))
    assert one.json == two.json
    assert two.headers["idempotency-replayed"] == "true"
    assert sql.value("SELECT count(*) FROM cloud_pod_jobs") == 2


@pytest.mark.parametrize("what", ["backup", "create", "sync"])
def test_two_retries_at_once_give_one_job(api, pod, fail, sql, what):
    first = fail(order(api, what)["id"])
    # Of a chain each may be named.
    last = fail(retry(api, first).json["job"]["id"])
    at_once, answers = threading.Barrier(6), []

    def ask(job):
        at_once.wait()
        answers.append(retry(api, job))

    threads = [threading.Thread(target=ask, args=(job,)) for job in (first, last) * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(answer.status_code for answer in answers) == [202] + [409] * 5
    refused = {answer.json["code"] for answer in answers if answer.status_code == 409}
    assert refused == {"already_retried"}
    assert sql.value("SELECT count(*) FROM cloud_pod_jobs WHERE retry_of IS NOT NULL AND status = 'queued'") == 1
