"""Bodies as they come off the wire: too large, not JSON, not an object, in the wrong clothes. Never a 500, never a row."""

import io
import json

import falcon.testing
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

GOOD = {"tenantId": "TENANT-123", "hostname": "client-portal", "cores": 2, "memoryMb": 2048}
NOTHING = {"cloud_pods": 0, "cloud_pod_jobs": 0, "cloud_pod_events": 0, "cloud_pod_allocations": 0}
PATHS = ("/internal/cloudpods", "/api/cloudpods/9101/backup", "/api/cloudpods/9101/actions")


def post(api, body, content_type="application/json", path="/internal/cloudpods"):
    return api.simulate_post(path, body=body, headers={"Content-Type": content_type} if content_type else {})


MALFORMED = {
    "half an object": b'{"tenantId": "TENANT-123"',
    "no JSON": b"hello",
    "a comma too many": b'{"cores": 2,}',
    "single quotes": b"{'cores': 2}",
    "two documents": b"{}{}",
    "blank": b" ",
    "invalid UTF-8": b'{"hostname": "\xff\xfe"}',
    "UTF-16": '{"cores": 2}'.encode("utf-16"),
    "a byte order mark": b'\xef\xbb\xbf{"cores": 2}',
    "NUL": b'{"hostname": "a\x00b"}',
    "only NUL": b"\x00",
    "a number of 5000 digits": b'{"cores": ' + b"9" * 5000 + b"}",
    "XML": b"<cores>2</cores>",
    "a form": b"cores=2&memoryMb=2048",
    "deep arrays": b"[" * 60000,
    "deep objects": b'{"a":' * 10000,
    "deep and closed": b'{"cores":' + b"[" * 30000 + b"]" * 30000 + b"}",
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
def test_a_body_that_is_no_json_is_a_problem_and_writes_nothing(api, sql, assert_problem, body):
    for path in PATHS:
        assert_problem(post(api, body, path=path), 400)
    assert sql.counts() == NOTHING


@pytest.mark.parametrize("body", ["[]", "[{}]", "null", "true", "5", '"text"', "1e400", "NaN"])
def test_json_that_is_no_object_is_a_problem_and_writes_nothing(api, sql, assert_problem, body):
    for path in PATHS:
        assert_problem(post(api, body, path=path), 422, "malformed_body")
    assert sql.counts() == NOTHING


@pytest.mark.parametrize("size", [64 * 1024 + 1, 1024 * 1024])
def test_a_huge_body_is_refused(api, sql, assert_problem, size):
    body = json.dumps({**GOOD, "requestedBy": "x"}).encode()
    for path in PATHS:
        assert_problem(post(api, body + b" " * (size - len(body)), path=path), 413)
    assert sql.counts() == NOTHING


def test_the_largest_body_allowed_is_read(api):
    body = json.dumps(GOOD).encode()
    assert post(api, body + b" " * (64 * 1024 - len(body))).status_code == 202


def test_a_whole_number_may_be_written_as_json_writes_it(api):
    answer = post(api, '{"tenantId": "TENANT-123", "hostname": "client-portal", "cores": 2.0, "memoryMb": 2.048e3}')
    assert answer.status_code == 202, answer.text
    assert (answer.json["cloudPod"]["cores"], answer.json["cloudPod"]["memoryMb"]) == (2, 2048)


@pytest.mark.parametrize(
    "body", ['{"cores": 2, "cores": 2}', '{"a": {"cores": 1, "cores": 2}}', '{"cores": 1, "\\u0063ores": 2}']
)
def test_a_field_given_twice_is_refused(api, sql, assert_problem, body):
    for path in PATHS:
        assert_problem(post(api, body, path=path), 422, "invalid_request", field="cores", rule="more than once")
    assert sql.counts() == NOTHING


class Endless(io.RawIOBase):
    """A client that sends without end; counts what was taken."""

    taken = 0

    def read(self, size=-1):
        if size is None or size < 0:
            pytest.fail("the whole of an endless body was asked for")
        self.taken += size
        if self.taken > 10_000_000:
            pytest.fail("an endless body is read on and on")
        return b" " * size

    def readable(self):
        return True


def call(api, **entries):
    """Call the API as its server does, with these entries of the WSGI environment and no length of the body."""
    headers = {"Authorization": f"Bearer {api.token}", "Content-Type": "application/json"}
    environ = falcon.testing.create_environ("/internal/cloudpods", method="POST", headers=headers)
    environ.pop("CONTENT_LENGTH", None)
    environ.update(entries)
    answer = falcon.testing.StartResponseMock()
    text = b"".join(api.app(environ, answer))
    return falcon.testing.Result([text], answer.status, answer.headers)


def chunked(api, stream):
    """Send a body as gunicorn hands on one that came in chunks."""
    return call(api, **{"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input": stream, "wsgi.input_terminated": True})


def test_a_body_in_chunks_is_read(api):
    answer = chunked(api, io.BytesIO(json.dumps(GOOD).encode()))
    assert answer.status_code == 202, answer.text


def test_an_endless_body_in_chunks_is_refused(api, sql, assert_problem):
    assert_problem(chunked(api, Endless()), 413)
    assert sql.counts() == NOTHING


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/xml",
        "application/jsonp",
        "application/problem+json",
        "json",
        "",
        "\xff",
        "application/json, text/plain",
    ],
)
def test_another_content_type_is_refused(api, sql, assert_problem, content_type):
    for path in PATHS:
        assert_problem(post(api, json.dumps(GOOD), content_type, path), 415)
    assert sql.counts() == NOTHING


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8", "Application/JSON"])
def test_json_is_taken_under_each_of_its_names(api, content_type):
    assert post(api, json.dumps(GOOD), content_type).status_code == 202


