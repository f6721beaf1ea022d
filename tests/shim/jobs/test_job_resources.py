"""GET of a job and of its events."""

import base64
import json

import pytest

PREFIXES = pytest.mark.parametrize("prefix", ["/internal", "/api"])
UNKNOWN = ["no-such-job", "%00", "9101", "%ff", "a%20b", "%F0%9F"]


@pytest.fixture
def events(api, rows, sql):
    """Make a job with events numbered from 0; return its id."""
    pod = rows.pod(vmid=9101)
    job = rows.job(pod=pod)
    sql(
        "INSERT INTO cloud_pod_events (job_id, cloud_pod_id, tenant_id, type, message)"
        " SELECT %s, %s, 'TENANT-123', 'INFO', n::text FROM generate_series(0, 24) n",
        job,
        pod,
    )
    return job


def pages(api, job, limit, prefix="/internal"):
    """Return the messages of all pages."""
    seen, cursor = [], ""
    while cursor is not None:
        answer = api.simulate_get(
            f"{prefix}/jobs/{job}/events", params={"limit": limit, **({"cursor": cursor} if cursor else {})}
        )
        seen, cursor = seen + [event["message"] for event in answer.json["items"]], answer.json["next"]
    return seen


@PREFIXES
def test_a_job_is_read_with_every_name_of_the_master_specs_model(api, rows, prefix):
    job = rows.job(pod=rows.pod(vmid=9101), requested_by="user-1")
    answer = api.simulate_get(f"{prefix}/jobs/{job}")
    assert answer.status_code == 200
    names = "id cloudPodId tenantId type status payload result error createdAt startedAt finishedAt"
    assert set(names.split()) <= set(answer.json)
    assert answer.json.items() >= {"id": job, "type": "BACKUP", "status": "queued", "requestedBy": "user-1"}.items()


@pytest.mark.parametrize("path", ["", "/events"])
@pytest.mark.parametrize("job", UNKNOWN)
def test_an_unknown_job_is_not_found(api, assert_problem, path, job):
    assert_problem(api.simulate_get(f"/internal/jobs/{job}{path}"), 404, "job_not_found")


@PREFIXES
@pytest.mark.parametrize("limit", [1, 7, 24, 25, 200])
def test_events_come_oldest_first_each_once(api, events, prefix, limit):
    assert pages(api, events, limit, prefix) == [str(n) for n in range(25)]


def test_an_event_has_every_name_of_the_master_specs_model(api, events):
    (event, *_) = api.simulate_get(f"/internal/jobs/{events}/events").json["items"]
    assert {"id", "cloudPodId", "tenantId", "type", "message", "data", "createdAt"} <= set(event)
    assert event["jobId"] == events


def test_events_of_another_job_of_the_same_pod_are_not_shown(api, events, rows, sql):
    other = rows.job(pod=sql.row("cloud_pod_jobs", events)["cloud_pod_id"])
    assert api.simulate_get(f"/internal/jobs/{other}/events").json == {"items": [], "next": None}


def cursor(document):
    return base64.urlsafe_b64encode(json.dumps(document).encode()).decode().rstrip("=")


BAD_CURSORS = {
    "not base64": "!",
    "a list's": cursor(["2026-01-01T00:00:00+00:00", "a"]),
    "a word": cursor(["abc"]),
    "negative": cursor(["-1"]),
    "too large": cursor(["9" * 30]),
    "NUL": cursor(["\x00"]),
    "deep": base64.urlsafe_b64encode(b"[" * 3000).decode(),
}


@pytest.mark.parametrize("bad", BAD_CURSORS.values(), ids=BAD_CURSORS)
def test_a_cursor_that_we_did_not_make_is_refused(api, events, assert_problem, bad):
    answer = api.simulate_get(f"/internal/jobs/{events}/events", params={"cursor": bad})
    assert_problem(answer, 422, "invalid_request", field="cursor", rule="take it from `next`")


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "limit=1&limit=2", "after=3", "cursor=%00"])
def test_a_bad_query_is_refused(api, events, assert_problem, query):
    assert_problem(api.simulate_get(f"/internal/jobs/{events}/events", query_string=query), 422, "invalid_request")
