"""The schema, step by step: numbered files which only create and add."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peewee
from playhouse.migrations import Runner

from shim import db

HISTORY_TABLE = "cloudpods_migrations"
DIRECTORY = Path(__file__).parent
# What the steps use: not a step itself, and the same however often it runs.
BEFORE = DIRECTORY / "to_public.sql"


def upgrade() -> list[str]:
    """Apply what is missing to the connected database; return the names applied. Two at once wait for each other."""
    with db.database.atomic():
        db.lock("migrate")
        _make_schema()
        db.database.execute_sql(_for_driver(BEFORE))
        return list(_runner().up())


def same_named_sql(migration: str) -> Callable[[Any, Any], None]:
    """Given a migration's file, return its `up`: it runs the SQL file of the same name, which `as_sql` prints as it is."""

    def up(migrator: Any, database: Any) -> None:
        database.execute_sql(_for_driver(Path(migration).with_suffix(".sql")))

    return up


def _for_driver(path: Path) -> str:
    # The driver reads a percent sign as a placeholder; psql does not.
    return path.read_text().replace("%", "%%")


def _make_schema() -> None:
    # IF NOT EXISTS looks and then writes: beside somebody who does not take our lock it may still meet theirs.
    with contextlib.suppress(peewee.IntegrityError), db.database.atomic():
        db.database.execute_sql("CREATE SCHEMA IF NOT EXISTS cloudpods")


def pending() -> list[str]:
    """Return the names of the migrations that the connected database lacks."""
    return [step.name for step in _runner().status() if not step.applied and step.path]


def as_sql() -> str:
    """Return the whole schema as plain SQL for `psql -v ON_ERROR_STOP=1 -f`, with the history rows that say it was applied.

    It is for a database that has nothing of it yet: on another one it fails and changes nothing.
    """
    parts = [
        "BEGIN;",
        BEFORE.read_text(),
        f"CREATE TABLE IF NOT EXISTS cloudpods.{HISTORY_TABLE} "
        "(id serial PRIMARY KEY, name varchar(255) NOT NULL UNIQUE, applied timestamp NOT NULL DEFAULT now());",
    ]
    for path in sorted(DIRECTORY.glob("[0-9]*.sql")):
        parts += [
            path.read_text(),
            f"INSERT INTO cloudpods.{HISTORY_TABLE} (name, applied) VALUES ('{path.stem}', now());",
        ]
    return "\n".join([*parts, "COMMIT;", ""])


def _runner() -> Runner:
    return Runner(db.database.obj, str(DIRECTORY), table_name=HISTORY_TABLE, schema="cloudpods")
