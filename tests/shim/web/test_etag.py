"""ETag and If-Match: the lists, the star, the weak, and what is no entity tag at all."""

from datetime import UTC, datetime, timedelta, timezone

import falcon
import falcon.testing
import pytest

from shim.errors import Invalid, PreconditionFailed
from shim.web import etag

VERSION = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)


def tag(version=VERSION):
    response = falcon.Response()
    etag.write(response, version)
    return response.get_header("ETag")


def request(if_match=None):
    headers = {} if if_match is None else {"If-Match": if_match}
    return falcon.testing.create_req(method="PUT", headers=headers)


def test_the_tag_is_strong_and_of_one_instant():
    assert tag().startswith('"')
    assert tag() == tag(VERSION.astimezone(timezone(timedelta(hours=3))))
    assert tag() != tag(VERSION + timedelta(microseconds=1))


@pytest.mark.parametrize("named", ["{}", '"other", {}', '{},"other"', ' , {} , ,"a,b"', "*", " * "])
def test_the_state_that_is_named_may_be_changed(named):
    etag.check(request(named.format(tag())), VERSION)


def test_without_the_header_nothing_is_asked():
    etag.check(request(), VERSION)


@pytest.mark.parametrize("named", ['"other"', "W/{}", '"a", "b"', '""', '"a,x"'])
def test_any_other_state_may_not(named):
    with pytest.raises(PreconditionFailed):
        etag.check(request(named.format(tag())), VERSION)


@pytest.mark.parametrize("named", ["", "x", '"x', 'x"', '*, "x"', '"a" "b"', 'w/"x"', ",", '"a\tb"', "\u20ac"])
def test_what_is_no_entity_tag_is_refused(named):
    with pytest.raises(Invalid, match="If-Match"):
        etag.check(request(named), VERSION)
