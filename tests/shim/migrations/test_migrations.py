"""The schema: on a fresh database, twice, two at once, as plain SQL, and beside a panel's own tables."""

import json
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from playhouse.migrations import Runner

from shim import db, migrations
from shim.cloudpods.seed import seed
from shim.embedded.postgres import _find

STEPS = sorted(path.stem for path in migrations.DIRECTORY.glob("[0-9]*.sql"))


# Every column of the master spec's section 1 and of seed 001's tables, in our spelling.
SEEDS = {
    "tenants": "id name slug owner_user_id plan_id region created_at updated_at",
    "users": "id email name role created_at updated_at",
    "plans": ("id name slug description max_cloud_pods max_cpu_cores max_ram_mb max_disk_gb backup_policy created_at"),
    "cloud_pods": (
        "id tenant_id vmid hostname ip region status plan_snapshot cores memory_mb swap_mb storage bridge created_at updated_at"
        " deleted_at last_backup_at last_health_status last_health_checked blueprint_id"
    ),
    "cloud_pod_jobs": "id cloud_pod_id tenant_id type status payload result error created_at started_at finished_at",
    "cloud_pod_events": "id cloud_pod_id tenant_id type message data created_at",
    "tenant_quotas": (
        "id tenant_id max_cloud_pods max_cpu_cores max_ram_mb max_disk_gb used_cloud_pods used_cpu_cores used_ram_mb"
        " used_disk_gb created_at updated_at"
    ),
    "blueprints": "id name slug description spec created_at updated_at",
    "cloud_pod_nodes": (
        "id name provider api_url node_name status total_cpu_cores total_memory_mb total_disk_gb created_at updated_at"
    ),
    "cloud_pod_allocations": "id node_id used_cpu_cores used_memory_mb used_disk_gb created_at updated_at",
}

# Verbatim from the seed.
SEED_INSERTS = """
   INSERT INTO cloud_pod_nodes (name, provider, api_url, node_name, status, total_cpu_cores, total_memory_mb, total_disk_gb)
   VALUES 
     ('srv1-web', 'proxmox', 'https://10.1.10.10:8006/api2/json', 'srv1-web', 'active', 16, 32768, 500),
     ('pod-node-1', 'proxmox', 'https://10.1.10.11:8006/api2/json', 'pod-node-1', 'active', 32, 65536, 1000);
   
   -- Initialize allocations
   INSERT INTO cloud_pod_allocations (node_id, used_cpu_cores, used_memory_mb, used_disk_gb)
   SELECT id, 0, 0, 0 FROM cloud_pod_nodes;
"""  # noqa: W291, W293

COLUMNS = """
SELECT table_name, column_name, data_type, is_nullable, column_default, table_schema FROM information_schema.columns
WHERE table_schema IN ('public', 'cloudpods') AND table_name <> 'cloudpods_migrations' ORDER BY 1, 2
"""
CONSTRAINTS = """
SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
WHERE connamespace IN ('public'::regnamespace, 'cloudpods'::regnamespace) AND conrelid::regclass::text !~ 'migrations'
ORDER BY 1, 2
"""
INDEXES = "SELECT tablename, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1, 2"


@pytest.fixture
def fresh(empty_database, sql_of_empty):
    """Bind the shim to a database with nothing in it; return plain SQL on it."""
    db.connect(empty_database, pool_size=8)
    return sql_of_empty


def upgrade():
    with db.session():
        return migrations.upgrade()


def pending():
    with db.session():
        return migrations.pending()


