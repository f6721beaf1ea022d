"""What clients get when a request fails (RFC 9457), and by which statuses a route can."""

from http import HTTPStatus

from pydantic import ConfigDict
from pydantic.alias_generators import to_camel

from shim.web.operation import Operation
from shim.web.schema import Answer

PROBLEM_TYPE = "application/problem+json"


class ProblemField(Answer):
    """One field of a request that broke a rule."""

    field: str
    rule: str


class ProblemAnswer(Answer):
    """Why a request failed. `code` never changes, so that clients may switch on it; some codes bring further members."""

    model_config = ConfigDict(extra="allow", alias_generator=to_camel)

    type: str
    title: str
    status: int
    code: str
    detail: str
    instance: str
    errors: list[ProblemField] | None = None


def statuses(method: str, declared: Operation) -> dict[int, str]:
    """Return the statuses of the problems that a route of this kind can answer with, and their titles."""
    found = {422, 500, *declared.problems}
    if not declared.public:
        # A query or a body may name what is not there, too.
        found |= {400, 401, 403, 404, 503}
    if method != "GET":
        found |= {409, 429}
    if method == "POST" or declared.body is not None:
        found.add(413)
    if declared.body is not None:
        found.add(415)
    if declared.etag and method != "GET":
        found.add(412)
    return {status: HTTPStatus(status).phrase for status in sorted(found)}
