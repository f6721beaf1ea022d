"""Which backups and drills the clock queues: what is due, one at a time per node, and not again and again."""

import pytest

from shim import db
from shim.cloudpods import backup_schedule
from shim.cloudpods.backup_schedule import BACKUPS, DRILLS
from shim.jobs.queue import Wakeups
from shim.scheduler import timetable

TENANT, OTHER_TENANT = "TENANT-123", "TENANT-456"
pytestmark = pytest.mark.usefixtures("session")


@pytest.fixture
def queued(sql):
    """Return a way to queue what is due; it returns the vmids."""

    def run(kind=BACKUPS):
        jobs = backup_schedule.queue(kind)
        assert {type for _, type in jobs} <= {kind.type}
        return sorted(sql.row("cloud_pod_jobs", job)["payload"]["vmid"] for job, _ in jobs)

    return run


@pytest.fixture
def policy(sql):
    """Return a way to set the backup policy of every tenant's plan."""
    return lambda name: sql("UPDATE plans SET backup_policy = %s", name)


@pytest.fixture
def ago(sql):
    """Return a moment some time ago."""
    return lambda span: sql.value("SELECT now() - %s::interval", span)


def finish(sql, status="success", when="now()"):
    """End every job."""
    sql(f"UPDATE cloud_pod_jobs SET status = '{status}', lease_until = NULL, finished_at = {when}")


EVERY = [("basic", "7 days"), ("standard", "1 day"), ("enterprise", "6 hours")]


@pytest.mark.parametrize(("name", "every"), EVERY)
@pytest.mark.parametrize("since", ["last_backup_at", "created_at"])
def test_a_backup_is_due_by_the_tenants_policy_since_the_last_one_or_the_pods_making(
    rows, queued, policy, ago, sql, name, every, since
):
    policy(name)
    pod = rows.pod(vmid=9101, **{"created_at": "2026-01-01", since: ago(f"{every} - 1 minute")})
    assert queued() == []
    sql(f"UPDATE cloud_pods SET {since} = {since} - interval '2 minutes' WHERE id = %s", pod)
    assert queued() == [9101]


def test_a_scheduled_backup_is_an_ordinary_one_with_that_reason(rows, queued, sql):
    pod = rows.pod(vmid=9101, created_at="2026-01-01")
    queued()
    ((job, payload),) = sql("SELECT cloud_pod_id, payload FROM cloud_pod_jobs WHERE type = 'BACKUP'")
    assert (job, payload["reason"], payload["mode"], payload["tenantId"]) == (pod, "schedule", "snapshot", TENANT)
    assert sql("SELECT data->>'action' FROM cloud_pod_events") == [("queued",)]


@pytest.mark.parametrize("held", [{}, {"status": "failed", "finished_at": "2999-01-01"}])
def test_a_dry_run_of_a_backup_is_none(rows, queued, held):
    pod = rows.pod(vmid=9101, created_at="2026-01-01")
    rows.job("BACKUP", pod=pod, dry_run=True, **held)
    assert queued() == [9101]


@pytest.mark.parametrize("status", ["provisioning", "failed", "deleting", "deleted"])
def test_only_active_pods_are_backed_up(rows, queued, status):
    rows.pod(vmid=9101, status=status, created_at="2026-01-01")
    assert queued() == []


def test_each_node_gets_its_most_overdue_pod_one_at_a_time(rows, queued, sql):
    for vmid, node, day in ((9101, "lab1", 2), (9102, "lab1", 1), (9201, "lab2", 3)):
        rows.pod(node, vmid=vmid, created_at=f"2026-01-0{day}")
    assert queued() == [9102, 9201]
    assert queued() == []
    finish(sql)
    sql("UPDATE cloud_pods SET last_backup_at = now() WHERE vmid <> 9101")
    assert queued() == [9101]


def test_the_most_overdue_is_by_policy_not_by_age(rows, queued, sql, ago):
    sql(
        "INSERT INTO plans (id, name, slug, max_cloud_pods, max_cpu_cores, max_ram_mb, max_disk_gb, backup_policy)"
        " VALUES ('big', 'big', 'big', 9, 9, 9, 9, 'enterprise')"
    )
    sql("UPDATE tenants SET plan_id = 'big' WHERE id = %s", OTHER_TENANT)
    rows.pod(vmid=9101, last_backup_at=ago("8 days"))
    rows.pod(vmid=9102, tenant_id=OTHER_TENANT, last_backup_at=ago("2 days"))
    assert queued() == [9102]


