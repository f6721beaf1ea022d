"""API tokens: who holds one, until when, and when it was last used."""

import hashlib
import hmac
import secrets
from typing import Any, NamedTuple

import peewee

from shim import db
from shim.caller import Caller, UserRole
from shim.db import Model, new_id
from shim.errors import NotFound, Unauthenticated

PREFIX = "cpods_"


class Bound(NamedTuple):
    """Whose a user's token is: the user acts in this one tenant with this role."""

    tenant_id: str
    role: UserRole
    user_id: str


class Issued(NamedTuple):
    """A new token, and its secret, which nobody can be told again."""

    token: "ApiToken"
    secret: str


class ApiToken(Model):
    """A credential; only its hash is kept. The secret has 256 random bits, so a plain hash cannot be guessed back."""

    id = peewee.TextField(primary_key=True, default=new_id)
    name = peewee.TextField()
    kind = peewee.TextField(default="service")
    token_hash = peewee.TextField(unique=True)
    tenant_id = peewee.TextField(null=True)
    role = peewee.TextField(null=True)
    user_id = peewee.TextField(null=True)
    created_at = peewee.DateTimeField()
    expires_at = peewee.DateTimeField(null=True)
    revoked_at = peewee.DateTimeField(null=True)
    last_used_at = peewee.DateTimeField(null=True)

    class Meta:
        table_name = "api_tokens"

    @classmethod
    def issue(cls, name: str, bound: Bound | None = None, *, expires_days: int | None = None) -> Issued:
        """Store a new token, a service's unless it is bound to a user in a tenant."""
        secret = PREFIX + secrets.token_urlsafe(32)
        made = cls.create(
            name=name,
            kind="user" if bound else "service",
            token_hash=_hash(secret),
            created_at=db.now(),
            expires_at=db.now(plus_s=expires_days * 86400.0) if expires_days else None,
            **(bound._asdict() if bound else {}),
        )
        return Issued(cls.named(made.id), secret)

    @classmethod
    def named(cls, token_id: str) -> "ApiToken":
        """Return the token with this id. Raises NotFound."""
        found: ApiToken | None = cls.get_or_none(cls.id == token_id) if "\x00" not in token_id else None
        if found is None:
            raise NotFound(f"there is no token {token_id!r}", code="token_not_found")
        return found

    @classmethod
    def listed(cls, tenant_id: str | None) -> Any:
        """Return the query of all tokens, or of those bound to one tenant."""
        return cls.select() if tenant_id is None else cls.select().where(cls.tenant_id == tenant_id)

    @classmethod
    def newest(cls, tenant_id: str | None) -> Any:
        """Return all of these, newest first."""
        return cls.listed(tenant_id).order_by(cls.created_at.desc(), cls.id.desc()).iterator()

    @classmethod
    def holder(cls, secret: str) -> Caller | None:
        """Return who holds the live token with this secret, and note its use. Raises Unauthenticated when it has expired.

        The index finds the hash; that it is the same one is then compared in constant time.
        """
        asked = _hash(secret)
        for id, kept, name, role, tenant_id, user_id, expired, unnoted in db.rows(_LIVE, (asked,)):
            if not hmac.compare_digest(kept, asked):
                return None
            if expired:
                raise Unauthenticated("the token has expired")
            if unnoted:
                db.database.execute_sql(_NOTE_USE, (id,))
            return Caller(token_id=id, name=name, role=role, tenant_id=tenant_id, user_id=user_id)
        return None

    def revoke(self) -> bool:
        """Make the token worthless from now on; return whether it was not so already."""
        live = (ApiToken.id == self.id) & ApiToken.revoked_at.is_null()
        return bool(ApiToken.update(revoked_at=db.now()).where(live).execute())

    @classmethod
    def live(cls, user_id: str) -> list["ApiToken"]:
        """Return a user's tokens that are not revoked."""
        return list(cls.select().where(cls.user_id == user_id, cls.revoked_at.is_null()).order_by(cls.id))

    def as_line(self) -> str:
        """Return the token as a line of a terminal."""
        whose = f"{self.user_id} as {self.role} of {self.tenant_id}" if self.kind == "user" else "service"
        used = f"last used {db.iso(self.last_used_at)}" if self.last_used_at else "never used"
        end = f"expires {db.iso(self.expires_at)}" if self.expires_at else "does not expire"
        state = f"revoked {db.iso(self.revoked_at)}" if self.revoked_at else end
        return f"{self.id}  {self.name}  {whose}  {used}  {state}"

    def as_json(self) -> dict[str, Any]:
        """Return the token as clients see it: all but its secret, which is not known here."""
        return {
            "id": self.id,
            "name": self.name,
            "kind": self.kind,
            "tenantId": self.tenant_id,
            "role": self.role,
            "userId": self.user_id,
            "createdAt": db.iso(self.created_at),
            "expiresAt": db.iso(self.expires_at),
            "lastUsedAt": db.iso(self.last_used_at),
            "revokedAt": db.iso(self.revoked_at),
        }


# One statement for each request: the token, whether its tenant is still there, whether its use is to be noted.
_LIVE = """
SELECT t.id, t.token_hash, t.name, coalesce(t.role, 'service'), t.tenant_id, t.user_id, coalesce(t.expires_at <= now(), false),
       coalesce(t.last_used_at < now() - interval '1 minute', true)
FROM api_tokens t LEFT JOIN tenants n ON n.id = t.tenant_id AND n.deleted_at IS NULL
WHERE t.token_hash = %s AND t.revoked_at IS NULL AND (t.tenant_id IS NULL OR n.id IS NOT NULL)
"""

# Of many requests with one token only one writes, and the others do not wait for it.
_NOTE_USE = """
UPDATE api_tokens SET last_used_at = now() WHERE id = (
    SELECT id FROM api_tokens WHERE id = %s AND coalesce(last_used_at < now() - interval '1 minute', true)
    FOR UPDATE SKIP LOCKED)
"""


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()
