"""Tokens given out and taken back, each with its event."""

from typing import cast

from shim.caller import PERMISSIONS, UserRole
from shim.db import database
from shim.events.models import CloudPodEvent
from shim.tenants.models import Tenant
from shim.tenants.token_schemas import CreateToken
from shim.tenants.tokens import ApiToken, Issued


def grant(wanted: CreateToken) -> Issued:
    """Return a new token. Raises NotFound without the tenant it is to be bound to."""
    bound = wanted.bound()
    with database.atomic():
        if bound is not None:
            Tenant.find(bound.tenant_id, field="tenantId")
        issued = ApiToken.issue(wanted.name, bound, expires_days=wanted.expires_in_days)
        _record(issued.token, "TOKEN_CREATED", "created")
    return issued


def revoke(token_id: str) -> None:
    """Make the token worthless from now on; once more changes nothing. Raises NotFound."""
    with database.atomic():
        _revoke(ApiToken.named(token_id))


def revoke_all(user_id: str) -> None:
    """Make every token of a user worthless, inside the transaction that is open."""
    for token in ApiToken.live(user_id):
        _revoke(token)


def revoke_beyond(user_id: str, role: UserRole) -> None:
    """Make those of a user's tokens worthless that may do what this role may not. A JWT is good to its end."""
    for token in ApiToken.live(user_id):
        if not PERMISSIONS[cast("UserRole", token.role)] <= PERMISSIONS[role]:
            _revoke(token)


def _revoke(token: ApiToken) -> None:
    if token.revoke():
        _record(token, "TOKEN_REVOKED", "revoked")


def _record(token: ApiToken, action: str, verb: str) -> None:
    about = {"tokenId": token.id, "name": token.name, "role": token.role, "userId": token.user_id}
    CloudPodEvent.record("INFO", f"Token {token.name} {verb}", tenant_id=token.tenant_id, action=action, **about)
