"""The connection to PostgreSQL: one proxy that the models are bound to, opened by `connect`.

Timestamps are the database's own, so that two hosts with different clocks agree about leases.
"""

import logging
import math
import select
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self

import peewee
from playhouse.pool import PooledPostgresqlDatabase
from psycopg2.extensions import TRANSACTION_STATUS_IDLE

from shim.errors import Unavailable

# The panel's tables of the same names stay in "public"; ours, if any had to step aside, are found first.
SEARCH_PATH = "cloudpods,public"

log = logging.getLogger(__name__)

database = peewee.DatabaseProxy()


@dataclass(frozen=True)
class Patience:
    """For how many seconds PostgreSQL lets a connection wait for a lock, work at a statement, and hold a transaction idly.

    0: for ever. What takes longer is ended there: one process that hangs must not make all others hang.
    """

    lock_s: int = 0
    statement_s: int = 0
    idle_s: int = 0

    def options(self) -> str:
        """Return it as libpq's options."""
        said = {
            "lock_timeout": self.lock_s,
            "statement_timeout": self.statement_s,
            "idle_in_transaction_session_timeout": self.idle_s,
        }
        return "".join(f" -c {name}={seconds}s" for name, seconds in said.items())


# Somebody waits for the answer of a request; nobody waits for a worker or the clock. A migration takes what it takes.
REQUESTS = Patience(lock_s=5, statement_s=15, idle_s=30)
BACKGROUND = Patience(lock_s=60, idle_s=120)
ENDLESS = Patience()

# What a client had locked whose host is gone without a word is free after half a minute, not two hours: rows, and the lock
# of the scheduler that works. The client looks as often (`connect`).
_ALIVE = " -c tcp_keepalives_idle=15 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3"

# What PostgreSQL ended for others' sake, and what may work when asked again: a deadlock, two transactions that do not go
# together, a lock not had in time, a statement that took too long.
_BUSY = ("40P01", "40001", "55P03", "57014")


class _Pool(PooledPostgresqlDatabase):  # type: ignore[misc]
    """Connections that are asked whether they still stand without a question to the server, which each use would wait for.

    One that ends in the middle of a statement or a commit is told by one error, whichever of its own psycopg2 raises.
    """

    def execute_sql(self, sql: str, params: Any = None) -> Any:
        with _lost_as_operational():
            return super().execute_sql(sql, params)

    def commit(self) -> Any:
        with _lost_as_operational():
            return super().commit()

    def _is_closed(self, connection: Any) -> bool:
        # To one that rests the server says nothing but its end, and what was said can be seen from here.
        resting = not connection.closed and connection.info.transaction_status == TRANSACTION_STATUS_IDLE
        if not resting:
            return True
        said = select.poll()
        said.register(connection, select.POLLIN)
        return bool(said.poll(0))


@contextmanager
def _lost_as_operational() -> Iterator[None]:
    """Raise OperationalError for what psycopg2 gives no class of its own: a server that was killed, and could say nothing."""
    try:
        yield
    except peewee.DatabaseError as error:
        if type(error) is peewee.DatabaseError and getattr(getattr(error, "orig", None), "pgcode", None) is None:
            raise peewee.OperationalError(*error.args) from error
        raise


def connect(url: str, *, pool_size: int = 8, patience: Patience = ENDLESS) -> PooledPostgresqlDatabase:
    """Given a libpq URL, return a database whose connections are pooled per process, and bind the models to it.

    Nothing is opened yet; a forked child must call it anew.
    """
    pooled = _Pool(
        url,
        max_connections=pool_size,
        stale_timeout=300,
        timeout=5,
        autoconnect=False,
        connect_timeout=5,
        options=f"-c search_path={SEARCH_PATH} -c timezone=UTC{patience.options()}{_ALIVE}",
        keepalives_idle=15,
        keepalives_interval=5,
        keepalives_count=3,
        application_name="cloudpods",
    )
    database.initialize(pooled)
    return pooled


class Model(peewee.Model):
    """The parent of every table's model."""

    class Meta:
        database = database
        legacy_table_names = False

    @classmethod
    def write(cls, **columns: Any) -> Self:
        """Insert a row; return it as it was written, with what the database filled in, without asking for it again."""
        (row,) = cls.insert(**columns).returning(cls).execute()
        return row  # type: ignore[no-any-return]

    @classmethod
    def write_all(cls, rows: list[dict[str, Any]]) -> None:
        """Insert many rows at once."""
        for some in peewee.chunked(rows, 250):
            cls.insert_many(some).execute()


@dataclass(frozen=True)
class _Slot:
    number: int


def slot(number: int) -> peewee.SQL:
    """Return what stands in a query that is to be `Prepared` for the value with this number."""
    return peewee.SQL("%s", [_Slot(number)])


class Prepared:
    """A query of a model with slots, whose SQL is written once: with a join, peewee writes longer than PostgreSQL answers."""

    def __init__(self, query: Any) -> None:
        self._query = query
        self._sql, self._parameters = query.sql()

    def first(self, *values: Any) -> Any:
        """Return the first row for these values, None when there is none."""
        given = [values[each.number] if isinstance(each, _Slot) else each for each in self._parameters]
        found = self._query._get_cursor_wrapper(database.execute_sql(self._sql, given))
        return next(iter(found), None)


def new_id() -> str:
    """Return a new primary key: a random UUID as text, which is what the tables' own default gives."""
    return str(uuid.uuid4())


@contextmanager
def session() -> Iterator[None]:
    """Hold a connection for this thread; give it back on the way out. Raises Unavailable when none can be had.

    Inside another session of the same thread it is that one's connection.
    """
    if not database.is_closed():
        yield
        return
    try:
        database.connect()
    except (peewee.OperationalError, peewee.InterfaceError, ValueError) as error:
        # libpq's words name host, port and user: for the log and the terminal, not for whoever asks by HTTP.
        log.warning("cannot connect to the database: %s", first_line(error))
        raise Unavailable("the database does not answer", code="database_unavailable") from error
    try:
        yield
    finally:
        if not database.is_closed():
            database.close()


def lock(name: str) -> None:
    """Wait for the advisory lock of this name and hold it to the end of the transaction."""
    database.execute_sql("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"cloudpods:{name}",))


def rows(sql: str, parameters: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return all rows of a statement."""
    return list(database.execute_sql(sql, parameters).fetchall())


def storable(value: Any) -> Any:
    """Return a value as PostgreSQL can keep it: without NUL and half surrogate pairs, which a node's output may have.

    A number that JSON has not (NaN) becomes null.
    """
    if isinstance(value, dict):
        return {storable(key): storable(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [storable(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.replace("\x00", "\ufffd").encode(errors="replace").decode() if isinstance(value, str) else value


def was_busy(error: BaseException) -> bool:
    """Return whether PostgreSQL answers, and ended a transaction that others were in the way of."""
    return getattr(getattr(error, "orig", error), "pgcode", None) in _BUSY


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text: libpq's messages go over several."""
    return str(error).strip().split("\n", 1)[0]


def now(*, plus_s: float = 0.0) -> Any:
    """Return the database's clock as an expression, some seconds ahead if asked."""
    return peewee.SQL("now() + make_interval(secs => %s)", [plus_s])


def age(moment: datetime) -> timedelta:
    """Return how long ago a moment was, by the database's clock, which wrote it down."""
    ((span,),) = rows("SELECT now() - %s::timestamptz", (moment,))
    return span  # type: ignore[no-any-return]


def iso(moment: datetime | None) -> str | None:
    """Return a timestamp as ISO 8601 text."""
    return moment.isoformat() if moment else None
