"""Bad input on every route of the table, those to come included: always a problem, never a 500, never a trace, never a row.

Who may ask is test_access.py's; what each field may be, schemathesis's (test_schemathesis.py) and the routes' own tests'.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shim import app
from shim.config import Settings
from shim.jobs.queue import Wakeups
from shim.web import operation
from shim.web.openapi import METHODS
from shim.web.schema import Nothing

JSON = {"Content-Type": "application/json"}
# Names of what is there, so that a request gets past the first look-up.
NAMES = {"reference": "9101", "tenant_id": "TENANT-123", "node": "lab1", "name": "before", "job_id": "nothing"}
NAMES |= {"pool": "lab1-pool", "region": "migra-us-east-1"}


def _routes() -> list[tuple[str, str, operation.Operation]]:
    settings = Settings(database_url="postgresql://", redis_url="redis://localhost", state_dir=Path("/nowhere"))
    found = []
    for path, resource in app.routes(settings, Wakeups(settings.redis_url)).items():
        for method in METHODS:
            declared = operation.of(resource, method)
            # The other prefix leads to the same resources (test_openapi.py).
            if declared is not None and not path.startswith("/api/"):
                found.append((method, path, declared))
    return found


ROUTES = _routes()
PATHS = [(method, path) for method, path, _ in ROUTES]
WITH_BODY = [(method, path) for method, path, declared in ROUTES if declared.body is not None]
OF_PARTS = [(method, path) for method, path, _ in ROUTES if "{" in path]
LISTS = [(method, path) for method, path, declared in ROUTES if "cursor" in declared.query.model_fields]


class _AnyName(dict):
    """Fills a path's parts, also those of routes to come."""

    def __missing__(self, name):
        return "nothing"


def filled(path, **parts):
    return path.format_map(_AnyName({**NAMES, **parts}))


@pytest.fixture
def refused(api, rows, sql, assert_problem):
    """Return a check that a request is answered with one of these problems, and writes nothing."""
    rows.pod(vmid=9101)
    rows.pod(vmid=9201, tenant_id="TENANT-456")
    before = sql.counts()

    def check(method, path, *statuses, **request):
        answer = api.simulate_request(method, path, **request)
        assert answer.status_code in statuses, f"{answer.status} {answer.text[:300]}"
        assert_problem(answer, answer.status_code)
        assert "Traceback" not in answer.text
        assert ".py" not in answer.text
        assert sql.counts() == before
        return True

    return check


BODIES = {
    "not JSON": (b"{", (400,)),
    "two documents": (b"{}{}", (400,)),
    "invalid UTF-8": (b'{"tenantId": "\xff"}', (400,)),
    "UTF-16": ('{"tenantId": "x"}'.encode("utf-16"), (400,)),
    "an array": (b"[]", (422,)),
    "null": (b"null", (422,)),
    "a number": (b"5", (422,)),
    "deep arrays": (b'{"tenantId":' + b"[" * 30000 + b"]" * 30000 + b"}", (400, 422)),
    "deep objects": (b'{"a":' * 9000 + b"1" + b"}" * 9000, (400, 422)),
    "an unknown field": (b'{"no-such-field": 1}', (422,)),
    "a field twice": (b'{"tenantId": "TENANT-123", "tenantId": "TENANT-456"}', (422,)),
    "NaN": (b'{"no-such-field": NaN}', (422,)),
    "Infinity": (b'{"no-such-field": -Infinity}', (422,)),
    "a number of 5000 digits": (b'{"no-such-field": ' + b"9" * 5000 + b"}", (400, 422)),
    "NUL": (b'{"no-such-field": "\\u0000"}', (422,)),
    "half a surrogate pair": (b'{"no-such-field": "\\ud800"}', (422,)),
    "a name with NUL": (b'{"\\u0000": 1}', (422,)),
}


@pytest.mark.parametrize(("method", "path"), WITH_BODY)
def test_a_body_that_cannot_be_meant_is_refused(refused, method, path):
    for octets, statuses in BODIES.values():
        assert refused(method, filled(path), *statuses, body=octets, headers=JSON)


