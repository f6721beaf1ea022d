"""Who holds a JWT that the panel signed. Whatever is wrong with one, its bearer learns no more than that it is unknown."""

import logging
import time
from typing import Annotated, Any

import jwt
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from shim.caller import USER_ID, Caller, UserRole
from shim.errors import Unauthenticated
from shim.jwt_key import JwtKey
from shim.tenants.models import Tenant

log = logging.getLogger(__name__)

# A panel's token has some hundred bytes; what is longer is not even looked into.
MAX_LENGTH = 4096
# Clocks differ.
LEEWAY_S = 30
# The longest that one may be good for: its bearer's role can be taken only by its end.
LONGEST_S = 24 * 3600
# Those without which nothing is known; PyJWT looks at `iat` and `nbf` when they are there.
REQUIRED = ["exp", "iss", "aud", "sub"]


def _text(value: str) -> str:
    value.encode()
    return value


class Claims(BaseModel):
    """What a JWT says of its bearer. A service has no JWT: role `service` is as unknown as any other word."""

    model_config = ConfigDict(strict=True)

    exp: float
    iat: float | None = None
    sub: Annotated[str, Field(pattern=f"^{USER_ID}$")]
    # Half of a surrogate pair is JSON, but no text.
    tenant: Annotated[str, AfterValidator(_text)]
    role: UserRole


class JwtCallers:
    """Checks the panel's JWTs with its one key: what a token's own header says of keys (`kid`, `jku`, `jwk`) is not read."""

    def __init__(self, key: JwtKey, *, issuer: str, audience: str) -> None:
        self._key, self._algorithms = key.key, list(key.algorithms)
        self._issuer, self._audience = issuer, audience

    def holder(self, token: str) -> Caller | None:
        """Return who holds this token, None when it is not good. Raises Unauthenticated when it was and has expired."""
        claims = self._claims(token)
        if claims is None or not Tenant.is_there(claims.tenant):
            return None
        # Idempotency keys are a token's: the user's next JWT is the same one in that respect.
        named = f"jwt:{claims.sub}"
        return Caller(token_id=named, name="jwt", role=claims.role, tenant_id=claims.tenant, user_id=claims.sub)

    def _claims(self, token: str) -> Claims | None:
        if len(token) > MAX_LENGTH:
            return None
        try:
            claims = Claims.model_validate(self._decode(token))
        except jwt.ExpiredSignatureError:
            raise Unauthenticated("the token has expired") from None
        # Beside PyJWT's own: JSON nested too deeply, numbers without end, claims that are not ours.
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            log.info("a JWT was refused: %s", type(error).__name__)
            return None
        if claims.exp - max(claims.iat or 0, time.time()) > LONGEST_S + LEEWAY_S:
            log.info("a JWT was refused: it is good for longer than %d hours", LONGEST_S // 3600)
            return None
        return claims

    def _decode(self, token: str) -> Any:
        return jwt.decode(
            token,
            self._key,
            algorithms=self._algorithms,
            issuer=self._issuer,
            audience=self._audience,
            leeway=LEEWAY_S,
            options={"require": REQUIRED},
        )
