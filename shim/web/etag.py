"""Two who edit one thing: `ETag` names the state that was read, `If-Match` refuses a change of any other (RFC 9110, 13.1.1)."""

import re
from datetime import UTC, datetime

import falcon

from shim.errors import Invalid, PreconditionFailed

_TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
# Empty members of a list are to be put up with.
_HEADER = re.compile(rf"[ \t]*(?:\*|(?:,[ \t]*)*{_TAG}(?:[ \t]*,(?:[ \t]*{_TAG})?)*)[ \t]*")


def write(response: falcon.Response, version: datetime) -> None:
    """Name the state that the answer shows; `version` is its row's `updated_at`."""
    response.set_header("ETag", f'"{_word(version)}"')


def check(request: falcon.Request, version: datetime) -> None:
    """Raise PreconditionFailed when the request names states by `If-Match` and this is none of them.

    Call with the row locked, else another change may come between the look and the write.
    """
    header = request.get_header("If-Match")
    if header is None:
        return
    if not _HEADER.fullmatch(header):
        raise Invalid.field("If-Match", 'must be * or a list of entity tags in quotes, such as "2f1a"')
    # A weak tag never matches here, nor does it name one of ours.
    if header.strip() != "*" and f'"{_word(version)}"' not in re.findall(_TAG, header):
        raise PreconditionFailed("it was changed since you read it: read it again, and send the new ETag as If-Match")


def _word(version: datetime) -> str:
    return f"{int(version.astimezone(UTC).timestamp()):x}-{version.microsecond:x}"
