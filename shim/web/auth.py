"""Who is asking: a bearer token, looked up by a function the app brings along; and whether the route is open to them."""

import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import falcon

from shim import caller, log
from shim.caller import Caller
from shim.db import new_id
from shim.errors import Forbidden, Invalid, Unauthenticated
from shim.web import forwarded, operation

ACTING_USER = "X-Acting-User"
REQUEST_ID = "X-Request-Id"

_USER = re.compile(caller.USER_ID)
_REQUEST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")


class RequestIds:
    """Gives each request an id, which the answer says, and finds the address that it comes from."""

    def __init__(self, trusted_proxies: Sequence[forwarded.Network] = ()) -> None:
        self._trusted = trusted_proxies

    def process_request(self, request: falcon.Request, response: falcon.Response) -> None:
        """Put both into the request's context, the id into the answer's header."""
        request.context.remote_addr = forwarded.address(request, self._trusted)
        request.context.request_id = new_id()
        response.set_header(REQUEST_ID, request.context.request_id)


class Credentials:
    """Refuses, before anything is opened for it, a request that brings no token, but for resources that say `public = True`."""

    def process_resource(self, request: falcon.Request, response: falcon.Response, resource: Any, params: Any) -> None:
        """Put the token into the request's context."""
        if getattr(resource, "public", False):
            return
        scheme, _, token = (request.auth or "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Unauthenticated("send the header `Authorization: Bearer <token>`; `cloudpods token create` makes one")
        request.context.token = token.strip()


class Authentication:
    """Refuses every request whose token is not known, and every one whose role may not call the route."""

    def __init__(self, find: Callable[[str], Caller | None]) -> None:
        self._find = find

    def process_resource(self, request: falcon.Request, response: falcon.Response, resource: Any, params: Any) -> None:
        """Make the caller known for the length of the request."""
        if getattr(resource, "public", False):
            return
        found = self._find(request.context.token)
        if found is None:
            raise Unauthenticated("the token is unknown or revoked")
        if found.role == "service":
            _take_id(request, response)
        # For an answer that takes so long that a token may be revoked, or its bearer's role taken, under it.
        request.context.still_may = lambda: self._still(request, resource)
        asking = replace(
            found,
            user_id=_acting_user(request, found),
            remote_addr=request.context.remote_addr,
            request_id=request.context.request_id,
        )
        request.context.caller = asking
        request.context.asking = ExitStack()
        request.context.asking.enter_context(caller.asking(asking))
        _authorize(request, resource, asking)

    def _still(self, request: falcon.Request, resource: Any) -> bool:
        try:
            found = self._find(request.context.token)
            if found is not None:
                _authorize(request, resource, found)
        except (Unauthenticated, Forbidden):
            return False
        return found is not None

    def process_response(self, request: falcon.Request, response: falcon.Response, resource: Any, req_succeeded: bool) -> None:
        """Forget the caller, however the request ended."""
        held = getattr(request.context, "asking", None)
        if held is not None:
            request.context.asking = None
            held.close()


def _take_id(request: falcon.Request, response: falcon.Response) -> None:
    """Let a service name the request: its log and ours are then one. A user's name could be another request's."""
    said = request.get_header(REQUEST_ID) or ""
    if _REQUEST.fullmatch(said):
        request.context.request_id = said
        request.context.said.enter_context(log.bound(request_id=said))
        response.set_header(REQUEST_ID, said)


def _acting_user(request: falcon.Request, found: Caller) -> str | None:
    said = request.get_header(ACTING_USER)
    if said is None:
        return found.user_id
    if found.role != "service":
        raise Forbidden(f"only a service may name the acting user; leave out the header {ACTING_USER}")
    if not _USER.fullmatch(said):
        raise Invalid.field(ACTING_USER, "must be a user's id: 1 to 128 letters, digits, or . _ : @ + -")
    return said


def _authorize(request: falcon.Request, resource: Any, asking: Caller) -> None:
    if not hasattr(resource, f"on_{request.method.lower()}"):
        # Falcon answers 405.
        return
    declared = operation.of(resource, request.method)
    if declared is None:
        raise Forbidden("nobody may call this route: it declares no permission")
    if declared.permission is not None:
        asking.require(declared.permission)
