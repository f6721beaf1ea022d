"""What becomes of a stack when somebody else takes a pod of it, its tenant's name, or its name server away."""

import pytest

from tests.stacks import TENANT, bad

APP, DB = "wp-app-tenant-123", "wp-db-tenant-123"


@pytest.fixture(autouse=True)
def wordpress(stacks, seed):
    """Write the master spec's blueprint."""
    assert stacks.write(seed).status_code == 201


def remove(stacks, made, **query):
    return stacks.api.simulate_delete(f"/internal/deployments/{made['id']}", params=query)


def destroy(stacks, pod):
    """Destroy a pod by its own route, to the end."""
    answer = stacks.api.send("POST", f"/cloudpods/{pod['vmid']}/destroy", {"tenantId": TENANT})
    assert answer.status_code == 202, answer.text
    stacks.end(answer.json["job"]["id"])


def configuring(stacks, **more):
    made = stacks.deploy(**more)
    for job_id in stacks.jobs(made).values():
        stacks.end(job_id)
    return made


@pytest.mark.parametrize("gone", [{APP}, {DB}, {APP, DB}], ids=["app", "db", "both"])
def test_the_names_of_a_pod_that_is_gone_are_undone_too(stacks, gone):
    made = stacks.deploy()
    stacks.end_all(made)
    there = {pod["hostname"]: pod for pod in stacks.get(made)["pods"]}
    for hostname in gone:
        destroy(stacks, there[hostname])
    assert remove(stacks, made).status_code == 202
    given = stacks.end(stacks.jobs(made)["BLUEPRINT"])
    assert given["undo"] is True
    told = {pod["hostname"]: (pod["ip"], pod["there"]) for pod in given["stack"]["pods"]}
    assert told == {hostname: (pod["ip"], hostname not in gone) for hostname, pod in there.items()}
    assert all(pod["ip"] for pod in there.values())
    stacks.end_all(made)
    assert stacks.get(made)["status"] == "destroyed"


def test_only_steps_that_can_be_undone_are_told_to_an_undoing(stacks):
    made = stacks.deploy()
    stacks.end_all(made)
    remove(stacks, made)
    given = stacks.end(stacks.jobs(made)["BLUEPRINT"])
    assert [step["name"] for step in given["stack"]["steps"]] == ["create-dns-records"]


@pytest.mark.parametrize("policy", ["rollback", "keep"])
def test_a_stack_of_which_a_pod_went_while_it_was_configured_does_not_stand(stacks, policy):
    made = configuring(stacks, policy=policy)
    destroy(stacks, stacks.get(made)["pods"][0])
    given = stacks.end(stacks.jobs(made)["BLUEPRINT"])
    assert {pod["hostname"]: pod["there"] for pod in given["stack"]["pods"]} == {APP: False, DB: True}
    after = stacks.get(made)
    assert after["status"] == ("failed" if policy == "keep" else "rolling_back")
    assert after["error"] == f"pod {APP} is deleted"
    stacks.end_all(made)
    assert stacks.get(made)["status"] == ("failed" if policy == "keep" else "rolled_back")


def test_a_retry_makes_a_pod_anew_under_its_old_name(stacks):
    made = stacks.deploy(policy="keep")
    jobs = stacks.jobs(made)
    stacks.end(jobs[DB])
    stacks.end(jobs[APP], bad())
    stacks.end_all(made)
    assert stacks.get(made)["status"] == "failed"
    changed = stacks.api.send("PUT", f"/tenants/{TENANT}", {"slug": "renamed"})
    assert changed.status_code == 200, changed.text
    assert stacks.api.send("POST", f"/deployments/{made['id']}/retry").status_code == 202
    stacks.end_all(made)
    after = stacks.get(made)
    assert (after["status"], [pod["hostname"] for pod in after["pods"]]) == ("active", [APP, DB])


def test_a_stack_that_cannot_be_undone_goes_when_it_must(stacks, sql, assert_problem):
    made = stacks.deploy()
    stacks.end_all(made)
    assert_problem(remove(stacks, made, force="perhaps"), 422, field="force")
    remove(stacks, made)
    stacks.end(stacks.jobs(made)["BLUEPRINT"], bad("the name server is no more"))
    after = stacks.get(made)
    assert after["status"] == "failed"
    assert "?force=1" in after["error"]
    assert remove(stacks, made, force="1").status_code == 202
    # It is tried all the same: it may go well this time.
    stacks.end(stacks.jobs(made)["BLUEPRINT"], bad("the name server is no more"))
    assert set(stacks.jobs(made)) == {APP, DB}
    stacks.end_all(made)
    after = stacks.get(made)
    assert after["status"] == "destroyed"
    assert "the name server is no more" in after["error"]
    assert (
        sql.value("SELECT count(*) FROM cloud_pod_events WHERE type = 'WARN' AND data->>'action' = 'DEPLOYMENT_DESTROYED'") == 1
    )


def test_force_said_while_it_is_undone_counts(stacks):
    made = stacks.deploy()
    stacks.end_all(made)
    remove(stacks, made)
    assert remove(stacks, made, force="1").status_code == 202
    stacks.end(stacks.jobs(made)["BLUEPRINT"], bad("the name server is no more"))
    stacks.end_all(made)
    assert stacks.get(made)["status"] == "destroyed"


def test_a_tenant_with_a_stack_is_not_deleted_though_its_pods_are_gone(stacks, sql, assert_problem):
    made = stacks.deploy()
    stacks.end_all(made)
    for pod in stacks.get(made)["pods"]:
        destroy(stacks, pod)
    refused = stacks.api.simulate_delete(f"/internal/tenants/{TENANT}")
    assert_problem(refused, 409, "tenant_has_deployments")
    assert refused.json["deploymentIds"] == [made["id"]]
    remove(stacks, made)
    stacks.end_all(made)
    assert stacks.api.simulate_delete(f"/internal/tenants/{TENANT}").status_code == 204
    assert sql.value("SELECT count(*) FROM blueprint_deployments WHERE secrets <> '{}'") == 0
