"""Lists of events: what each filter shows, in which order, and to whom."""

import pytest

from shim import caller
from shim.caller import Origin
from shim.db import database
from shim.events.models import CloudPodEvent

TENANT, OTHER_TENANT = "TENANT-123", "TENANT-456"


@pytest.fixture
def told(api, rows, sql):
    """Make events of two tenants' pods, of jobs, and of a node; return what is named in the filters."""
    mine, theirs = rows.pod(vmid=9101), rows.pod("lab2", vmid=9102, tenant_id=OTHER_TENANT)
    job, their_job = rows.job(pod=mine), rows.job(pod=theirs, node="lab2", tenant_id=OTHER_TENANT)
    insert = (
        "INSERT INTO cloud_pod_events (message, type, tenant_id, cloud_pod_id, job_id, data) VALUES (%s, %s, %s, %s, %s, %s)"
    )
    for message, type, tenant, pod, of, action in (
        ("1", "INFO", TENANT, mine, job, "queued"),
        ("2", "INFO", OTHER_TENANT, theirs, their_job, "queued"),
        ("3", "BACKUP", TENANT, mine, job, "BACKED_UP"),
        ("4", "WARN", None, None, None, "HEALTH_SWEEP_FAILED"),
        ("5", "HEALTH", OTHER_TENANT, theirs, None, "HEALTH_CHANGED"),
        ("6", "HEALTH", TENANT, mine, None, "HEALTH_CHANGED"),
        ("7", "INFO", TENANT, None, None, "TENANT_CREATED"),
    ):
        sql(insert, message, type, tenant, pod, of, f'{{"action": "{action}"}}')
    return {"mine": mine, "theirs": theirs, "job": job, "theirJob": their_job}


FILTERS = {
    "": "1234567",
    "tenantId=TENANT-123": "1367",
    "tenantId=TENANT-456": "25",
    "cloudPodId=9101": "136",
    "cloudPodId={theirs}": "25",
    "jobId={job}": "13",
    "type=HEALTH": "56",
    "action=queued": "12",
    "action=queued&tenantId=TENANT-456": "2",
    "type=HEALTH&cloudPodId=9101&tenantId=TENANT-123": "6",
    "cloudPodId=9101&tenantId=TENANT-456": "",
    "action=never": "",
    "order=desc": "7654321",
    "order=desc&type=INFO": "721",
}


def messages(answer):
    assert answer.status_code == 200, answer.text
    return "".join(event["message"] for event in answer.json["items"])


@pytest.mark.parametrize("prefix", ["/internal", "/api"])
@pytest.mark.parametrize(("query", "expected"), FILTERS.items())
def test_a_filter_shows_what_it_names(api, told, prefix, query, expected):
    assert messages(api.simulate_get(f"{prefix}/events", query_string=query.format(**told))) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/tenants/TENANT-456", "25"), ("/cloudpods/9101", "136"), ("/cloudpods/{theirs}", "25"), ("/jobs/{theirJob}", "2")],
)
def test_what_a_path_names_has_its_own_list(api, told, path, expected):
    assert messages(api.simulate_get(f"/internal{path.format(**told)}/events")) == expected


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("limit", [1, 2, 6, 7, 8])
def test_pages_show_each_event_once(api, told, order, limit):
    seen, cursor = "", None
    while True:
        answer = api.simulate_get(
            "/internal/events", params={"limit": limit, "order": order, **({"cursor": cursor} if cursor else {})}
        )
        seen, cursor = seen + messages(answer), answer.json["next"]
        if cursor is None:
            break
    assert seen == ("1234567" if order == "asc" else "7654321")


@pytest.mark.parametrize(("order", "expected"), [("asc", "4567"), ("desc", "7654")])
def test_since_shows_what_came_later(api, told, sql, order, expected):
    third = sql.value("SELECT seq FROM cloud_pod_events WHERE message = '3'")
    assert messages(api.simulate_get("/internal/events", params={"since": third, "order": order})) == expected


BAD = {
    "type=info": "type",
    "order=up": "order",
    "since=-1": "since",
    "since=x": "since",
    "since=99999999999999999999": "since",
    "since=1&since=2": "since",
    "limit=0": "limit",
    "cursor=abc": "cursor",
    "action=%00": "action",
    "jobid=x": "jobid",
}


@pytest.mark.parametrize(("query", "field"), BAD.items())
def test_a_bad_query_is_refused(api, told, assert_problem, query, field):
    assert_problem(api.simulate_get("/internal/events", query_string=query), 422, "invalid_request", field=field)


def test_a_list_of_one_pod_takes_no_other(api, told, assert_problem):
    answer = api.simulate_get("/internal/cloudpods/9101/events", params={"cloudPodId": "9102"})
    assert_problem(answer, 422, "invalid_request", field="cloudPodId")


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("tenantId=nobody", "tenant_not_found"),
        ("tenantId=%00", None),
        ("cloudPodId=9999", "cloudpod_not_found"),
        ("jobId=none", "job_not_found"),
    ],
)
def test_what_is_not_there_is_not_found(api, told, query, code):
    answer = api.simulate_get("/internal/events", query_string=query)
    assert (answer.status_code, answer.json["code"]) == ((404, code) if code else (422, "invalid_request"))


def test_an_event_tells_on_whose_behalf_its_job_runs(session, sql):
    ordered = Origin(actor="user-1", request_id="request-1")
    with database.atomic(), caller.on_behalf_of(ordered):
        CloudPodEvent.record("INFO", "a", action="TRIED")
    with database.atomic():
        CloudPodEvent.record("INFO", "b", action="TRIED")
    assert sql("SELECT actor, request_id FROM cloud_pod_events ORDER BY seq") == [("user-1", "request-1"), (None, None)]
