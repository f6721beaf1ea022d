"""Deployments: ordered in one transaction, carried on as their jobs end, undone by their policy or by somebody's word."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from shim import db
from shim.blueprints import saga
from shim.blueprints.models import Deployment
from shim.jobs.models import CloudPodJob
from shim.worker import outcome
from tests.stacks import TENANT, bad, good

OTHER = "TENANT-456"
APP, DB = "wp-app-tenant-123", "wp-db-tenant-123"


@pytest.fixture(autouse=True)
def wordpress(stacks, seed):
    """Write the master spec's blueprint."""
    assert stacks.write(seed).status_code == 201


def nothing_is_left(sql):
    """Return whether neither quota nor shares of nodes, addresses or jobs are left of anything."""
    assert sql("SELECT used_cloud_pods, used_cpu_cores, used_ram_mb, used_disk_gb FROM tenant_quotas") == [(0, 0, 0, 0)] * 2
    assert sql.value("SELECT count(*) FROM quota_entries WHERE state = 'reserved'") == 0
    assert sql.value("SELECT count(*) FROM cloud_pod_allocations") == 0
    assert sql.value("SELECT count(*) FROM cloud_pods WHERE status NOT IN ('deleted', 'failed')") == 0
    assert sql.value("SELECT count(*) FROM cloud_pod_jobs WHERE status IN ('queued', 'running')") == 0
    return True


def secret_of(sql):
    return sql.value("SELECT secrets->>'database_password' FROM blueprint_deployments")


def told(sql):
    return [
        action for (action,) in sql("SELECT data->>'action' FROM cloud_pod_events WHERE data ? 'deploymentId' ORDER BY seq")
    ]


def test_it_is_ordered_with_all_that_it_takes_at_once(stacks, sql):
    made = stacks.deploy()
    assert (made["status"], made["policy"], made["blueprint"]) == ("creating", "rollback", "wordpress")
    assert [(pod["role"], pod["hostname"], pod["status"]) for pod in made["pods"]] == [
        ("app", APP, "provisioning"),
        ("db", DB, "provisioning"),
    ]
    assert [step["name"] for step in made["steps"]] == ["configure-database", "configure-wordpress", "create-dns-records"]
    assert set(stacks.jobs(made)) == {APP, DB}
    reserved = sql("SELECT sum(pods), sum(cpu_cores), sum(ram_mb) FROM quota_entries WHERE state = 'reserved'")
    assert reserved == [(2, 3, 3072)]
    assert sql("SELECT role, used_cpu_cores FROM cloud_pod_allocations ORDER BY role") == [("app", 2), ("db", 1)]
    listed = stacks.api.simulate_get("/internal/cloudpods").json["items"]
    assert {(pod["role"], pod["blueprint"]) for pod in listed} == {("app", "wordpress"), ("db", "wordpress")}


def test_it_becomes_active(stacks, sql):
    made = stacks.deploy()
    jobs = stacks.jobs(made)
    stacks.end(jobs[APP])
    assert (stacks.get(made)["status"], set(stacks.jobs(made))) == ("creating", {DB})
    stacks.end(jobs[DB])
    assert stacks.get(made)["status"] == "configuring"
    given = stacks.end(stacks.jobs(made)["BLUEPRINT"])
    assert given["stack"]["secrets"] == {"database_password": secret_of(sql)}
    assert [(pod["role"], pod["index"], pod["hostname"]) for pod in given["stack"]["pods"]] == [("app", 0, APP), ("db", 0, DB)]
    assert given["stack"]["tenant_slug"] == "tenant-123"
    after = stacks.get(made)
    assert (after["status"], after["outputs"]) == ("active", {"url": "https://stack.example.com"})
    assert {(step["status"], step["reason"], step["seconds"]) for step in after["steps"]} == {("done", None, 1.5)}
    assert told(sql)[-1] == "DEPLOYMENT_ACTIVE"


