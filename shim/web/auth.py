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


class Authentication:
    """Refuses every request without a known token, but those of resources that say `public = True`."""

    def __init__(self, find: Callable[[str], Principal | None]) -> None:
        self._find = find

    def process_resource(self, request: falcon.Request, response: falcon.Response, resource: Any, params: Any) -> None:
        """Put the principal into the request's context."""
        if getattr(resource, "public", False):
            return
        scheme, _, token = (request.auth or "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise _refusal("send the header `Authorization: Bearer <token>`; `cloudpods token create` makes one")
        principal = self._find(token.strip())
        if principal is None:
            raise _refusal("the token is unknown, expired or revoked")
        request.context.principal = principal


def _refusal(message: str) -> Unauthenticated:
    return Unauthenticated(message)
