"""The database itself keeps events as they were, and numbers them in the order in which they can be seen."""

import threading

import psycopg2
import pytest

from shim import db, migrations
from shim.events.models import CloudPodEvent, Filters

pytestmark = pytest.mark.usefixtures("tenants")

CHANGES = {
    "a message": "UPDATE cloud_pod_events SET message = 'b'",
    "a number": "UPDATE cloud_pod_events SET seq = seq + 1000",
    "nothing at all": "UPDATE cloud_pod_events SET seq = seq",
    "DELETE": "DELETE FROM cloud_pod_events",
    "DELETE of none": "DELETE FROM cloud_pod_events WHERE false",
    "TRUNCATE": "TRUNCATE cloud_pod_events",
    "TRUNCATE of what it refers to": "TRUNCATE cloud_pod_jobs CASCADE",
}


@pytest.fixture
def transaction(servers):
    """Return a way to open a connection whose transaction the test ends."""
    opened = []

    def begin():
        connection = psycopg2.connect(servers.database_url, options="-c search_path=cloudpods,public")
        opened.append(connection)
        return connection, connection.cursor()

    yield begin
    for connection in opened:
        connection.close()


INSERT = "INSERT INTO cloud_pod_events (type, message) VALUES ('INFO', %s)"


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_happened_cannot_be_changed(sql, change):
    sql(INSERT, "a")
    before = sql("SELECT * FROM cloud_pod_events")
    with pytest.raises(psycopg2.errors.RestrictViolation, match="events are only appended"):
        sql(change)
    assert sql("SELECT * FROM cloud_pod_events") == before


@pytest.mark.parametrize("change", ["message = 'b'", "message = 'b', seq = 7", "tenant_id = 'TENANT-456'", "data = '{}'"])
def test_not_even_by_the_transaction_that_wrote_it(transaction, change):
    _, cursor = transaction()
    cursor.execute(INSERT, ("a",))
    with pytest.raises(psycopg2.errors.RestrictViolation):
        cursor.execute(f"UPDATE cloud_pod_events SET {change}")


@pytest.mark.parametrize("forged", [1, 10**15, -5, 0])
def test_nobody_chooses_a_number(sql, transaction, forged):
    sql(INSERT, "before")
    last = sql.value("SELECT max(seq) FROM cloud_pod_events")
    connection, cursor = transaction()
    cursor.execute("INSERT INTO cloud_pod_events (seq, type, message) VALUES (%s, 'INFO', 'forged')", (forged,))
    cursor.execute("UPDATE cloud_pod_events SET seq = %s WHERE message = 'forged'", (forged,))
    connection.commit()
    sql(INSERT, "after")
    numbers = [seq for (seq,) in sql("SELECT seq FROM cloud_pod_events ORDER BY created_at")]
    assert numbers == sorted(numbers)
    assert last < numbers[1] < last + 10


def test_numbers_are_given_as_events_are_committed(sql, transaction):
    (first, one), (second, two) = transaction(), transaction()
    one.execute(INSERT, ("began first",))
    two.execute(INSERT, ("committed first",))
    second.commit()
    first.commit()
    assert sql("SELECT message FROM cloud_pod_events ORDER BY seq") == [("committed first",), ("began first",)]
    assert sql.value("SELECT min(seq) FROM cloud_pod_events") > 0


def test_events_of_one_transaction_keep_their_order(sql, transaction):
    connection, cursor = transaction()
    cursor.execute("INSERT INTO cloud_pod_events (type, message) SELECT 'INFO', n::text FROM generate_series(1, 1500) n")
    connection.commit()
    assert [int(m) for (m,) in sql("SELECT message FROM cloud_pod_events ORDER BY seq")] == list(range(1, 1501))


def test_an_event_that_is_not_committed_is_not_listed_to_its_own_transaction(session):
    with db.database.atomic():
        CloudPodEvent.record("INFO", "a", action="TRIED")
        assert CloudPodEvent.page(Filters(), after=0, limit=10) == []
    assert [event.message for event in CloudPodEvent.page(Filters(), after=0, limit=10)] == ["a"]


def test_two_that_hold_each_others_rows_until_they_commit_do_not_wait_for_ever(sql, transaction):
    """The stream's lock comes last: taken at the INSERT it would make a ring of the rows' locks and itself."""
    (first, one), (second, two) = transaction(), transaction()
    one.execute(INSERT, ("a",))
    two.execute("SELECT 1 FROM tenants WHERE id = 'TENANT-123' FOR UPDATE")
    two.execute(INSERT, ("b",))
    waiting = threading.Thread(target=lambda: one.execute("SELECT 1 FROM tenants WHERE id = 'TENANT-123' FOR UPDATE"))
    waiting.start()
    second.commit()
    waiting.join(10)
    first.commit()
    assert sql("SELECT message FROM cloud_pod_events ORDER BY seq") == [("b",), ("a",)]


def test_they_are_kept_where_a_panels_table_has_the_name(empty_database, sql_of_empty):
    sql_of_empty("CREATE TABLE public.cloud_pod_events (id int, seq int, message text)")
    sql_of_empty("INSERT INTO public.cloud_pod_events VALUES (1, -1, 'theirs')")
    db.connect(empty_database, pool_size=2)
    with db.session():
        migrations.upgrade()
    sql_of_empty(INSERT, "ours")
    sql_of_empty("CREATE TEMP TABLE cloud_pod_events (LIKE cloudpods.cloud_pod_events)")
    sql_of_empty("INSERT INTO cloudpods.cloud_pod_events (type, message) VALUES ('INFO', 'ours too')")
    assert sql_of_empty.value("SELECT count(*) FROM cloudpods.cloud_pod_events WHERE seq > 0") == 2
    with pytest.raises(psycopg2.errors.RestrictViolation):
        sql_of_empty("DELETE FROM cloudpods.cloud_pod_events")
    sql_of_empty("UPDATE public.cloud_pod_events SET message = 'still theirs'")
    sql_of_empty("DELETE FROM public.cloud_pod_events")