@pytest.mark.parametrize("length", ["-1", "abc", "1.5", "9" * 30])
def test_a_length_that_is_none_is_a_problem(api, assert_problem, length):
    answer = call(api, **{"CONTENT_LENGTH": length, "wsgi.input": io.BytesIO(b"{}")})
    assert_problem(answer, answer.status_code)
    assert answer.status_code in (400, 413)


@pytest.mark.parametrize(
    "query", ["dry=1", "cores=2&cores=3", "%00=1", "x=%00", "x=%ff", "&&&", "=", "tenantId=TENANT-456", "%ed%a0%80=1"]
)
def test_a_query_on_an_order_is_refused_or_means_nothing(api, sql, assert_problem, query):
    answer = api.simulate_post("/internal/cloudpods", json=GOOD, query_string=query)
    if answer.status_code != 202:
        assert_problem(answer, 422, "invalid_request")
        assert sql.counts() == NOTHING
    else:
        assert query == "&&&"


def test_the_last_of_two_equal_keys_does_not_slip_past_the_rules(api, sql, assert_problem):
    body = json.dumps(GOOD)[:-1] + ', "cores": 0}'
    assert_problem(post(api, body), 422, "invalid_request", field="cores")
    assert sql.counts() == NOTHING


def test_problems_never_quote_a_trace_or_our_files(api):
    for body in (b"[" * 60000, b"\xff", b'{"cores": {}}'):
        text = post(api, body).text
        assert "Traceback" not in text
        assert ".py" not in text


FIELDS = [*GOOD, "vmid", "ip", "autoIp", "swapMb", "diskGb", "planId", "region", "node", "requestedBy"]
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@examples(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(fields=st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=8), ANYTHING, max_size=6))
def test_whatever_the_fields_hold_the_answer_is_a_pod_or_a_problem(api, sql, fields):
    before = sql.counts()
    answer = post(api, json.dumps({**GOOD, **fields}))
    assert answer.status_code in (202, 400, 404, 409, 422), answer.text
    if answer.status_code != 202:
        assert answer.headers["content-type"] == "application/problem+json"
        assert sql.counts() == before


@examples(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=200))
def test_whatever_bytes_come_the_answer_is_a_problem(api, body):
    answer = post(api, body)
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
