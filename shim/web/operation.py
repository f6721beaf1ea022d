"""What each responder declares beside its code: who may call it, what it takes and answers. Without it a route is closed.

Authorization (`web/auth.py`), the check of queries, the OpenAPI document and the tests read the same declaration.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import falcon

from shim.caller import Permission
from shim.errors import Invalid
from shim.web import body
from shim.web.schema import Query

Responder = TypeVar("Responder", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One method of one route.

    `permission` None: any known caller may; `public`: anybody, its resource says so. `query`, `body` and `answer` are models
    (`body` may be a union of them); a route takes the query parameters of its model and no others. `etag`: the answer names its
    state, a change heeds `If-Match`. `streams`, `text`: it also answers `text/event-stream`, `text/plain`. `problems`: statuses
    beyond those that every route of its kind can answer.
    """

    permission: Permission | None
    public: bool = False
    query: type[Query] | None = None
    body: Any = None
    answer: Any = None
    status: int = 200
    # Further statuses that bring the same answer.
    statuses: tuple[int, ...] = ()
    summary: str = ""
    media_type: str = falcon.MEDIA_JSON
    etag: bool = False
    streams: bool = False
    text: bool = False
    problems: tuple[int, ...] = ()


def operation(**declared: Any) -> Callable[[Responder], Responder]:
    """Return a decorator that declares a responder's operation; its summary is the docstring's first line."""

    def mark(responder: Responder) -> Responder:
        summary = (responder.__doc__ or "").strip().split("\n", 1)[0]
        responder.operation = Operation(**{"summary": summary, **declared})  # type: ignore[attr-defined]
        return responder

    return mark


def of(resource: object, method: str) -> Operation | None:
    """Return what a resource declares for an HTTP method, None when it has none or declares nothing.

    One class of which several routes have an instance completes the declaration by its method `declare`.
    """
    declared: Operation | None = getattr(getattr(resource, f"on_{method.lower()}", None), "operation", None)
    complete = getattr(resource, "declare", None)
    if declared is None:
        return None
    if getattr(resource, "public", False):
        return replace(declared, public=True)
    return complete(declared) if complete is not None else declared


class Queries:
    """Puts the query parameters, checked by what the route declares, into the request's context; before its resource runs."""

    def process_resource(self, request: falcon.Request, response: falcon.Response, resource: Any, params: Any) -> None:
        """Raise Invalid for an unknown, repeated or bad parameter: a misspelt filter must not list everything."""
        declared = of(resource, request.method)
        if declared is not None and declared.query is not None:
            request.context.query = read_query(request, declared.query)


def read_query(request: falcon.Request, model: type[Query]) -> Query:
    """Return the request's query parameters as `model`. Raises Invalid."""
    known = [field.alias or name for name, field in model.model_fields.items()]
    for name, value in sorted(request.params.items()):
        if name not in known:
            raise Invalid.field(name, "unknown query parameter; known are: " + (", ".join(known) or "none"))
        if isinstance(value, list):
            raise Invalid.field(name, "given more than once")
        if "\x00" in value:
            # PostgreSQL's wire protocol refuses it, which would come out as a 500.
            raise Invalid.field(name, "must not contain NUL")
    return body.parse(model, request.params)
