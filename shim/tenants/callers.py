"""Who holds a bearer token: one of ours, which its prefix tells, or a JWT of the panel's."""

import hmac
from typing import Protocol

from shim import jwt_key
from shim.caller import Caller
from shim.config import Settings
from shim.tenants import tokens
from shim.tenants.jwt_callers import JwtCallers


class _Jwts(Protocol):
    def holder(self, token: str) -> Caller | None: ...


class _NoJwts:
    """Without a key no JWT is good."""

    def holder(self, token: str) -> Caller | None:  # noqa: ARG002
        return None


class Callers:
    """Finds the caller of a request."""

    def __init__(self, settings: Settings) -> None:
        self._jwts = _jwts(settings)
        self._metrics = settings.metrics_token

    def find(self, token: str) -> Caller | None:
        """Return who holds this token, None when nobody does. Raises Unauthenticated when it has expired."""
        if token.startswith(tokens.PREFIX):
            return tokens.ApiToken.holder(token)
        if self._metrics is not None and hmac.compare_digest(token.encode(errors="replace"), self._metrics.encode()):
            return Caller(name="prometheus", role="metrics")
        return self._jwts.holder(token)


def _jwts(settings: Settings) -> _Jwts:
    if settings.jwt_key is None or settings.jwt_issuer is None or settings.jwt_audience is None:
        return _NoJwts()
    key = jwt_key.read(settings.jwt_key, settings.jwt_algorithms)
    return JwtCallers(key, issuer=settings.jwt_issuer, audience=settings.jwt_audience)