def psql(url, text):
    """Apply SQL as a person would, by `psql -f`."""
    from shim.embedded.account import Account

    program = _find(Account(Path("/"), None, None)) / "psql"
    command = [str(program), url, "--no-psqlrc", "-q", "-v", "ON_ERROR_STOP=1", "-f", "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)


def test_a_fresh_database_gets_everything_in_public(fresh):
    assert upgrade() == STEPS
    tables = {row[0] for row in fresh("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}
    assert set(SEEDS) <= tables
    assert fresh("SELECT tablename FROM pg_tables WHERE schemaname = 'cloudpods'") == [("cloudpods_migrations",)]


@pytest.mark.parametrize("table", SEEDS)
def test_every_column_of_the_seeds_is_there(sql, settings, table):
    there = {row[0] for row in sql("SELECT column_name FROM information_schema.columns WHERE table_name = %s", table)}
    assert set(SEEDS[table].split()) <= there


def test_a_second_time_there_is_nothing_to_do(fresh):
    upgrade()
    before = fresh(COLUMNS)
    assert pending() == []
    assert upgrade() == []
    assert fresh(COLUMNS) == before


def test_pending_on_a_fresh_database_names_every_step(fresh):
    assert pending() == STEPS


def test_several_at_once_apply_each_step_once(fresh):
    barrier = threading.Barrier(6)

    def one(_):
        barrier.wait(timeout=20)
        return upgrade()

    with ThreadPoolExecutor(6) as pool:
        applied = [name for names in pool.map(one, range(6)) for name in names]
    assert applied == STEPS


def test_another_migration_that_has_not_committed_yet_is_waited_for(fresh, empty_database, eventually):
    """The schema itself is made by both: the second must wait for the first one's, not fail on it."""
    import psycopg2

    with ThreadPoolExecutor(1) as pool:
        first = psycopg2.connect(empty_database)
        first.cursor().execute("CREATE SCHEMA IF NOT EXISTS cloudpods")
        second = pool.submit(upgrade)
        eventually(lambda: second.done() or fresh("SELECT 1 FROM pg_locks WHERE NOT granted"))
        first.commit()
        first.close()
        assert second.result(timeout=20) == STEPS


def test_the_seeds_own_inserts_run_verbatim(fresh, empty_database):
    upgrade()
    done = psql(empty_database, SEED_INSERTS)
    assert (done.returncode, done.stderr) == (0, "")
    assert fresh("SELECT name, total_cpu_cores, total_memory_mb FROM cloud_pod_nodes ORDER BY total_cpu_cores") == [
        ("srv1-web", 16, 32768),
        ("pod-node-1", 32, 65536),
    ]
    joined = "SELECT count(*) FROM cloud_pod_allocations a JOIN cloud_pod_nodes n ON n.id = a.node_id"
    assert fresh.value(joined) == 2
    assert fresh.value("SELECT count(*) FROM cloud_pod_nodes WHERE id <> '' AND created_at <= now()") == 2


def test_a_pod_is_placed_on_a_node_that_the_seeds_insert_made(api_on, fresh, empty_database, settings):
    db.connect(empty_database, pool_size=8)
    upgrade()
    psql(empty_database, SEED_INSERTS)
    fresh("INSERT INTO users (id, email) VALUES ('u', 'a@example.com')")
    limits = "max_cloud_pods, max_cpu_cores, max_ram_mb, max_disk_gb"
    fresh(f"INSERT INTO plans (id, name, slug, {limits}) VALUES ('p', 'p', 'p', 2, 2, 100000, 100)")
    fresh("INSERT INTO tenants (id, name, slug, owner_user_id, plan_id) VALUES ('TENANT-123', 't', 't', 'u', 'p')")
    api = api_on(settings.model_copy(update={"database_url": empty_database}))
    body = {"tenantId": "TENANT-123", "hostname": "a", "cores": 1, "memoryMb": 512}
    assert api.simulate_post("/internal/cloudpods", json=body).json["cloudPod"]["node"] == "pod-node-1"
    full = api.simulate_post("/internal/cloudpods", json={**body, "memoryMb": 65536, "node": "pod-node-1"})
    assert (full.status_code, full.json["code"]) == (409, "no_capacity")


def shape(sql):
    return sql(COLUMNS), sql(CONSTRAINTS), sql(INDEXES)


def test_plain_sql_by_psql_makes_what_the_migrations_make(fresh, empty_database, sql, settings):
    done = psql(empty_database, migrations.as_sql())
    assert (done.returncode, done.stderr) == (0, "")
    assert shape(fresh) == shape(sql)
    assert upgrade() == []
    assert pending() == []


@pytest.mark.parametrize("steps", range(1, len(STEPS) + 1))
def test_plain_sql_on_a_database_that_has_some_of_it_fails_and_changes_nothing(fresh, empty_database, monkeypatch, steps):
    with monkeypatch.context() as patch:
        status = Runner.status
        patch.setattr(Runner, "status", lambda self: status(self)[:steps])
        assert upgrade() == STEPS[:steps]
    before = shape(fresh)
    done = psql(empty_database, migrations.as_sql())
    assert (done.returncode, "already exists" in done.stderr or "duplicate key" in done.stderr) == (3, True), done.stderr
    assert shape(fresh) == before
    assert upgrade() == STEPS[steps:]


PANELS = {
    "integer ids": """
        CREATE TABLE public.users (id serial PRIMARY KEY, login text NOT NULL UNIQUE);
        CREATE TABLE public.tenants (id serial PRIMARY KEY, title text, user_id integer REFERENCES public.users (id));
        CREATE TABLE public.plans (id serial PRIMARY KEY, price numeric(10, 2) NOT NULL);
        CREATE TABLE public.cloud_pods (id serial PRIMARY KEY, tenant integer REFERENCES public.tenants (id), kind text);
        INSERT INTO public.users (login) VALUES ('root'), ('anna');
        INSERT INTO public.tenants (title, user_id) VALUES ('Acme', 2);
        INSERT INTO public.plans (price) VALUES (9.99);
        INSERT INTO public.cloud_pods (tenant, kind) VALUES (1, 'vm');
    """,
    "Prisma's names": """
        CREATE TABLE public.users ("id" text PRIMARY KEY, "emailAddress" text, "createdAt" timestamp(3) DEFAULT now());
        CREATE TABLE public.tenants ("id" text PRIMARY KEY, "planId" text);
        CREATE TABLE public.plans ("id" text PRIMARY KEY, "maxCloudPods" integer);
        CREATE TABLE public.cloud_pods ("id" text PRIMARY KEY, "vmid" integer UNIQUE);
        INSERT INTO public.users VALUES ('u1', 'a@example.com');
        INSERT INTO public.tenants VALUES ('TENANT-123', 'p1');
        INSERT INTO public.plans VALUES ('p1', 3);
        INSERT INTO public.cloud_pods VALUES ('c1', 9101);
    """,
    "a view and a sequence": """
        CREATE TABLE public.people (id serial PRIMARY KEY, name text);
        CREATE VIEW public.users AS SELECT * FROM public.people;
        CREATE SEQUENCE public.plans;
        CREATE TABLE public.tenants (id integer PRIMARY KEY);
        CREATE TABLE public.cloud_pods (id integer PRIMARY KEY);
        INSERT INTO public.people (name) VALUES ('anna');
    """,
    "a renamed table, which keeps its index's name": """
        CREATE TABLE public.people (id integer CONSTRAINT users_pkey PRIMARY KEY);
        CREATE TABLE public.tenants (id integer PRIMARY KEY);
        CREATE TABLE public.plans (id integer PRIMARY KEY);
        CREATE TABLE public.cloud_pods (id integer PRIMARY KEY);
        INSERT INTO public.people VALUES (1);
    """,
}
PANEL_COLUMNS = """
SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull FROM pg_attribute a
JOIN pg_class c ON c.oid = a.attrelid WHERE c.oid = ANY(%s::oid[]) AND a.attnum > 0 ORDER BY 1, a.attnum
"""


@pytest.mark.parametrize("way", ["migrate", "psql"])
@pytest.mark.parametrize("panel", PANELS.values(), ids=PANELS)
def test_a_panels_tables_of_the_same_names_stay_untouched_and_ours_work(api_on, fresh, empty_database, settings, panel, way):
    fresh(panel)
    theirs = [
        row[0]
        for row in fresh("SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v')")
    ]
    names = [row[0] for row in fresh("SELECT oid::regclass::text FROM pg_class WHERE oid = ANY(%s::oid[]) ORDER BY 1", theirs)]
    before = fresh(PANEL_COLUMNS, theirs), [fresh(f"SELECT * FROM public.{name.split('.')[-1]} ORDER BY 1") for name in names]

    if way == "migrate":
        db.connect(empty_database, pool_size=8)
        assert upgrade() == STEPS
    else:
        done = psql(empty_database, migrations.as_sql())
        assert (done.returncode, done.stderr) == (0, "")

    api = api_on(settings.model_copy(update={"database_url": empty_database}))
    one = {"tenant": "TENANT-123", "plan": "p", "owner": "a@example.com", "region": "migra-us-east-1", "max_jobs": 4}
    with db.session():
        list(seed(node="lab1", pool="10.1.10.50-10.1.10.249", gateway="10.1.10.1", **one))
    body = {"tenantId": "TENANT-123", "hostname": "a", "cores": 1, "memoryMb": 512}
    assert api.simulate_post("/internal/cloudpods", json=body).status_code == 202
    assert len(api.simulate_get("/internal/tenants/TENANT-123/cloudpods").json["items"]) == 1

    after = fresh(PANEL_COLUMNS, theirs), [fresh(f"SELECT * FROM public.{name.split('.')[-1]} ORDER BY 1") for name in names]
    assert after == before
    assert upgrade() == []


@pytest.fixture
def earlier(sql_of_empty):
    """Return a way to make the schema as it was after the first steps, with a tenant and a node in it."""

    def make(steps):
        sql_of_empty(migrations.BEFORE.read_text())
        for step in STEPS[:steps]:
            sql_of_empty("BEGIN;" + (migrations.DIRECTORY / f"{step}.sql").read_text() + ";COMMIT")
        owner = sql_of_empty.value("INSERT INTO users (email) VALUES ('a@example.com') RETURNING id")
        limits = "max_cloud_pods, max_cpu_cores, max_ram_mb, max_disk_gb"
        sql_of_empty(f"INSERT INTO plans (id, name, slug, {limits}) VALUES ('p', 'p', 'p', 1, 1, 1, 1)")
        sql_of_empty("INSERT INTO tenants (id, name, slug, owner_user_id, plan_id) VALUES ('t', 't', 't', %s, 'p')", owner)
        sql_of_empty("INSERT INTO cloud_pod_nodes (id, name) VALUES ('n', 'n')")

    return make


def test_archives_of_backups_before_they_had_rows_get_theirs(sql_of_empty, earlier):
    earlier(2)
    columns = "id, tenant_id, node_id, vmid, hostname, cores, memory_mb"
    sql_of_empty(f"INSERT INTO cloud_pods ({columns}) VALUES ('one', 't', 'n', 101, 'a', 1, 512)")
    archives = [
        ("success", {"archive": {"volid": "s:backup/1", "size_bytes": 5, "mode": "stop"}}),
        ("success", {"archive": {"volid": "s:backup/1"}}),
        ("success", {"archive": {"volid": "s:backup/2", "size_bytes": "much"}}),
        ("success", {"archive": {"volid": None}}),
        ("success", {"archive": "odd"}),
        ("success", None),
        ("failed", {"archive": {"volid": "s:backup/3"}}),
    ]
    for day, (status, result) in enumerate(archives, 1):
        given = (status, json.dumps(result), f"2026-01-0{day}", f"2026-01-0{day}")
        columns = "type, cloud_pod_id, node_id, status, result, created_at, finished_at"
        sql_of_empty(f"INSERT INTO cloud_pod_jobs ({columns}) VALUES ('BACKUP', 'one', 'n', %s, %s, %s, %s)", *given)
    sql_of_empty("BEGIN;" + (migrations.DIRECTORY / "0003_backups.sql").read_text() + ";COMMIT")
    columns = "volid, storage, mode, size_bytes, tenant_id, vmid, status, created_at::date::text"
    found = sql_of_empty(f"SELECT {columns} FROM cloud_pod_backups ORDER BY 1")
    assert found == [
        ("s:backup/1", "s", "stop", 5, "t", 101, "ready", "2026-01-01"),
        ("s:backup/2", "s", None, None, "t", 101, "ready", "2026-01-03"),
    ]


NAMES = [
    "cloud_pod_snapshots_pkey",
    "cloud_pod_backups_pod",
    "cloud_pod_backups_pkey",
    "cloud_pods_newest",
    "cloud_pod_jobs_node",
]
NAMES += ["cloud_pods_created_at_id_idx", "cloud_pod_jobs_type_status_node_id_idx", "cloud_pod_events_seq_seq"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["TABLE {} (x int)", "TYPE {} AS ENUM ('a')"], ids=["table", "type"])
def test_a_panels_name_that_an_index_of_ours_would_have_is_in_nobodys_way(fresh, name, kind):
    fresh("CREATE " + kind.format(f"public.{name}"))
    assert upgrade() == STEPS
    assert fresh.value("SELECT count(*) FROM cloud_pods LEFT JOIN cloud_pod_backups USING (id)") == 0


def test_a_panels_type_of_a_tables_name_is_in_nobodys_way(fresh):
    fresh("CREATE TYPE public.cloud_pods AS ENUM ('a')")
    assert upgrade() == STEPS


def test_pods_stopped_by_an_order_before_orders_were_kept_are_wanted_stopped(sql_of_empty, earlier):
    earlier(3)
    orders = {101: [], 102: ["stop"], 103: ["stop", "start"], 104: ["start", "shutdown"]}
    for vmid, actions in orders.items():
        columns = "id, tenant_id, node_id, vmid, hostname, cores, memory_mb"
        sql_of_empty(f"INSERT INTO cloud_pods ({columns}) VALUES (%s, 't', 'n', %s, 'a', 1, 512)", str(vmid), vmid)
        for day, action in enumerate(actions, 1):
            order = (str(vmid), json.dumps({"action": action}), f"2026-01-0{day}")
            columns = "type, status, cloud_pod_id, payload, finished_at"
            sql_of_empty(f"INSERT INTO cloud_pod_jobs ({columns}) VALUES ('POWER', 'success', %s, %s, %s)", *order)
    sql_of_empty("BEGIN;" + (migrations.DIRECTORY / "0004_host_keys.sql").read_text() + ";COMMIT")
    wanted = dict(sql_of_empty("SELECT vmid, wanted_power FROM cloud_pods"))
    assert wanted == {101: "running", 102: "stopped", 103: "running", 104: "stopped"}


def test_limits_that_were_set_by_hand_before_plans_were_followed_stay_the_tenants_own(sql_of_empty, earlier):
    earlier(6)
    owner = sql_of_empty.value("SELECT id FROM users")
    sql_of_empty("INSERT INTO tenants (id, name, slug, owner_user_id, plan_id) VALUES ('own', 'o', 'o', %s, 'p')", owner)
    columns = "tenant_id, max_cloud_pods, max_cpu_cores, max_ram_mb, max_disk_gb"
    sql_of_empty(f"INSERT INTO tenant_quotas ({columns}) VALUES ('t', 1, 1, 1, 1), ('own', 1, 1, 1, 2)")
    sql_of_empty("BEGIN;" + (migrations.DIRECTORY / "0007_tenants.sql").read_text() + ";COMMIT")
    assert dict(sql_of_empty("SELECT tenant_id, follows_plan FROM tenant_quotas")) == {"t": True, "own": False}