def test_what_a_worker_did_not_live_to_order_the_scheduler_orders_once(stacks):
    made = stacks.deploy()
    for job_id in stacks.jobs(made).values():
        stacks.end(job_id, look=False)
    assert stacks.jobs(made) == {}
    for _ in range(3):
        stacks.look()
    assert list(stacks.jobs(made)) == ["BLUEPRINT"]
    stacks.end(stacks.jobs(made)["BLUEPRINT"], look=False)
    assert stacks.get(made)["status"] == "configuring"
    stacks.look()
    assert stacks.get(made)["status"] == "active"


def test_secrets_are_shown_nowhere(stacks, sql):
    made = stacks.deploy()
    stacks.end_all(made)
    secret = secret_of(sql)
    assert len(secret) == 32
    assert secret not in json.dumps(stacks.get(made))
    everything = sql("SELECT j::text FROM cloud_pod_jobs j UNION ALL SELECT e::text FROM cloud_pod_events e")
    assert not [row for row in everything if secret in row[0]]
    stacks.api.simulate_delete(f"/internal/deployments/{made['id']}")
    stacks.end_all(made)
    assert stacks.get(made)["status"] == "destroyed"
    assert secret_of(sql) is None


def test_a_pod_waits_for_all_that_it_depends_on(stacks, seed, sql):
    cache = {"kind": "CloudPod", "role": "cache", "hostnamePattern": "c{index}-{tenantSlug}", "cores": 1, "memoryMb": 256}
    seed["resources"].append({**cache, "count": 2})
    seed["resources"][0]["dependsOn"] = ["cache", "db"]
    stacks.write(seed, "deep")
    made = stacks.deploy("deep")
    jobs = stacks.jobs(made)
    assert set(jobs) == {DB, "c0-tenant-123", "c1-tenant-123"}
    # Whatever the order in which they end.
    for name in ("c1-tenant-123", DB):
        stacks.end(jobs[name])
        assert APP not in stacks.jobs(made)
    stacks.end(jobs["c0-tenant-123"])
    assert set(stacks.jobs(made)) == {APP}
    stacks.end_all(made)
    assert stacks.get(made)["status"] == "active"


@pytest.mark.parametrize("which", ["db", "c0", "c1"])
def test_a_pod_whose_need_fails_is_not_begun(stacks, seed, which, sql):
    cache = {"kind": "CloudPod", "role": "cache", "hostnamePattern": "c{index}-{tenantSlug}", "cores": 1, "memoryMb": 256}
    seed["resources"].append({**cache, "count": 2})
    seed["resources"][0]["dependsOn"] = ["cache", "db"]
    stacks.write(seed, "deep")
    made = stacks.deploy("deep")
    failing = next(job for name, job in stacks.jobs(made).items() if name.startswith((which, f"wp-{which}")))
    stacks.end(failing, bad())
    assert sql.value("SELECT status FROM cloud_pods WHERE hostname = %s", APP) == "failed"
    stacks.end_all(made)
    assert stacks.get(made)["status"] == "rolled_back"
    assert nothing_is_left(sql)


def test_quota_for_one_pod_of_two_is_quota_for_none(stacks, sql, assert_problem):
    sql("UPDATE tenant_quotas SET max_cloud_pods = 1 WHERE tenant_id = %s", TENANT)
    answer = stacks.api.send("POST", "/blueprints/wordpress/deploy", {"tenantId": TENANT})
    assert_problem(answer, 409, "quota_exceeded")
    assert sql.counts() == dict.fromkeys(sql.counts(), 0)
    assert sql.value("SELECT count(*) FROM blueprint_deployments") == 0