def test_a_pod_whose_backup_somebody_ordered_is_passed_over(rows, queued):
    ordered, _ = rows.pod(vmid=9101, created_at="2026-01-01"), rows.pod(vmid=9102, created_at="2026-01-02")
    rows.job("BACKUP", pod=ordered)
    assert queued() == [9102]


def test_a_failed_one_is_tried_again_after_an_hour_and_its_node_after_minutes(rows, queued, sql):
    rows.pod(vmid=9101, created_at="2026-01-01")
    rows.pod(vmid=9102, created_at="2026-01-02")
    assert queued() == [9101]
    finish(sql, "failed")
    assert queued() == []
    finish(sql, "failed", "now() - interval '6 minutes'")
    assert queued() == [9102]
    finish(sql, "failed", "now() - interval '61 minutes'")
    assert queued() == [9101]


def test_an_older_failure_before_a_backup_that_went_well_is_forgotten(rows, queued, sql, ago):
    pod = rows.pod(vmid=9101, last_backup_at=ago("8 days"))
    rows.job("BACKUP", pod=pod, status="failed", finished_at=ago("9 days"))
    assert queued() == [9101]


@pytest.mark.parametrize(("name", "every"), [("standard", "30 days"), ("enterprise", "7 days")])
def test_a_drill_is_due_by_the_tenants_policy_since_the_last_one(rows, queued, policy, ago, sql, name, every):
    policy(name)
    pod = rows.pod(vmid=9101)
    rows.backup(pod, drilled_at=ago(f"{every} - 1 minute"), status="removed", created_at="2026-01-01")
    rows.backup(pod, volid="a:backup/newest")
    assert queued(DRILLS) == []
    sql("UPDATE cloud_pod_backups SET drilled_at = drilled_at - interval '2 minutes'")
    assert queued(DRILLS) == [9101]
    payload = sql.value("SELECT payload FROM cloud_pod_jobs")
    assert (payload["archive"], payload["reason"]) == ("a:backup/newest", "schedule")


def test_a_first_backup_is_drilled_at_once(rows, queued, policy):
    policy("standard")
    rows.backup(rows.pod(vmid=9101))
    assert queued(DRILLS) == [9101]
    assert queued(DRILLS) == []


def test_the_basic_policy_drills_nothing(rows, queued):
    rows.backup(rows.pod(vmid=9101))
    assert queued(DRILLS) == []


def test_without_a_backup_there_is_nothing_to_drill(rows, queued, policy):
    policy("enterprise")
    rows.pod(vmid=9101)
    rows.backup(rows.pod(vmid=9102), status="removed")
    rows.backup(rows.pod(vmid=9103, status="deleted"))
    rows.backup(rows.pod(vmid=100_000_000))
    assert queued(DRILLS) == []


def test_a_drill_that_failed_on_a_node_pauses_that_nodes_drills_only(rows, queued, policy, sql):
    policy("enterprise")
    for node, vmid in (("lab1", 9101), ("lab1", 9102), ("lab2", 9201)):
        rows.backup(rows.pod(node, vmid=vmid))
    sql("UPDATE cloud_pod_nodes SET status = 'active'")
    first = queued(DRILLS)
    assert len(first) == 2
    finish(sql, "failed")
    assert queued(DRILLS) == []
    assert len(queued(BACKUPS)) == 0


def test_a_pod_that_goes_away_meanwhile_is_no_fault(rows, queued, sql, monkeypatch):
    rows.pod(vmid=9101, created_at="2026-01-01")
    rows.pod("lab2", vmid=9201, created_at="2026-01-01")
    due = backup_schedule._due

    def then_gone(kind):
        found = due(kind)
        sql("UPDATE cloud_pods SET status = 'deleting' WHERE vmid = 9101")
        return found

    monkeypatch.setattr(backup_schedule, "_due", then_gone)
    assert queued() == [9201]


def test_the_timetable_queues_and_wakes(rows, tenants, sql):
    rows.pod(vmid=9101, created_at="2026-01-01")
    wakeups = Wakeups(tenants.redis_url)
    for entry in timetable.entries(tenants, wakeups):
        entry.function()
    assert wakeups.waiting("BACKUP") == 1
    assert sql.value("SELECT count(*) FROM cloud_pod_jobs WHERE type = 'BACKUP'") == 1


