"""Who is asking: a bearer token, looked up by a function the app brings along."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import falcon

from shim.errors import Unauthenticated


@dataclass(frozen=True)
class Principal:
    """Who a request comes from."""

    token_id: str
    name: str


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
    """Refuses every request whose token is not known."""

    def __init__(self, find: Callable[[str], Principal | None]) -> None:
        self._find = find

    def process_resource(self, request: falcon.Request, response: falcon.Response, resource: Any, params: Any) -> None:
        """Put the principal into the request's context."""
        if getattr(resource, "public", False):
            return
        principal = self._find(request.context.token)
        if principal is None:
            raise Unauthenticated("the token is unknown, expired or revoked")
        request.context.principal = principal