def test_a_dry_run_tells_graph_quota_and_places_and_writes_nothing(stacks, sql, seed):
    seed["resources"][0]["dependsOn"] = ["db"]
    stacks.write(seed, "deep")
    answer = stacks.api.send("POST", "/blueprints/deep/deploy?dryRun=1", {"tenantId": TENANT})
    assert answer.status_code == 200, answer.text
    planned = answer.json["plan"]
    assert answer.json["deployment"] is None
    assert [(pod["role"], pod["dependsOn"], pod["node"]) for pod in planned["pods"]] == [
        ("db", [], "lab1"),
        ("app", ["db"], "lab2"),
    ] or {pod["node"] for pod in planned["pods"]} <= {"lab1", "lab2"}
    assert [step["name"] for step in planned["steps"]] == ["configure-database", "configure-wordpress", "create-dns-records"]
    assert planned["quota"]["asked"] == {"pods": 2, "cores": 3, "ramMb": 3072, "diskGb": 16}
    assert sql.counts() == dict.fromkeys(sql.counts(), 0)
    assert sql.value("SELECT count(*) FROM blueprint_deployments") == 0


def test_a_dry_run_is_refused_what_the_order_would_be(stacks, sql, assert_problem):
    sql("UPDATE tenant_quotas SET max_cpu_cores = 2 WHERE tenant_id = %s", TENANT)
    assert_problem(
        stacks.api.send("POST", "/blueprints/wordpress/deploy?dryRun=1", {"tenantId": TENANT}), 409, "quota_exceeded"
    )


BODIES = {
    "no tenant": ({}, 422, "tenantId"),
    "an unknown one": ({"tenantId": "TENANT-999"}, 404, "tenantId"),
    "a parameter": ({"tenantId": TENANT, "parameters": {"x": 1}}, 422, "/parameters/x"),
    "a policy": ({"tenantId": TENANT, "policy": "pray"}, 422, "policy"),
    "a node": ({"tenantId": TENANT, "node": "nowhere"}, 422, "node"),
    "a region": ({"tenantId": TENANT, "region": "moon"}, 422, "region"),
}


@pytest.mark.parametrize(("body", "status", "field"), BODIES.values(), ids=BODIES)
def test_a_bad_order_writes_nothing(stacks, sql, assert_problem, body, status, field):
    assert_problem(stacks.api.send("POST", "/blueprints/wordpress/deploy", body), status, field=field)
    assert sql.counts() == dict.fromkeys(sql.counts(), 0)


def test_the_same_key_deploys_once(stacks, sql):
    headers = {"Idempotency-Key": "one"}
    answers = [stacks.api.send("POST", "/blueprints/wordpress/deploy", {"tenantId": TENANT}, **headers) for _ in range(2)]
    assert answers[0].json == answers[1].json
    assert answers[1].headers["idempotency-replayed"] == "true"
    assert sql.value("SELECT count(*) FROM cloud_pods") == 2


def test_two_stacks_of_a_tenant_never_have_the_same_names(stacks, sql, assert_problem):
    first = stacks.deploy()
    for where in ("", "?dryRun=1"):
        again = stacks.api.send("POST", f"/blueprints/wordpress/deploy{where}", {"tenantId": TENANT})
        assert_problem(again, 409, "hostname_taken")
        assert (again.json["hostname"], again.json["deploymentId"]) == (APP, first["id"])
    assert sql.value("SELECT count(*) FROM cloud_pods") == 2
    # Another tenant's has another slug in them, and its own name tells one stack of a tenant from another.
    stacks.deploy(tenantId=OTHER)
    second = stacks.deploy(name="blog")
    assert second["name"] == "blog"
    assert [pod["hostname"] for pod in second["pods"]] == [f"{APP}--blog", f"{DB}--blog"]
    for job_id in stacks.jobs(second).values():
        stacks.end(job_id)
    given = stacks.end(stacks.jobs(second)["BLUEPRINT"])
    assert given["stack"]["tenant_slug"] == "tenant-123--blog"
    again = stacks.api.send("POST", "/blueprints/wordpress/deploy", {"tenantId": TENANT, "name": "blog"})
    assert_problem(again, 409, "hostname_taken")
    assert again.json["deploymentId"] == second["id"]


