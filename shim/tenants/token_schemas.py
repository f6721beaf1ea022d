"""What clients may ask of tokens, and what they get."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from shim.caller import USER_ID, UserRole
from shim.tenants.tokens import Bound
from shim.web.paging import PageQuery
from shim.web.schema import Answer, Moment, Name, Request

TokenName = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")]
UserId = Annotated[str, Field(pattern=f"^{USER_ID}$")]
Days = Annotated[int, Field(ge=1, le=3650)]


_BINDING = ("tenantId", "role", "userId")
# What `CreateToken` checks, for the OpenAPI document.
_UNBOUND: Any = {"properties": {name: {"type": "null"} for name in _BINDING}}
_BOUND: Any = {"required": list(_BINDING), "properties": {name: {"type": "string"} for name in _BINDING}}


class CreateToken(Request):
    """`POST /internal/tokens`: a service's, or with `tenantId`, `role` and `userId` a user's."""

    model_config = ConfigDict(json_schema_extra={"anyOf": [_UNBOUND, _BOUND]})

    name: TokenName
    tenant_id: Name | None = None
    role: UserRole | None = None
    user_id: UserId | None = None
    expires_in_days: Days | None = None

    @model_validator(mode="after")
    def _bound_or_not(self) -> "CreateToken":
        given = [value is not None for value in (self.tenant_id, self.role, self.user_id)]
        if any(given) and not all(given):
            raise ValueError("tenantId, role and userId belong together: all for a user's token, none for a service's")
        return self

    def bound(self) -> Bound | None:
        """Return whose it is to be, None for a service."""
        if self.tenant_id is None or self.role is None or self.user_id is None:
            return None
        return Bound(self.tenant_id, self.role, self.user_id)


class TokensQuery(PageQuery):
    """Which tokens."""

    tenant_id: str | None = None


class TokenAnswer(Answer):
    """A token; its secret is not known any more. A service's has no tenant, role and user."""

    id: str
    name: str
    kind: Literal["service", "user"]
    tenant_id: str | None
    role: UserRole | None
    user_id: str | None
    created_at: Moment
    expires_at: Moment | None
    last_used_at: Moment | None = Field(description="Exact to a minute.")
    revoked_at: Moment | None


class NewTokenAnswer(TokenAnswer):
    """A new token with its secret, which is shown this once."""

    secret: str
