"""What a bill is made of: which pods a tenant had in a window, gone ones too."""

import pytest

COLUMNS = {"cores": 2, "memoryMb": 2048, "swapMb": 512, "diskGb": 8}


@pytest.fixture
def usage(api):
    """Return a way to ask for a tenant's usage."""
    return lambda query="", tenant="TENANT-123", prefix="/internal": api.simulate_get(
        f"{prefix}/tenants/{tenant}/usage", query_string=query
    )


def vmids(answer):
    assert answer.status_code == 200, answer.text
    return [pod["vmid"] for pod in answer.json["items"]]


@pytest.fixture
def pods(rows):
    """Make pods that lived in January, from February on, for a day in March, not at all, and one of another tenant."""
    gone = {"status": "deleted", "allocation": False}
    rows.pod(vmid=9101, created_at="2026-01-01", deleted_at="2026-02-01", **gone)
    rows.pod(vmid=9102, created_at="2026-02-01", plan_snapshot='{"id": "small"}')
    rows.pod(vmid=9103, created_at="2026-03-01", deleted_at="2026-03-02", **gone)
    rows.pod(vmid=9104, created_at="2026-02-15", status="failed")
    rows.pod(vmid=9105, created_at="2026-02-15", tenant_id="TENANT-456")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", [9103, 9102, 9101]),
        ("since=2026-02-01T00:00:00Z", [9103, 9102]),
        ("since=2026-01-31T23:59:59.999Z", [9103, 9102, 9101]),
        ("until=2026-02-01T00:00:00Z", [9101]),
        ("until=2026-02-01T00:00:00.001Z", [9102, 9101]),
        ("since=2026-02-01T00:00:00Z&until=2026-03-01T00:00:00Z", [9102]),
        ("since=2026-02-01T01:00:00%2B01:00&until=2026-03-01T00:00:00-00:01", [9103, 9102]),
        ("since=2027-01-01T00:00:00Z", [9102]),
        ("until=2020-01-01T00:00:00Z", []),
        ("since=0001-01-01T00:00:00Z&until=9999-12-31T23:59:59Z", [9103, 9102, 9101]),
    ],
)
def test_a_pod_is_listed_if_it_was_there_at_any_time_of_the_window(usage, pods, query, expected):
    assert vmids(usage(query)) == expected


@pytest.mark.parametrize("prefix", ["/internal", "/api"])
def test_each_pod_says_what_a_bill_needs(usage, pods, prefix):
    gone, living, _ = usage(prefix=prefix).json["items"]
    assert {name: gone[name] for name in COLUMNS} == COLUMNS
    assert (gone["createdAt"][:10], gone["deletedAt"][:10], gone["planId"]) == ("2026-03-01", "2026-03-02", None)
    assert (living["deletedAt"], living["planId"], living["region"]) == (None, "small", "migra-us-east-1")


def test_pages_show_every_pod_once(usage, pods):
    first = usage("limit=2")
    second = usage(f"limit=2&cursor={first.json['next']}")
    assert (vmids(first) + vmids(second), second.json["next"]) == ([9103, 9102, 9101], None)


def test_a_tenants_usage_is_its_own(usage, pods):
    assert vmids(usage(tenant="TENANT-456")) == [9105]


NO_MOMENTS = {
    "blank": "+",
    "a word": "yesterday",
    "no zone": "2026-02-01T00:00:00",
    "no such day": "2026-02-30T00:00:00Z",
    "a plus that became a space": "2026-02-01T00:00:00+01:00",
    "a number": "1",
    "NUL": "%00",
    "before the first year": "0001-01-01T00:00:00%2B14:00",
}


@pytest.mark.parametrize("moment", NO_MOMENTS.values(), ids=NO_MOMENTS)
@pytest.mark.parametrize("name", ["since", "until"])
def test_what_is_no_moment_is_refused(usage, assert_problem, name, moment):
    assert_problem(usage(f"{name}={moment}"), 422, "invalid_request", field=name)
