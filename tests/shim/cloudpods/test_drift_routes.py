"""Drift over HTTP: reports, their filters and pages, and the order to look now."""

import json

import pytest

TENANT, OTHER_TENANT = "TENANT-123", "TENANT-456"


@pytest.fixture
def report(rows, sql):
    """Return a maker of reports; the newest is the one with the highest number."""

    def make(number, *items, node="lab1"):
        found = [
            {"kind": kind, "vmid": vmid, "cloudPodId": "x", "tenantId": tenant, "table": {}, "node": {}, "mend": None}
            for kind, vmid, tenant in items
        ]
        sql(
            "INSERT INTO drift_reports (node_id, job_id, checked, counts, items, looked_at, created_at)"
            " VALUES (%s, %s, 3, '{}', %s, '2026-01-01', timestamptz '2026-01-01' + make_interval(secs => %s))",
            rows.node_id(node),
            f"job{number}",
            json.dumps(found),
            number,
        )

    return make


def jobs(answer):
    assert answer.status_code == 200, answer.text
    return [item["jobId"] for item in answer.json["items"]]


def pages(api, query, limit):
    found, cursor = [], ""
    while cursor is not None:
        answer = api.simulate_get(f"/internal/drift?limit={limit}{query}{cursor and '&cursor=' + cursor}")
        found.append(jobs(answer))
        cursor = answer.json["next"]
    return found


def test_the_newest_report_of_each_node(api, report):
    report(1, node="lab2")
    report(2)
    report(3)
    assert jobs(api.simulate_get("/internal/drift")) == ["job3", "job1"]
    assert jobs(api.simulate_get("/api/drift?node=lab2")) == ["job1"]
    assert jobs(api.simulate_get("/internal/drift?node=nobody")) == []
    assert pages(api, "", 1) == [["job3"], ["job1"]]


def test_all_reports_newest_first(api, report):
    for number in range(1, 6):
        report(number, node="lab1" if number % 2 else "lab2")
    assert pages(api, "&history=1", 2) == [["job5", "job4"], ["job3", "job2"], ["job1"]]
    assert pages(api, "&history=1&node=lab1", 2) == [["job5", "job3"], ["job1"]]


def test_items_of_a_kind_and_of_a_tenant(api, report):
    report(1, ("size", 9101, TENANT), ("power", 9102, OTHER_TENANT), ("size", 9103, OTHER_TENANT))

    def vmids(query):
        (found,) = api.simulate_get(f"/internal/drift?{query}").json["items"]
        return [item["vmid"] for item in found["items"]]

    assert vmids("kind=size") == [9101, 9103]
    assert vmids(f"tenantId={OTHER_TENANT}") == [9102, 9103]
    assert vmids(f"tenantId={OTHER_TENANT}&kind=power") == [9102]
    assert vmids("tenantId=nobody") == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("kind=odd", "kind"),
        ("odd=1", "odd"),
        ("cursor=odd", "cursor"),
        ("limit=0", "limit"),
        ("node=%00", "node"),
    ],
)
def test_a_bad_query_is_a_problem(api, assert_problem, query, field):
    assert_problem(api.simulate_get(f"/internal/drift?{query}"), 422, field=field)


def test_history_is_true_or_false(api, assert_problem):
    assert_problem(api.simulate_get("/internal/drift?history=odd"), 422, "invalid_request", field="history")


def test_a_look_is_ordered_once(api, sql):
    first, second = (api.simulate_post("/internal/nodes/lab1/reconcile") for _ in range(2))
    assert first.status_code == second.status_code == 202
    assert first.json["job"] == second.json["job"]
    assert (first.json["job"]["type"], first.json["job"]["payload"]) == ("RECONCILE", {"mends": ["moved"]})
    assert first.headers["location"] == f"/internal/jobs/{first.json['job']['id']}"
    assert sql.value("SELECT count(*) FROM cloud_pod_jobs") == 1


def test_a_look_at_no_node(api, assert_problem):
    assert_problem(api.simulate_post("/internal/nodes/nobody/reconcile"), 404, "node_not_found")
    assert_problem(api.simulate_post("/internal/nodes/lab1/reconcile?odd=1"), 422, field="odd")


def test_no_token_no_drift(api, assert_problem):
    for answer in (
        api.simulate_get("/internal/drift", headers={"Authorization": "Bearer nobody"}),
        api.simulate_post("/internal/nodes/lab1/reconcile", headers={"Authorization": "Bearer nobody"}),
    ):
        assert_problem(answer, 401)


def test_a_sync_is_ordered_once(api):
    first, second = (api.simulate_post("/internal/nodes/lab2/sync") for _ in range(2))
    assert first.status_code == second.status_code == 202
    assert first.json["job"] == second.json["job"]
    assert first.json["job"]["type"] == "NODE_SYNC"