def test_the_names_of_a_stack_that_is_gone_are_free_and_a_kept_ones_are_not(stacks, assert_problem):
    kept = stacks.deploy(policy="keep")
    for job_id in stacks.jobs(kept).values():
        stacks.end(job_id, bad())
    assert stacks.get(kept)["status"] == "failed"
    # It may be tried again, and would make them anew.
    assert_problem(stacks.api.send("POST", "/blueprints/wordpress/deploy", {"tenantId": TENANT}), 409, "hostname_taken")
    assert stacks.api.send("POST", f"/deployments/{kept['id']}/retry").status_code == 202
    remove(stacks, kept)
    stacks.end_all(kept)
    assert stacks.get(kept)["status"] == "destroyed"
    stacks.deploy()


def test_names_differ_in_more_than_case(stacks, seed, assert_problem):
    stacks.deploy()
    seed["resources"][0]["hostnamePattern"] = "WP-App-{tenantSlug}"
    stacks.write(seed, "loud")
    answer = stacks.api.send("POST", "/blueprints/loud/deploy", {"tenantId": TENANT})
    assert_problem(answer, 409, "hostname_taken")


def test_a_name_whose_pods_would_have_none_is_refused(stacks, assert_problem):
    for name in ("-", "a_b", "x" * 33, "A", "", "a--b", "a-"):
        answer = stacks.api.send("POST", "/blueprints/wordpress/deploy", {"tenantId": TENANT, "name": name})
        assert_problem(answer, 422, field="name")


def test_a_step_that_the_house_is_not_set_up_for_is_left_out_and_told(stacks, seed, sql):
    stacks.write({**seed, "postCreate": ["name-it", "configure-database"]}, "named")
    planned = stacks.api.send("POST", "/blueprints/named/deploy?dryRun=1", {"tenantId": TENANT}).json["plan"]
    why = "this house has not set CLOUDPODS_DNS_ZONE, CLOUDPODS_DNS_SERVER"
    assert {step["name"]: step["reason"] for step in planned["steps"]} == {"name-it": why, "configure-database": None}
    made = stacks.deploy("named")
    assert {step["name"]: (step["status"], step["reason"]) for step in made["steps"]} == {
        "name-it": ("left_out", why),
        "configure-database": ("waiting", None),
    }
    warned = sql("SELECT message FROM cloud_pod_events WHERE data->>'action' = 'DEPLOYMENT_STEP_LEFT_OUT' AND type = 'WARN'")
    assert warned == [(f"Step name-it is left out: {why}",)]
    for job_id in stacks.jobs(made).values():
        stacks.end(job_id)
    given = stacks.end(stacks.jobs(made)["BLUEPRINT"])
    assert [step["name"] for step in given["stack"]["steps"]] == ["configure-database"]
    after = stacks.get(made)
    assert (after["status"], [step["status"] for step in after["steps"]]) == ("active", ["left_out", "done"])
    # Nothing was done that could be undone.
    remove(stacks, made)
    assert set(stacks.jobs(made)) == {APP, DB}


def test_a_stack_of_which_every_step_is_left_out_stands_with_its_pods(stacks, seed):
    stacks.write({**seed, "postCreate": ["name-it"]}, "named")
    made = stacks.deploy("named")
    for job_id in stacks.jobs(made).values():
        stacks.end(job_id)
    assert stacks.get(made)["status"] == "active"


@pytest.mark.parametrize("which", [APP, DB])
@pytest.mark.parametrize("other_first", [True, False])
def test_a_pod_that_cannot_be_made_takes_the_others_with_it(stacks, sql, which, other_first):
    made = stacks.deploy()
    jobs = stacks.jobs(made)
    if other_first:
        stacks.end(jobs[DB if which == APP else APP])
    stacks.end(jobs[which], bad())
    after = stacks.get(made)
    assert after["status"] in ("rolling_back", "rolled_back")
    assert which in after["error"]
    stacks.end_all(made)
    assert stacks.get(made)["status"] == "rolled_back"
    assert nothing_is_left(sql)


