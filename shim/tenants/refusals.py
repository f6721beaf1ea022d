"""What PostgreSQL refuses of these tables, in words: the constraint knows best, whoever else writes at the same time."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import peewee

from shim.db import database
from shim.errors import Conflict

# Each constraint with the field that breaks it.
_UNIQUE = {
    "users_pkey": "id",
    "users_email_key": "email",
    "plans_pkey": "id",
    "plans_slug_key": "slug",
    "tenants_pkey": "id",
    "tenants_slug_key": "slug",
    "address_pools_name_key": "name",
    "blueprints_slug_key": "slug",
}


@contextmanager
def taken(kind: str) -> Iterator[None]:
    """Write in the block; raise Conflict naming the field whose value another row of this kind has."""
    try:
        with database.atomic():
            yield
    except peewee.IntegrityError as error:
        field = _UNIQUE.get(_constraint(error))
        if field is None:
            raise
        raise another_has(field, kind) from error


def another_has(field: str, kind: str) -> Conflict:
    """Return the refusal of a value that another row of this kind has in this field."""
    rule = f"another {kind} has it"
    return Conflict(f"{field}: {rule}", code=f"{field}_taken", fields=[{"field": field, "rule": rule}])


@contextmanager
def in_use(kind: str, id: str) -> Iterator[None]:
    """Delete in the block; raise Conflict when something still refers to the row."""
    try:
        with database.atomic():
            yield
    except peewee.IntegrityError as error:
        raise Conflict(
            f"{kind} {id} is in use: tenants, deleted ones too, or what belongs to them refer to it", code=f"{kind}_in_use"
        ) from error


def _constraint(error: Any) -> str:
    return error.orig.diag.constraint_name or ""
