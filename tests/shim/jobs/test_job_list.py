"""The list of jobs: filters, pages, and another tenant's."""

import pytest

from shim import caller
from shim.caller import Caller
from shim.errors import NotFound
from shim.jobs.listing import list_jobs
from shim.jobs.schemas import JobsQuery

TENANT, OTHER_TENANT = "TENANT-123", "TENANT-456"


def ids(api, **params):
    answer = api.simulate_get("/internal/jobs", params=params)
    assert answer.status_code == 200, answer.text
    return [job["id"] for job in answer.json["items"]]


@pytest.fixture
def jobs(rows):
    """Make jobs, oldest first; return their ids by name, and the first pod's."""
    pod, other = rows.pod(), rows.pod("lab2", tenant_id=OTHER_TENANT)
    made = {
        "old": rows.job("BACKUP", pod=pod, status="success"),
        "others": rows.job("DESTROY", pod=other, node="lab2", tenant_id=OTHER_TENANT),
        "new": rows.job("SCALE", pod=pod),
    }
    return {**made, "pod": pod}


def test_jobs_are_listed_newest_first(api, jobs):
    assert ids(api) == [jobs["new"], jobs["others"], jobs["old"]]


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"tenantId": TENANT}, ["new", "old"]),
        ({"tenantId": OTHER_TENANT}, ["others"]),
        ({"type": "BACKUP"}, ["old"]),
        ({"status": "queued"}, ["new", "others"]),
        ({"node": "lab2"}, ["others"]),
        ({"node": "nowhere"}, []),
        ({"tenantId": TENANT, "status": "success", "node": "lab1"}, ["old"]),
        ({"cloudPodId": "no such pod"}, []),
    ],
)
def test_filters_narrow_the_list(api, jobs, params, expected):
    assert ids(api, **params) == [jobs[name] for name in expected]


def test_the_jobs_of_a_pod(api, jobs):
    assert ids(api, cloudPodId=jobs["pod"]) == [jobs["new"], jobs["old"]]


def test_pages_follow_each_other_without_gap_or_repeat(api, rows):
    pod = rows.pod()
    made = [rows.job("SCALE", pod=pod, created_at="2026-01-01") for _ in range(5)]
    seen, cursor = [], None
    while True:
        page = api.simulate_get("/internal/jobs", params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json
        seen += [job["id"] for job in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == sorted(made, reverse=True)


@pytest.mark.parametrize(
    ("params", "field"),
    [({"status": "done"}, "status"), ({"limit": "0"}, "limit"), ({"vmid": "1"}, "vmid"), ({"cursor": "x"}, "cursor")],
)
def test_a_bad_query_is_refused(api, assert_problem, params, field):
    assert_problem(api.simulate_get("/internal/jobs", params=params), 422, "invalid_request", field=field)


def test_no_such_tenant_is_not_found(api, assert_problem):
    assert_problem(api.simulate_get("/internal/jobs", params={"tenantId": "TENANT-9"}), 404, "tenant_not_found")


def test_who_belongs_to_a_tenant_sees_its_jobs_only(session, jobs):
    with caller.asking(Caller(name="a", role="dev", tenant_id=OTHER_TENANT)):
        assert [job.id for job in list_jobs(JobsQuery())[0]] == [jobs["others"]]
        with pytest.raises(NotFound):
            list_jobs(JobsQuery(tenantId=TENANT))