def configuring(stacks, **more):
    made = stacks.deploy(**more)
    for job_id in stacks.jobs(made).values():
        stacks.end(job_id)
    return made


STEP_FAILED = "node localhost: step configure-wordpress on wp-app-tenant-123: apt is broken"


def test_a_failed_step_is_named_and_rolled_back_after_its_undoing(stacks, sql):
    made = configuring(stacks)
    stacks.end(stacks.jobs(made)["BLUEPRINT"], bad(STEP_FAILED))
    after = stacks.get(made)
    assert (after["status"], after["failedStep"]) == ("rolling_back", "configure-wordpress")
    assert {step["name"]: step["status"] for step in after["steps"]} == {
        "configure-database": "done",
        "configure-wordpress": "failed",
        "create-dns-records": "waiting",
    }
    undo = stacks.jobs(made)
    assert list(undo) == ["BLUEPRINT"]
    given = stacks.end(undo["BLUEPRINT"])
    assert given["undo"] is True
    assert set(stacks.jobs(made)) == {APP, DB}
    stacks.end_all(made)
    after = stacks.get(made)
    assert (after["status"], after["error"]) == ("rolled_back", STEP_FAILED)
    assert nothing_is_left(sql)


def test_a_pod_that_never_lets_in_is_named_and_rolled_back(stacks, sql):
    made = configuring(stacks)
    said = f"node localhost: {APP} (10.1.10.50) did not let us in by SSH within 300 s: timed out"
    stacks.end(stacks.jobs(made)["BLUEPRINT"], bad(said))
    after = stacks.get(made)
    assert (after["status"], after["failedStep"], after["error"]) == ("rolling_back", None, said)
    assert {step["status"] for step in after["steps"]} == {"waiting"}
    stacks.end_all(made)
    assert stacks.get(made)["status"] == "rolled_back"
    assert nothing_is_left(sql)


@pytest.mark.parametrize("policy", ["rollback", "keep"])
@pytest.mark.parametrize("step", ["configure-database", "configure-wordpress", "create-dns-records"])
def test_a_failure_at_any_step_goes_by_the_policy_and_leaves_nothing(stacks, sql, step, policy):
    made = configuring(stacks, policy=policy)
    stacks.end(stacks.jobs(made)["BLUEPRINT"], bad(f"node localhost: step {step} on {APP}: broken"))
    after = stacks.get(made)
    assert (after["status"], after["failedStep"]) == ("rolling_back" if policy == "rollback" else "failed", step)
    if policy == "keep":
        assert remove(stacks, made).status_code == 202
    stacks.end_all(made)
    assert stacks.get(made)["status"] == ("rolled_back" if policy == "rollback" else "destroyed")
    assert nothing_is_left(sql)


def test_an_undoing_that_fails_in_a_rollback_is_told_and_keeps_no_pod(stacks, sql):
    made = configuring(stacks)
    stacks.end(stacks.jobs(made)["BLUEPRINT"], bad(STEP_FAILED))
    stacks.end(stacks.jobs(made)["BLUEPRINT"], bad("the name server does not answer"))
    stacks.end_all(made)
    after = stacks.get(made)
    assert after["status"] == "rolled_back"
    assert "the name server does not answer" in after["error"]
    assert nothing_is_left(sql)


def test_by_keep_it_stays_and_goes_on_from_the_failed_step(stacks):
    made = configuring(stacks, policy="keep")
    stacks.end(stacks.jobs(made)["BLUEPRINT"], bad(STEP_FAILED))
    after = stacks.get(made)
    assert (after["status"], after["failedStep"]) == ("failed", "configure-wordpress")
    assert {pod["status"] for pod in after["pods"]} == {"active"}
    again = stacks.api.send("POST", f"/deployments/{made['id']}/retry")
    assert again.status_code == 202, again.text
    assert (again.json["status"], again.json["error"]) == ("configuring", None)
    given = stacks.end(stacks.jobs(made)["BLUEPRINT"])
    assert given["from_step"] == "configure-wordpress"
    assert stacks.get(made)["status"] == "active"


