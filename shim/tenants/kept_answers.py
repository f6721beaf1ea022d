"""The table of Idempotency-Keys: which request came first with one, and what it was answered, for a day."""

from typing import Any

import peewee
from playhouse.postgres_ext import BinaryJSONField

from shim import db
from shim.db import Model
from shim.errors import Conflict, Invalid
from shim.web.idempotency import Answer

KEPT_HOURS = 24

# A key that is older than a day is as good as new, whether or not its row was removed yet.
_BEGIN = """
INSERT INTO idempotency_keys AS k (scope, request_hash) VALUES (%(scope)s, %(request_hash)s)
ON CONFLICT (scope) DO UPDATE
SET request_hash = excluded.request_hash, created_at = now(), status = NULL, headers = NULL, text = NULL
WHERE k.created_at <= now() - make_interval(hours => %(hours)s)
RETURNING scope
"""


class KeptAnswer(Model):
    """A key, known by the hash of whose it is, and the answer to its first request."""

    scope = peewee.TextField(primary_key=True)
    request_hash = peewee.TextField()
    status: Any = peewee.IntegerField(null=True)
    headers = BinaryJSONField(null=True, index=False)
    text = peewee.TextField(null=True)
    created_at = peewee.DateTimeField()

    class Meta:
        table_name = "idempotency_keys"

    @classmethod
    def begin(cls, scope: str, request_hash: str) -> Answer | None:
        """Return the answer kept for this request, None when it is new: then its key is written.

        Raises Conflict while the key's first request is under way, Invalid when it was another request.
        """
        name = f"cloudpods:idempotency:{scope}"
        ((first,),) = db.rows("SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 0))", (name,))
        if not first:
            raise Conflict("the first request with this Idempotency-Key is under way; ask again", code="idempotency_in_flight")
        given: Any = {"scope": scope, "request_hash": request_hash, "hours": KEPT_HOURS}
        if db.rows(_BEGIN, given):
            return None
        kept = cls.get_by_id(scope)
        if kept.request_hash != request_hash:
            raise Invalid(
                f"this Idempotency-Key was used for another request in the last {KEPT_HOURS} hours; send a new one",
                code="idempotency_key_reused",
            )
        return Answer(kept.status, kept.headers, kept.text)

    @classmethod
    def keep(cls, scope: str, answer: Answer) -> None:
        """Keep the answer with its key."""
        cls.update(status=answer.status, headers=answer.headers, text=answer.text).where(cls.scope == scope).execute()

    @classmethod
    def forget_old(cls) -> None:
        """Remove the keys that count no more."""
        db.database.execute_sql(
            "DELETE FROM idempotency_keys WHERE created_at <= now() - make_interval(hours => %s)", (KEPT_HOURS,)
        )
