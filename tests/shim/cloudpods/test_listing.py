"""GET /tenants/{id}/cloudpods: filters, and paging by keyset without duplicates or gaps."""

import base64
import json

import pytest

TENANT, OTHER_TENANT = "TENANT-123", "TENANT-456"


@pytest.fixture
def listed(api):
    """Return a way to list a tenant's pods."""

    def ask(query="", tenant=TENANT, prefix="/internal"):
        return api.simulate_get(f"{prefix}/tenants/{tenant}/cloudpods", query_string=query)

    return ask


def vmids(answer):
    return [pod["vmid"] for pod in answer.json["items"]]


def walk(listed, query):
    """Return the vmids of all pages, in order, and how many pages there were."""
    seen, pages, cursor = [], 0, ""
    while cursor is not None:
        answer = listed(query + (f"&cursor={cursor}" if cursor else ""))
        seen, pages, cursor = seen + vmids(answer), pages + 1, answer.json["next"]
    return seen, pages


@pytest.mark.parametrize("prefix", ["/internal", "/api"])
def test_a_tenant_sees_its_own_pods_newest_first(listed, rows, prefix):
    for day, vmid in enumerate((9101, 9102, 9103), 1):
        rows.pod(vmid=vmid, created_at=f"2026-01-0{day}")
    rows.pod(vmid=9201, tenant_id=OTHER_TENANT)
    answer = listed(prefix=prefix)
    assert (vmids(answer), answer.json["next"]) == ([9103, 9102, 9101], None)
    assert vmids(listed(tenant=OTHER_TENANT)) == [9201]


def test_a_tenant_without_pods_has_an_empty_list(listed):
    assert listed().json == {"items": [], "next": None}


@pytest.mark.parametrize("tenant", ["TENANT-999", "tenant-123", "%00", "TENANT-123%00", "%20", "%ff"])
def test_an_unknown_tenant_is_not_found(listed, assert_problem, tenant):
    assert_problem(listed(tenant=tenant), 404, "tenant_not_found")


FILTERS = [
    ("", {9101, 9102, 9103, 9104}),
    ("status=active", {9101, 9102}),
    ("status=failed", {9103}),
    ("status=deleting", {9104}),
    ("status=deleted", {9105}),
    ("status=provisioning", set()),
    ("region=eu", {9102}),
    ("region=nowhere", set()),
    ("node=lab2", {9102, 9103}),
    ("node=lab9", set()),
    ("hostname=shop", {9101, 9103}),
    ("hostname=sho", set()),
    ("hostname=", set()),
    ("node=lab2&hostname=shop", {9103}),
    ("status=active&region=migra-us-east-1&node=lab1&hostname=shop", {9101}),
    ("hostname=%25", set()),
]


@pytest.mark.parametrize(("query", "expected"), FILTERS)
def test_filters_narrow_the_list(listed, rows, query, expected):
    rows.pod(vmid=9101, hostname="shop")
    rows.pod(vmid=9102, hostname="blog", node="lab2", region="eu")
    rows.pod(vmid=9103, hostname="shop", node="lab2", status="failed")
    rows.pod(vmid=9104, hostname="old", status="deleting")
    rows.pod(vmid=9105, hostname="gone", status="deleted")
    answer = listed(query)
    assert answer.status_code == 200
    assert set(vmids(answer)) == expected


REFUSED = [
    ("status=alive", "status", "must be one of"),
    ("status=", "status", "must be one of"),
    ("status=active,failed", "status", "must be one of"),
    ("status=active&status=failed", "status", "more than once"),
    ("Status=active", "Status", "unknown query parameter"),
    ("vmid=9101", "vmid", "unknown query parameter"),
    ("hostname=%00", "hostname", "NUL"),
    ("region=a%00b", "region", "NUL"),
    ("node=%00", "node", "NUL"),
    ("limit=0", "limit", "from 1 to 200"),
    ("limit=201", "limit", "from 1 to 200"),
    ("limit=-1", "limit", "from 1 to 200"),
    ("limit=abc", "limit", "from 1 to 200"),
    ("limit=", "limit", "from 1 to 200"),
    ("limit=1.5", "limit", "from 1 to 200"),
    ("limit=%D9%A1", "limit", "from 1 to 200"),
    ("limit=" + "9" * 5000, "limit", "from 1 to 200"),
    ("limit=1&limit=2", "limit", "more than once"),
]