def test_by_keep_a_pod_that_was_not_made_is_made_anew(stacks, sql):
    made = stacks.deploy(policy="keep")
    jobs = stacks.jobs(made)
    stacks.end(jobs[DB], bad())
    assert stacks.get(made)["status"] == "creating"
    stacks.end(jobs[APP])
    after = stacks.get(made)
    assert (after["status"], DB in after["error"]) == ("failed", True)
    again = stacks.api.send("POST", f"/deployments/{made['id']}/retry")
    assert again.status_code == 202, again.text
    assert again.json["status"] == "creating"
    assert set(stacks.jobs(made)) == {DB}
    assert again.json["pods"][0] == after["pods"][0]
    assert again.json["pods"][1]["cloudPodId"] != after["pods"][1]["cloudPodId"]
    stacks.end_all(made)
    assert stacks.get(made)["status"] == "active"
    assert sql("SELECT used_cloud_pods FROM tenant_quotas WHERE tenant_id = %s", TENANT) == [(2,)]


def test_a_retry_finds_the_quota_used_up_meanwhile(stacks, sql, assert_problem):
    made = stacks.deploy(policy="keep")
    jobs = stacks.jobs(made)
    stacks.end(jobs[APP])
    stacks.end(jobs[DB], bad())
    sql("UPDATE tenant_quotas SET max_cloud_pods = 1 WHERE tenant_id = %s", TENANT)
    assert_problem(stacks.api.send("POST", f"/deployments/{made['id']}/retry"), 409, "quota_exceeded")
    assert stacks.get(made)["status"] == "failed"


@pytest.mark.parametrize("ended", ["creating", "active"])
def test_only_a_failed_one_is_tried_again(stacks, ended, assert_problem):
    made = stacks.deploy()
    if ended == "active":
        stacks.end_all(made)
    assert_problem(stacks.api.send("POST", f"/deployments/{made['id']}/retry"), 409, "deployment_not_failed")


def test_its_job_is_tried_again_by_the_deployment_only(stacks, assert_problem):
    made = configuring(stacks, policy="keep")
    job_id = stacks.jobs(made)["BLUEPRINT"]
    stacks.end(job_id, bad(STEP_FAILED))
    assert_problem(stacks.api.send("POST", f"/jobs/{job_id}/retry"), 409, "part_of_deployment")


def test_nor_is_a_pod_of_it_made_anew_by_itself(stacks, sql, assert_problem):
    made = stacks.deploy(policy="keep")
    job_id = stacks.jobs(made)[DB]
    stacks.end(job_id, bad())
    assert_problem(stacks.api.send("POST", f"/jobs/{job_id}/retry"), 409, "part_of_deployment")
    assert sql.value("SELECT count(*) FROM cloud_pods") == 2


def remove(stacks, made):
    return stacks.api.simulate_delete(f"/internal/deployments/{made['id']}")


def test_it_is_destroyed_in_reverse(stacks, seed, sql):
    seed["resources"][0]["dependsOn"] = ["db"]
    stacks.write(seed, "deep")
    made = stacks.deploy("deep")
    stacks.end_all(made)
    answer = remove(stacks, made)
    assert answer.status_code == 202, answer.text
    assert answer.json["status"] == "destroying"
    for expected in ("BLUEPRINT", APP, DB):
        assert list(stacks.jobs(made)) == [expected]
        stacks.end(stacks.jobs(made)[expected])
    assert stacks.get(made)["status"] == "destroyed"
    assert nothing_is_left(sql)


