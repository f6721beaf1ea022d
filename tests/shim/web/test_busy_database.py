"""A database that answers and is busy is told apart from one that is away; nobody waits for a lock without an end."""

import threading

import peewee
import psycopg2
import pytest

from shim import app, db

POD = {"tenantId": "TENANT-123", "hostname": "client-portal", "cores": 1, "memoryMb": 512}


@pytest.fixture
def impatient(settings, api):
    """Let requests wait a short while only."""
    db.connect(settings.database_url, pool_size=4, patience=db.Patience(lock_s=1, statement_s=60, idle_s=60))


@pytest.fixture
def other(settings):
    """Return a connection of somebody else's."""
    made = psycopg2.connect(settings.database_url, options="-c search_path=cloudpods,public")
    yield made
    made.close()


@pytest.mark.usefixtures("impatient")
def test_a_lock_that_is_not_had_in_time_is_answered_as_busy(api, sql, other, assert_problem, caplog):
    with other.cursor() as cursor:
        cursor.execute("SELECT 1 FROM tenant_quotas WHERE tenant_id = 'TENANT-123' FOR UPDATE")
    answer = api.simulate_post("/internal/cloudpods", json=POD)
    assert_problem(answer, 503, "busy_try_again")
    assert answer.headers["retry-after"] == "1"
    assert "lock timeout" in caplog.text
    assert "went away" not in caplog.text
    assert sql.counts()["cloud_pods"] == 0
    assert api.simulate_post("/internal/cloudpods", json={**POD, "tenantId": "TENANT-456"}).status_code == 202
    other.rollback()
    assert api.simulate_post("/internal/cloudpods", json=POD).status_code == 202


@pytest.mark.usefixtures("impatient")
def test_a_deadlock_is_known_as_what_it_is(tenants):
    locked, errors = threading.Barrier(2, timeout=60), []

    def hold(first, second):
        try:
            with db.session(), db.database.atomic():
                db.database.execute_sql("SET LOCAL lock_timeout = 0; SET LOCAL deadlock_timeout = '10ms'")
                db.lock(first)
                locked.wait()
                db.lock(second)
        except peewee.OperationalError as error:
            errors.append(error)

    threads = [threading.Thread(target=hold, args=names) for names in (("a", "b"), ("b", "a"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [(error.orig.pgcode, db.was_busy(error)) for error in errors] == [("40P01", True)]


@pytest.mark.own_patience
def test_requests_have_bounds(tenants):
    app.create(tenants)
    with db.session():
        names = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout")
        assert [db.rows(f"SHOW {name}")[0][0] for name in names] == ["5s", "15s", "30s"]
    assert not db.was_busy(peewee.OperationalError("server closed the connection unexpectedly"))


class Killed:
    """A cursor whose server is killed while it works: what psycopg2 raises then has no class of its own, now and then."""

    def execute(self, *_: object) -> None:
        raise psycopg2.DatabaseError("server closed the connection unexpectedly\n\tThis probably means the server terminated")


def test_a_server_that_is_killed_in_the_middle_of_a_statement_is_told_to_be_away(api, assert_problem, monkeypatch):
    monkeypatch.setattr(type(db.database.obj), "cursor", lambda *_: Killed())
    assert_problem(api.simulate_post("/internal/cloudpods", json=POD), 503, "database_unavailable")
    with db.session(), pytest.raises(peewee.OperationalError):
        db.rows("SELECT 1")