@pytest.mark.parametrize(("query", "field", "rule"), REFUSED, ids=[case[0][:30] for case in REFUSED])
def test_a_bad_query_is_refused(listed, assert_problem, query, field, rule):
    assert_problem(listed(query), 422, "invalid_request", field=field, rule=rule)


def cursor(document):
    return base64.urlsafe_b64encode(json.dumps(document).encode()).decode().rstrip("=")


WHEN = "2026-01-01T00:00:00+00:00"
BAD_CURSORS = {
    "not base64": "%21%21",
    "one letter": "a",
    "not ASCII": "%C3%A9",
    "not JSON": base64.urlsafe_b64encode(b"hello").decode(),
    "not UTF-8": base64.urlsafe_b64encode(b"\xff\xfe").decode(),
    "no list": cursor({"a": 1}),
    "a number": cursor(5),
    "too short": cursor([WHEN]),
    "too long": cursor([WHEN, "a", "b"]),
    "not texts": cursor([1, 2]),
    "no time": cursor(["yesterday", "a"]),
    "an event's": cursor(["17", "a"]),
    "NUL": cursor([WHEN, "a\x00"]),
    "half a surrogate pair": cursor([WHEN, "\ud800"]),
    "an offset of microseconds": cursor(["2026-01-01T00:00:00+01:00:30.500000", "a"]),
    "deep": base64.urlsafe_b64encode(b"[" * 3000).decode(),
}


@pytest.mark.parametrize("bad", BAD_CURSORS.values(), ids=BAD_CURSORS)
def test_a_cursor_that_we_did_not_make_is_refused(listed, assert_problem, bad):
    assert_problem(listed(f"cursor={bad}"), 422, "invalid_request", field="cursor", rule="take it from `next`")


def test_a_cursor_of_any_age_is_harmless(listed, rows):
    rows.pod(vmid=9101)
    for when in ("0001-01-01T00:00:00+00:00", "9999-12-31T23:59:59+00:00", "2026-01-01", "0001-01-01T00:00:00+23:59"):
        assert listed("cursor=" + cursor([when, "a"])).status_code in (200, 422)


@pytest.mark.parametrize(("limit", "pages"), [(1, 25), (7, 4), (24, 2), (25, 1), (200, 1)])
@pytest.mark.parametrize("same_moment", [False, True], ids=["own moments", "one moment"])
def test_pages_show_every_pod_once(listed, rows, limit, pages, same_moment):
    expected = []
    for number in range(25):
        moment = "2026-01-01T00:00:00.123456+00:00" if same_moment else f"2026-01-01T00:00:00.{number:06d}+00:00"
        pod = rows.pod(vmid=9100 + number, created_at=moment, allocation=False)
        expected.append((moment, pod, 9100 + number))
    rows.pod(vmid=9200, tenant_id=OTHER_TENANT, created_at="2026-01-01T00:00:00.000003+00:00")
    seen, count = walk(listed, f"limit={limit}")
    assert seen == [vmid for *_, vmid in sorted(expected, reverse=True)]
    assert count == pages


def test_pages_keep_their_filter_and_skip_nothing_when_newer_pods_appear(listed, rows):
    for number in range(6):
        rows.pod(vmid=9100 + number, created_at=f"2026-01-01T00:00:0{number}", hostname="shop" if number % 2 else "blog")
    first = listed("limit=2&hostname=shop")
    rows.pod(vmid=9300, created_at="2026-02-01", hostname="shop")
    second = listed(f"limit=2&hostname=shop&cursor={first.json['next']}")
    assert vmids(first) + vmids(second) == [9105, 9103, 9101]


def test_a_page_is_fifty_unless_asked_otherwise(listed, rows, sql):
    sql(
        "INSERT INTO cloud_pods (tenant_id, node_id, vmid, hostname, cores, memory_mb)"
        " SELECT %s, %s, n, 'a', 1, 512 FROM generate_series(9000, 9059) n",
        TENANT,
        rows.node_id(),
    )
    assert len(vmids(listed())) == 50