def test_it_is_destroyed_while_it_is_made(stacks, sql, assert_problem):
    made = stacks.deploy()
    stacks.end(stacks.jobs(made)[DB])
    assert remove(stacks, made).status_code == 202
    assert remove(stacks, made).status_code == 202
    stacks.end_all(made)
    assert stacks.get(made)["status"] == "destroyed"
    assert (
        sql.value("SELECT status FROM cloud_pod_jobs WHERE type = 'CREATE' AND payload->>'hostname' = %s", APP) == "cancelled"
    )
    assert nothing_is_left(sql)
    assert_problem(remove(stacks, made), 409, "deployment_gone")


def test_it_is_destroyed_while_it_is_configured(stacks, sql):
    made = configuring(stacks)
    job_id = stacks.jobs(made)["BLUEPRINT"]
    sql(
        "UPDATE cloud_pod_jobs SET status = 'running', attempt = 1, tries = 1, lease_until = now() + interval '1 h'"
        " WHERE id = %s",
        job_id,
    )
    assert remove(stacks, made).status_code == 202
    assert sql.value("SELECT cancel_requested_at IS NOT NULL FROM cloud_pod_jobs WHERE id = %s", job_id)
    sql("UPDATE cloud_pod_jobs SET status = 'cancelled', lease_until = NULL WHERE id = %s", job_id)
    stacks.look()
    stacks.end_all(made)
    assert stacks.get(made)["status"] == "destroyed"
    assert nothing_is_left(sql)


def test_a_protected_pod_keeps_its_stack(stacks, sql, assert_problem):
    made = stacks.deploy()
    stacks.end_all(made)
    sql("UPDATE cloud_pods SET protected = true WHERE hostname = %s", DB)
    assert_problem(remove(stacks, made), 409, "pod_protected")
    assert stacks.get(made)["status"] == "active"


def test_a_pod_that_cannot_be_destroyed_is_told_and_tried_again(stacks, sql):
    made = stacks.deploy()
    stacks.end_all(made)
    remove(stacks, made)
    stacks.end(stacks.jobs(made)["BLUEPRINT"])
    jobs = stacks.jobs(made)
    stacks.end(jobs[DB], bad("node lab1: is ill", "container 1"))
    stacks.end(jobs[APP])
    after = stacks.get(made)
    assert after["status"] == "failed"
    assert DB in after["error"]
    assert "is ill" in after["error"]
    assert stacks.api.send("POST", f"/deployments/{made['id']}/retry").status_code == 202
    stacks.end_all(made)
    assert stacks.get(made)["status"] == "destroyed"
    assert nothing_is_left(sql)


def test_a_pod_that_is_gone_while_somebody_looks_is_gone(stacks, sql, monkeypatch):
    made = stacks.deploy()
    stacks.end_all(made)
    remove(stacks, made)
    stacks.end(stacks.jobs(made)["BLUEPRINT"])
    jobs = stacks.jobs(made)
    stacks.end(jobs[APP], look=False)
    sql(
        "UPDATE cloud_pod_jobs SET status = 'running', attempt = 1, tries = 1, lease_until = now() + interval '1 h'"
        " WHERE id = %s",
        jobs[DB],
    )

    def end():
        with db.session():
            job = CloudPodJob.find(jobs[DB])
            outcome.write(job, good(job))

    first_look = Deployment.pods
    looks = []

    def look_and_then_it_ends(deployment):
        rows = first_look(deployment)
        if not looks:
            with ThreadPoolExecutor(1) as another_worker:
                another_worker.submit(end).result()
        looks.append(rows)
        return rows

    monkeypatch.setattr(Deployment, "pods", look_and_then_it_ends)
    with db.session():
        saga.advance(made["id"])
    assert {row.cloud_pod.status for row in looks[0]} == {"deleted", "deleting"}
    after = stacks.get(made)
    assert (after["status"], after["error"]) == ("destroyed", None)
    assert nothing_is_left(sql)


def test_undoing_that_fails_keeps_a_stack_that_is_to_be_destroyed(stacks, sql):
    made = stacks.deploy()
    stacks.end_all(made)
    remove(stacks, made)
    stacks.end(stacks.jobs(made)["BLUEPRINT"], bad("the name server does not answer"))
    after = stacks.get(made)
    assert after["status"] == "failed"
    assert "the name server does not answer" in after["error"]
    assert remove(stacks, made).status_code == 202
    stacks.end_all(made)
    assert stacks.get(made)["status"] == "destroyed"