@pytest.mark.parametrize(("method", "path"), WITH_BODY)
def test_a_huge_body_is_refused(refused, method, path):
    for size in (2**24 + 1, 2**26):
        assert refused(method, filled(path), 413, headers={**JSON, "Content-Length": str(size)}, body=b"{}")


@pytest.mark.parametrize(("method", "path"), WITH_BODY)
def test_another_content_type_is_refused(refused, method, path):
    for content_type in ("text/plain", "application/xml", "application/x-www-form-urlencoded", "application/problem+json"):
        assert refused(method, filled(path), 415, body=b'{"tenantId": "TENANT-123"}', headers={"Content-Type": content_type})


def _values(declared):
    """Return a body for each field of a model, in which that field alone is odd."""
    for field, described in declared.body.model_fields.items():
        name = described.alias or field
        for value in (-1, -(2**63), 2**63, 10**400, 1e308, 0.5, "", "\x00", "x" * 5000, "\ud800", [], {}, [[]], True):
            yield {"tenantId": "TENANT-123", name: value}


@pytest.mark.parametrize(("method", "path", "declared"), [r for r in ROUTES if hasattr(r[2].body, "model_fields")])
def test_no_value_of_a_field_is_a_fault_of_ours(api, rows, assert_problem, method, path, declared):
    if declared.body is Nothing:
        return
    rows.pod(vmid=9101)
    for document in _values(declared):
        answer = api.simulate_request(method, filled(path), body=json.dumps(document), headers=JSON)
        assert answer.status_code < 500, f"{document} → {answer.text[:300]}"
        if answer.status_code >= 400:
            assert_problem(answer, answer.status_code)


@pytest.mark.parametrize(("method", "path"), PATHS)
def test_a_query_that_the_route_does_not_know_is_refused(refused, method, path):
    for query in ("no-such-parameter=1", "=1", "%00=1", "limit%00=1", "%ed%a0%80=1", "Limit=1"):
        assert refused(method, filled(path), 422, query_string=query)


@pytest.mark.parametrize(("method", "path", "declared"), [route for route in ROUTES if route[2].query.model_fields])
def test_a_parameter_given_twice_or_with_nul_is_refused(refused, method, path, declared):
    for name, field in declared.query.model_fields.items():
        for query in ("{0}=1&{0}=1", "{0}=%00", "{0}=a%00b"):
            assert refused(method, filled(path), 422, query_string=query.format(field.alias or name))


@pytest.mark.parametrize(("method", "path"), LISTS)
def test_a_bad_page_is_refused(refused, method, path):
    cursors = ("x", "%00", "%ff", "W10", "bnVsbA", "e30", "WyJ4Il0", "WyJ4IiwieSIsInoiXQ", "WzEsMl0", "A" * 5000)
    limits = ("0", "-1", "201", "1.5", "x", "", "9" * 40, "1e2", "%D9%A1", "%201")
    for query in (*(f"cursor={one}" for one in cursors), *(f"limit={one}" for one in limits)):
        if query == "cursor=WyJ4Il0":
            # One part is a key of some lists: not refused by those, and of no row.
            continue
        assert refused(method, filled(path), 404, 422, query_string=query)


@pytest.mark.parametrize(("method", "path"), OF_PARTS)
def test_no_name_in_a_path_is_a_fault_of_ours(refused, method, path):
    parts = [part for part in NAMES if f"{{{part}}}" in path] or ["user_id", "plan_id", "token_id"]
    odds = ("%00", "a%00b", "%ff", "%ed%a0%80", "9" * 400, "-1", "%20", "%2e%2e", "'%20OR%201=1%20--", "x" * 3000, "%F0%9F")
    for odd in odds:
        for part in parts:
            assert refused(
                method,
                filled(path, **{part: odd}),
                400,
                404,
                405,
                409,
                422,
                body=b"{}",
                headers=JSON,
            )
