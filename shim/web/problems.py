"""Errors to `application/problem+json` (RFC 9457), in one place. The only file that pairs an error with an HTTP status."""

import json
import logging
from typing import Any

import falcon
import peewee

from shim import db
from shim.errors import (
    CloudPodsError,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    PreconditionFailed,
    RateLimited,
    Unauthenticated,
    Unavailable,
)

log = logging.getLogger(__name__)

STATUS: dict[type[CloudPodsError], int] = {
    Invalid: 422,
    Unauthenticated: 401,
    Forbidden: 403,
    NotFound: 404,
    Conflict: 409,
    PreconditionFailed: 412,
    RateLimited: 429,
    Unavailable: 503,
}


def register(app: falcon.App[Any, Any]) -> None:
    """Make the app answer every error, its own, Falcon's and unforeseen ones, with a problem."""
    app.add_error_handler(Exception, _unforeseen)
    app.add_error_handler(peewee.DatabaseError, _database)
    # What a closed connection gives, which is no DatabaseError.
    app.add_error_handler(peewee.InterfaceError, _database)
    app.add_error_handler(falcon.HTTPError, _falcon)
    app.add_error_handler(CloudPodsError, _ours)


def _ours(request: falcon.Request, response: falcon.Response, error: CloudPodsError, params: Any) -> None:
    if isinstance(error, RateLimited):
        response.set_header("Retry-After", str(error.retry_after_s))
    status = next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)
    _write(request, response, status, error.code, error.message, errors=error.fields, **error.extra)


def _falcon(request: falcon.Request, response: falcon.Response, error: falcon.HTTPError, params: Any) -> None:
    # Without a title of its own an error's title is its status line, "404 Not Found".
    code = error.title.lower().lstrip("0123456789 ").replace(" ", "_")
    response.set_headers(error.headers or {})
    _write(request, response, error.status_code, code, error.description or error.title or "")


def _database(request: falcon.Request, response: falcon.Response, error: peewee.PeeweeException, params: Any) -> None:
    if db.was_busy(error):
        log.warning("%s %s was ended by PostgreSQL, to be asked again: %s", request.method, request.path, db.first_line(error))
        said = "too many were at the same thing just now, and nothing was done; try again in a second"
        return _write(request, response, 503, "busy_try_again", said)
    if not isinstance(error, peewee.OperationalError | peewee.InterfaceError):
        return _unforeseen(request, response, error, params)
    log.warning("database went away during %s %s: %s", request.method, request.path, error)
    return _write(request, response, 503, "database_unavailable", "the database does not answer; try again in a few seconds")


def _unforeseen(request: falcon.Request, response: falcon.Response, error: Exception, params: Any) -> None:
    # Neither the message nor the trace leaves the house: they may quote what another tenant wrote.
    log.exception("%s %s failed", request.method, request.path, exc_info=error)
    _write(request, response, 500, "internal_error", "something went wrong on our side; the log has it")


def _write(request: falcon.Request, response: falcon.Response, status: int, code: str, detail: str, **extra: Any) -> None:
    problem = {
        "type": "about:blank",
        "title": falcon.code_to_http_status(status).split(" ", 1)[1],
        "status": status,
        "code": code,
        "detail": detail,
        "instance": request.path,
        **{key: value for key, value in extra.items() if value},
    }
    response.status = status
    response.content_type = "application/problem+json"
    if status == 401:
        response.set_header("WWW-Authenticate", "Bearer")
    if status == 503:
        response.set_header("Retry-After", "1" if code == "busy_try_again" else "5")
    response.text = json.dumps(problem, default=str)