def test_a_pod_that_somebody_destroyed_meanwhile_is_no_hindrance(stacks, sql):
    made = stacks.deploy()
    stacks.end_all(made)
    pod = made["pods"][0]
    answer = stacks.api.send("POST", f"/cloudpods/{pod['vmid']}/destroy", {"tenantId": TENANT})
    remove(stacks, made)
    stacks.end_all(made)
    if answer.json["job"]["id"] in stacks.jobs(made).values():
        stacks.end_all(made)
    assert stacks.get(made)["status"] == "destroyed"
    assert nothing_is_left(sql)


def test_looking_again_and_again_orders_nothing_twice(stacks, sql):
    made = configuring(stacks)
    with db.session():
        assert [saga.advance(made["id"]) for _ in range(3)] == [[]] * 3
    assert sql.value("SELECT count(*) FROM cloud_pod_jobs WHERE type = 'BLUEPRINT'") == 1


def test_a_blueprint_with_a_stack_is_not_deleted(stacks, assert_problem):
    made = stacks.deploy()
    assert_problem(stacks.api.simulate_delete("/internal/blueprints/wordpress"), 409, "blueprint_in_use")
    remove(stacks, made)
    stacks.end_all(made)
    assert stacks.api.simulate_delete("/internal/blueprints/wordpress").status_code == 204
    assert stacks.get(made)["blueprint"] == "wordpress"


def test_what_was_deployed_stays_when_its_blueprint_is_written_anew(stacks, seed):
    made = stacks.deploy()
    seed["postCreate"] = []
    assert stacks.api.send("PUT", "/blueprints/wordpress", {"name": "a", "spec": seed}).status_code == 200
    stacks.end_all(made)
    assert [step["status"] for step in stacks.get(made)["steps"]] == ["done"] * 3


def test_they_are_listed_for_their_tenant(stacks):
    mine, theirs = stacks.deploy(), stacks.deploy(tenantId=OTHER)
    api = stacks.api

    def listed(headers=None, **query):
        answer = api.simulate_get("/internal/deployments", headers=headers, params=query)
        assert answer.status_code == 200, answer.text
        return [each["id"] for each in answer.json["items"]]

    assert listed() == [theirs["id"], mine["id"]]
    assert listed(tenantId=OTHER) == [theirs["id"]]
    assert listed(blueprint="wordpress", status="creating", limit=1) == [theirs["id"]]
    assert listed(blueprint="other") == []
    owner = api.as_user("owner")
    assert listed(owner) == [mine["id"]]
    assert api.simulate_get(f"/internal/deployments/{theirs['id']}", headers=owner).status_code == 404
    assert api.simulate_delete(f"/internal/deployments/{theirs['id']}", headers=owner).status_code == 404


def test_a_tenants_owner_deploys_and_destroys(stacks, sql):
    owner = stacks.api.as_user("owner")
    answer = stacks.api.simulate_post("/internal/blueprints/wordpress/deploy", json={"tenantId": TENANT}, headers=owner)
    assert answer.status_code == 202, answer.text
    made = answer.json["deployment"]
    assert made["requestedBy"] == "user-1"
    stacks.end_all(made)
    assert sql("SELECT DISTINCT requested_by FROM cloud_pod_jobs") == [("user-1",)]
    assert stacks.api.simulate_delete(f"/internal/deployments/{made['id']}", headers=owner).status_code == 202
    stacks.end_all(made)
    assert stacks.get(made)["status"] == "destroyed"
    dev = stacks.api.as_user("dev")
    answer = stacks.api.simulate_post("/internal/blueprints/wordpress/deploy", json={"tenantId": TENANT}, headers=dev)
    assert answer.status_code == 403