@pytest.mark.parametrize("status", ["queued", "failed"])
def test_a_clients_order_is_not_the_schedules_whatever_its_reason(api, rows, queued, sql, status):
    rows.pod(vmid=9101, tenant_id=OTHER_TENANT)
    body = {"tenantId": OTHER_TENANT, "reason": "schedule", "requestedBy": "scheduler"}
    assert api.simulate_post("/internal/cloudpods/9101/backup", json=body).status_code == 202
    sql("UPDATE cloud_pod_jobs SET status = %s, finished_at = now()", status)
    rows.pod(vmid=9102, created_at="2026-01-01")
    with db.session():
        assert queued() == [9102]


def test_a_client_cannot_say_that_an_order_is_the_schedules(api, rows, assert_problem):
    rows.pod(vmid=9101)
    answer = api.simulate_post("/internal/cloudpods/9101/backup", json={"tenantId": TENANT, "scheduled": True})
    assert_problem(answer, 422, "invalid_request", field="scheduled")


@pytest.mark.parametrize("kind", [BACKUPS, DRILLS], ids=["backups", "drills"])
def test_a_node_that_is_not_active_is_left_alone(rows, queued, policy, sql, kind):
    policy("enterprise")
    rows.backup(rows.pod(vmid=9101, created_at="2026-01-01"))
    sql("UPDATE cloud_pod_nodes SET status = 'cordoned'")
    assert queued(kind) == []
    sql("UPDATE cloud_pod_nodes SET status = 'active'")
    assert queued(kind) == [9101]


def test_a_pod_whose_archives_are_on_another_node_holds_no_others_drill_up(rows, queued, policy):
    policy("enterprise")
    rows.backup(rows.pod(vmid=9101), node_id=rows.node_id("lab2"))
    rows.backup(rows.pod(vmid=9102))
    assert queued(DRILLS) == [9102]


@pytest.mark.parametrize("analyzed", [True, False], ids=["with statistics", "without"])
@pytest.mark.parametrize("kind", [BACKUPS, DRILLS], ids=["backups", "drills"])
def test_what_is_due_is_never_looked_up_pod_by_pod(rows, policy, sql, kind, analyzed, monkeypatch):
    """A nested loop over ten thousand pods took minutes when the planner took a table for small."""
    policy("enterprise")
    pods = "SELECT 'p' || n, %s, %s, 20000 + n, 'many', 'active', 1, 512, '2026-01-01' FROM generate_series(1, 2000) n"
    columns = "id, tenant_id, node_id, vmid, hostname, status, cores, memory_mb, created_at"
    sql(f"INSERT INTO cloud_pods ({columns}) {pods}", TENANT, rows.node_id())
    whose = "'p' || n, tenant_id, node_id"
    columns = "cloud_pod_id, tenant_id, node_id"
    of = "generate_series(1, 2000) n JOIN cloud_pods ON id = 'p' || n"
    sql(f"INSERT INTO cloud_pod_backups ({columns}, vmid, volid) SELECT {whose}, vmid, n::text FROM {of}")
    failed = f"SELECT {whose}, '{kind.type}', 'failed', now() - n * interval '1 minute' FROM {of}"
    sql(f"INSERT INTO cloud_pod_jobs ({columns}, type, status, finished_at) {failed}")
    if analyzed:
        sql("ANALYZE")
    plans = []
    execute = db.database.obj.execute_sql

    def explained(statement, *given):
        if statement.lstrip().startswith("WITH"):
            plans.extend(row[0] for row in execute("EXPLAIN " + statement, *given).fetchall())
        return execute(statement, *given)

    monkeypatch.setattr(db.database.obj, "execute_sql", explained)
    assert len(backup_schedule.queue(kind)) == 1
    assert plans
    assert not [line for line in plans if "Nested Loop" in line or "SubPlan" in line], "\n".join(plans)


def test_a_thousand_pods_cost_one_query(rows, sql, monkeypatch):
    node = rows.node_id()
    sql(
        "INSERT INTO cloud_pods (tenant_id, node_id, vmid, hostname, status, cores, memory_mb, created_at)"
        " SELECT %s, %s, n, 'many', 'active', 1, 512, '2026-01-01' FROM generate_series(20000, 21000) n",
        TENANT,
        node,
    )
    statements = []
    execute = db.database.obj.execute_sql
    monkeypatch.setattr(db.database.obj, "execute_sql", lambda q, *a, **k: (statements.append(q), execute(q, *a, **k))[1])
    backup_schedule.queue(BACKUPS)
    assert len(statements) < 15
