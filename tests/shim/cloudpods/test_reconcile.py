"""What a node has beside what the table says: when it is compared, what is found, what is mended, what follows a moved pod."""

import pytest

from shim.cloudpods import mend, reconcile
from shim.cloudpods.drift_models import KEEP, DriftReport
from shim.jobs import looks
from shim.scheduler import timetable
from shim.worker import outcome
from shim.worker.playbook import Outcome

TENANT, OTHER_TENANT = "TENANT-123", "TENANT-456"
OLD = "2026-01-01"
PAYLOAD = {"mends": ["moved"]}
ONE_CLUSTER = {"name": "prod", "nodes": ["pve1", "pve2"]}
SEEN_AS = {"lab1": "pve1", "lab2": "pve2"}
pytestmark = pytest.mark.usefixtures("session")


@pytest.fixture
def pod(rows):
    """Return a maker of pods that were last changed long ago."""
    return lambda vmid=9101, **columns: rows.pod(vmid=vmid, **{"updated_at": OLD, **columns})


def row(pod_id, vmid=9101, tenant=TENANT, **other):
    size = {"cores": 2, "memory_mb": 2048, "swap_mb": 512, "disk_gb": 8}
    owner = {"tenant": tenant, "pod": pod_id} if pod_id else None
    state = {"exists": True, "in_pool": True, "unfinished": False, "busy": None, "status": "running"}
    return {"vmid": vmid, "hostname": "a", "owner": owner, **state, **size, **other}


@pytest.fixture
def looked(rows, sql):
    """Return a way to write a look's outcome; it gives the report's items as (kind, vmid)."""

    def write(*seen, node="lab1", mends=("moved",), cluster=None, elsewhere=()):
        now = sql.value("SELECT now()")
        job = rows.running("RECONCILE", node=node, tenant_id=None, payload={"mends": list(mends)}, started_at=now)
        said = {"node": SEEN_AS[node], "pods": list(seen), "cluster": cluster, "elsewhere": list(elsewhere)}
        outcome.write(job, Outcome({node: said}, None))
        assert sql.row("cloud_pod_jobs", job.id)["status"] == "success"
        mend.mend_due()
        report = DriftReport.newest(rows.node_id(node))
        assert (report.job_id, report.mends) == (job.id, [])
        return [(item["kind"], item["vmid"]) for item in report.items]

    return write


def actions(sql, *names):
    return sql(
        "SELECT cloud_pod_id, tenant_id, data ->> 'action', data ->> 'kind' FROM cloud_pod_events"
        " WHERE data ->> 'action' = ANY(%s) ORDER BY seq",
        list(names),
    )


def where(sql, pod_id):
    return sql(
        "SELECT n.name, a.node_id = p.node_id FROM cloud_pods p JOIN cloud_pod_nodes n ON n.id = p.node_id"
        " JOIN cloud_pod_allocations a ON a.cloud_pod_id = p.id WHERE p.id = %s",
        pod_id,
    )


# When


def test_every_node_that_may_be_asked_is_compared_once(rows, sql):
    sql("UPDATE cloud_pod_nodes SET status = 'offline' WHERE name = 'lab2'")
    (job,) = looks.order_due("RECONCILE", 900, PAYLOAD)
    assert (job.node.name, job.type, job.payload, job.changes_pod) == ("lab1", "RECONCILE", PAYLOAD, False)
    assert looks.order_due("RECONCILE", 0.0, PAYLOAD) == []
    assert looks.order("RECONCILE", "lab1", PAYLOAD).id == job.id
    sql("UPDATE cloud_pod_jobs SET status = 'success'")
    assert looks.order_due("RECONCILE", 900, PAYLOAD) == []
    sql("UPDATE cloud_pod_jobs SET created_at = created_at - interval '901 s'")
    assert len(looks.order_due("RECONCILE", 900, PAYLOAD)) == 1


def test_the_timetable_compares_at_the_interval_that_is_set_and_never_when_it_is_zero(settings):
    def named(interval):
        made = settings.model_copy(update={"reconcile_s": interval})
        return [entry.interval_s for entry in timetable.entries(made, None) if entry.name == "compare nodes"]

    assert (named(900.0), named(2.0), named(0.0)) == ([10.0], [2.0], [])


def test_a_lost_look_is_taken_again(rows):
    job = rows.running("RECONCILE", tenant_id=None, payload=PAYLOAD, lost=True)
    assert (reconcile.settle(job, {}), reconcile.variables(job)) == (None, {})


# What is found


def test_a_node_that_is_as_the_table_says_has_no_drift(pod, looked, sql):
    assert looked(row(pod()), row(pod(9102, tenant_id=OTHER_TENANT), 9102, OTHER_TENANT)) == []
    (report,) = sql("SELECT checked, counts, items FROM drift_reports")
    assert report == (2, {}, [])
    assert actions(sql, "DRIFT_FOUND") == []


@pytest.mark.parametrize(
    ("changes", "kind", "table", "node"),
    [
        ({"cores": 3}, "size", {"cores": 2}, {"cores": 3}),
        ({"cores": None}, "size", {"cores": 2}, {"cores": None}),
        ({"memory_mb": 1024, "disk_gb": 8.5}, "size", {"memory_mb": 2048, "disk_gb": 8}, {"memory_mb": 1024, "disk_gb": 8.5}),
        ({"swap_mb": 0}, "size", {"swap_mb": 512}, {"swap_mb": 0}),
        ({"status": "stopped"}, "power", {"power": "running"}, {"power": "stopped"}),
        ({"unfinished": True}, "unfinished", {"status": "active"}, {"unfinished": True}),
        ({"owner": None}, "owner", None, {}),
        ({"owner": {"tenant": OTHER_TENANT, "pod": "x"}}, "owner", None, {"tenant": OTHER_TENANT, "pod": "x"}),
    ],
)
def test_what_differs_is_found(pod, looked, sql, changes, kind, table, node):
    mine = pod()
    other = pod(9102, tenant_id=OTHER_TENANT)
    assert looked(row(mine, **changes), row(other, 9102, OTHER_TENANT)) == [(kind, 9101)]
    (item,) = sql.value("SELECT items FROM drift_reports")
    assert (item["cloudPodId"], item["tenantId"], item["node"]) == (mine, TENANT, node)
    assert item["table"] == ({"tenant": TENANT, "pod": mine} if table is None else table)
    assert actions(sql, "DRIFT_FOUND") == [(mine, TENANT, "DRIFT_FOUND", kind)]


def test_missing_and_foreign(pod, rows, looked, sql):
    mine = pod()
    rows.pod(vmid=9103, status="failed", allocation=False, updated_at=OLD)
    found = looked(
        row(None, 5001), row("left", 9103), row("drill.x", 9105), row(None, 900_009_101), row(None, 7, in_pool=False)
    )
    assert found == [("foreign", 5001), ("missing", 9101), ("foreign", 9103)]
    assert sql.value("SELECT counts FROM drift_reports") == {"foreign": 2, "missing": 1}
    assert sql.row("cloud_pods", mine)["status"] == "active", "nothing is ever deleted"


@pytest.mark.parametrize("status", ["provisioning", "deleting"])
def test_pods_that_come_and_go_are_not_judged(pod, looked, status):
    pod(9101, status=status)
    pod(9102, status=status)
    assert looked(row(None, 9102)) == []


@pytest.mark.parametrize("changes", [{"status": "running", "lease_until": "2036-01-01"}, {"status": "queued"}])
def test_a_pod_that_is_being_changed_is_left_to_the_next_look(pod, rows, looked, changes):
    rows.job("SCALE", pod=pod(), **changes)
    assert looked() == []


def test_a_pod_that_was_changed_since_the_look_began_is_left(pod, looked, sql):
    pod(9101, updated_at=sql.value("SELECT now() + interval '1 s'"))
    pod(9102, status="deleted", updated_at=sql.value("SELECT now() + interval '1 s'"), allocation=False)
    assert looked(row("gone", 9102)) == []


def test_a_backup_that_waits_for_its_hour_hides_nothing(pod, rows, looked):
    rows.job("BACKUP", pod=pod(), scheduled=True)
    assert looked() == [("missing", 9101)]


def test_a_pod_that_a_script_holds_is_left(pod, looked):
    assert looked(row(pod(), status="stopped", busy={"pid": 1})) == []


def test_the_same_finding_is_told_once(pod, looked, sql):
    mine = row(pod())
    for changes in ({"cores": 3}, {"cores": 3}, {"cores": 4}, {}, {"cores": 4}):
        looked({**mine, **changes})
    assert len(actions(sql, "DRIFT_FOUND")) == 3
    assert sql.value("SELECT count(*) FROM cloud_pod_events WHERE job_id IS NOT NULL") == 0


def test_a_result_that_says_nothing_fails_the_look_and_the_last_report_stays(rows, looked, sql):
    looked()
    job = rows.running("RECONCILE", tenant_id=None, payload=PAYLOAD)
    outcome.write(job, Outcome({"lab1": {"node": "pve1"}}, None))
    assert sql.row("cloud_pod_jobs", job.id)["status"] == "failed"
    assert sql.value("SELECT count(*) FROM drift_reports") == 1
    assert [event[2] for event in actions(sql, "RECONCILE_FAILED")] == ["RECONCILE_FAILED"]


def test_only_the_newest_reports_are_kept(looked, rows, sql):
    looked(node="lab2")
    sql(
        "INSERT INTO drift_reports (node_id, job_id, checked, looked_at, created_at)"
        " SELECT %s, 'old', 0, now(), now() - make_interval(secs => i) FROM generate_series(1, %s) i",
        rows.node_id(),
        KEEP + 5,
    )
    looked()
    kept = sql("SELECT n.name, count(*) FROM drift_reports r JOIN cloud_pod_nodes n ON n.id = r.node_id GROUP BY 1 ORDER BY 1")
    assert kept == [("lab1", KEEP), ("lab2", 1)]
    assert sql.value("SELECT count(*) FROM drift_reports WHERE job_id <> 'old'") == 2


def test_a_look_costs_the_same_for_many_pods(pod, rows, looked, monkeypatch):
    from shim.db import database

    def statements(count):
        run, asked = database.obj.execute_sql, []
        monkeypatch.setattr(database.obj, "execute_sql", lambda sql, *rest: asked.append(sql) or run(sql, *rest))
        looked(*(row(None, 20_000 + number) for number in range(count)))
        monkeypatch.undo()
        return len(asked)

    for vmid in range(9101, 9131):
        pod(vmid)
    assert statements(30) == statements(2)


# What is mended


def test_nothing_is_ordered_without_leave(pod, looked, sql):
    looked(row(pod(), status="stopped", cores=9))
    assert sql.value("SELECT count(*) FROM cloud_pod_jobs WHERE type <> 'RECONCILE'") == 0


@pytest.mark.parametrize(("wanted", "seen", "action"), [("running", "stopped", "start"), ("stopped", "running", "shutdown")])
def test_power_is_set_right_as_the_last_order_wanted_it(pod, looked, sql, wanted, seen, action):
    mine = pod(wanted_power=wanted)
    for _ in range(2):
        looked(row(mine, status=seen), mends=["power"])
    ((of, payload),) = sql("SELECT cloud_pod_id, payload FROM cloud_pod_jobs WHERE type = 'POWER'")
    assert (of, payload["action"], payload["reason"]) == (mine, action, "drift")
    assert actions(sql, "DRIFT_MENDED") == [(mine, TENANT, "DRIFT_MENDED", "power")]


def test_size_is_set_back_to_the_tables(pod, looked, sql):
    mine, other = pod(), pod(9102, tenant_id=OTHER_TENANT)
    looked(row(mine, cores=4, status="stopped"), row(other, 9102, OTHER_TENANT, swap_mb=0), mends=["size"])
    ((of, payload),) = sql("SELECT cloud_pod_id, payload FROM cloud_pod_jobs WHERE type <> 'RECONCILE'")
    assert (of, payload["newCores"], payload["newMemoryMb"]) == (mine, 2, 2048)
    assert [item["mend"] is None for item in sql.value("SELECT items FROM drift_reports")] == [True, False, True]


def test_an_order_that_is_refused_is_told_and_the_report_stands(pod, looked, sql, monkeypatch):
    from shim.cloudpods import power
    from shim.errors import Conflict

    def refuse(*_):
        raise Conflict("no", code="quota_exceeded")

    monkeypatch.setattr(power, "power", refuse)
    looked(row(pod(), status="stopped"), mends=["power"])
    (item,) = sql.value("SELECT items FROM drift_reports")
    assert item["mend"] == {"error": "no", "code": "quota_exceeded"}


def ordered(sql):
    return sql.value("SELECT count(*) FROM cloud_pod_jobs WHERE type IN ('POWER', 'SCALE')")


def end(sql, status):
    sql("UPDATE cloud_pod_jobs SET status = %s, finished_at = now() WHERE type = 'POWER' AND status = 'queued'", status)


def test_the_report_is_there_before_the_first_order(pod, rows, sql, monkeypatch):
    from shim.cloudpods import power

    mine = pod()
    job = rows.running("RECONCILE", tenant_id=None, payload={"mends": ["power"]}, started_at=sql.value("SELECT now()"))
    outcome.write(job, Outcome({"lab1": {"node": "pve1", "pods": [row(mine, status="stopped")]}}, None))
    assert (sql("SELECT mends FROM drift_reports"), ordered(sql)) == ([(["power"],)], 0)
    give = power.power
    seen = []
    monkeypatch.setattr(power, "power", lambda *order: seen.append(sql.value("SELECT 1")) or give(*order))
    assert [type for _, type in mend.mend_due()] == ["POWER"]
    assert mend.mend_due() == []
    assert ordered(sql) == 1


def test_a_look_gives_no_more_orders_than_it_may_and_the_next_ones_the_rest(pod, looked, sql, monkeypatch):
    monkeypatch.setattr(mend, "MAX_ORDERS", 2)
    seen = [row(pod(vmid), vmid, status="stopped") for vmid in (9101, 9102, 9103)]
    looked(*seen, mends=["power"])
    assert ordered(sql) == 2
    looked(*seen, mends=["power"])
    assert ordered(sql) == 3


def test_what_was_changed_since_the_look_is_not_mended(pod, rows, sql):
    one, two = pod(), pod(9102, tenant_id=OTHER_TENANT)
    job = rows.running("RECONCILE", tenant_id=None, payload={"mends": ["power"]}, started_at=sql.value("SELECT now()"))
    stopped = [row(one, status="stopped"), row(two, 9102, OTHER_TENANT, status="stopped")]
    outcome.write(job, Outcome({"lab1": {"node": "pve1", "pods": stopped}}, None))
    sql("UPDATE cloud_pods SET wanted_power = 'stopped' WHERE id = %s", one)
    rows.job("SNAPSHOT", pod=two, tenant_id=OTHER_TENANT)
    assert (mend.mend_due(), ordered(sql)) == ([], 0)


def test_a_mend_that_failed_is_not_tried_again_at_once(pod, looked, sql):
    mine = row(pod(), status="stopped")
    looked(mine, mends=["power"])
    end(sql, "failed")
    looked(mine, mends=["power"])
    assert ordered(sql) == 1
    assert (
        sql.value("SELECT items -> 0 -> 'mend' ->> 'code' FROM drift_reports ORDER BY created_at DESC LIMIT 1") == "mend_paused"
    )
    sql("UPDATE cloud_pod_jobs SET finished_at = now() - interval '61 min' WHERE type = 'POWER'")
    looked(mine, mends=["power"])
    assert ordered(sql) == 2


def test_a_mend_that_comes_to_nothing_is_given_up_and_told_once(pod, looked, sql, monkeypatch):
    monkeypatch.setattr(mend, "MAX_TRIES", 2)
    mine, other = row(pod(), status="stopped"), row(pod(9102, tenant_id=OTHER_TENANT), 9102, OTHER_TENANT, status="stopped")
    for _ in range(4):
        looked(mine, mends=["power"])
        end(sql, "success")
    assert ordered(sql) == 2
    assert [event[2] for event in actions(sql, "DRIFT_MEND_GIVEN_UP")] == ["DRIFT_MEND_GIVEN_UP"]
    looked(mine, other, mends=["power"])
    assert ordered(sql) == 3


def test_more_findings_than_a_report_lists_are_told_once(pod, looked, sql, monkeypatch):
    monkeypatch.setattr(reconcile, "MAX_ITEMS", 2)
    for vmid in (9101, 9102, 9103, 9104):
        pod(vmid)
    for _ in range(3):
        assert len(looked()) == 2
    assert len(actions(sql, "DRIFT_FOUND")) == 2
    assert len(actions(sql, "DRIFT_NOT_ALL_TOLD")) == 1


# A pod that moved


def test_a_pod_that_the_cluster_moved_is_followed_though_its_node_is_down(pod, rows, looked, sql):
    mine, other = pod(), pod(9102, tenant_id=OTHER_TENANT)
    looked(row(mine), row(other, 9102, OTHER_TENANT), cluster=ONE_CLUSTER)
    queued = rows.job("BACKUP", pod=mine, scheduled=True)
    drill = rows.job("RESTORE_DRILL", pod=mine)
    assert looked(row(mine), node="lab2", cluster=ONE_CLUSTER) == [("moved", 9101)]
    assert where(sql, mine) == [("lab2", True)]
    assert where(sql, other) == [("lab1", True)]
    assert sql.row("cloud_pod_jobs", queued)["node_id"] == rows.node_id("lab2")
    assert sql.row("cloud_pod_jobs", drill)["node_id"] == rows.node_id("lab1")
    assert actions(sql, "MOVED", "DRIFT_FOUND") == [(mine, TENANT, "MOVED", None)]
    assert looked(row(mine), node="lab2", cluster=ONE_CLUSTER) == []
    assert looked(row(other, 9102, OTHER_TENANT), cluster=ONE_CLUSTER) == []


def test_a_lost_job_is_run_where_the_pod_is_by_now(pod, rows, looked, sql):
    mine = pod(node="lab2")
    lost = rows.job("HEALTH_CHECK", pod=mine, node="lab1", lost=True)
    looked(row(mine), node="lab2")
    assert sql.row("cloud_pod_jobs", lost)["node_id"] == rows.node_id("lab2")


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (None, None),
        ({"name": "prod", "nodes": ["pve1"]}, {"name": "other", "nodes": ["pve2"]}),
        ({"name": "prod", "nodes": ["pve1"]}, {"name": "prod", "nodes": ["pve2"]}),
        ({"name": "", "nodes": ["pve1", "pve2"]}, {"name": "", "nodes": ["pve1", "pve2"]}),
    ],
)
def test_a_copy_made_by_hand_moves_nothing(pod, looked, sql, theirs, ours):
    mine = pod()
    looked(row(mine), cluster=theirs)
    for _ in range(2):
        assert looked(row(mine), node="lab2", cluster=ours) == [("duplicate", 9101)]
        assert looked(row(mine), cluster=theirs) == []
    assert where(sql, mine) == [("lab1", True)]
    assert actions(sql, "MOVED", "DRIFT_FOUND") == [(mine, TENANT, "DRIFT_FOUND", "duplicate")]


def test_a_node_that_was_never_looked_at_proves_nothing(pod, looked, sql):
    mine = pod()
    assert looked(row(mine), node="lab2", cluster=ONE_CLUSTER) == [("duplicate", 9101)]
    assert where(sql, mine) == [("lab1", True)]


def test_a_pod_moved_by_hand_is_followed_when_its_own_node_no_longer_shows_it(pod, looked, sql):
    mine = pod()
    assert looked(row(mine), node="lab2") == [("duplicate", 9101)]
    assert looked() == [("moved", 9101)]
    assert where(sql, mine) == [("lab2", True)]
    assert looked(row(mine), node="lab2") == []


def test_a_copy_that_is_gone_again_proves_nothing(pod, looked, sql):
    mine = pod()
    looked(row(mine), node="lab2")
    looked(node="lab2")
    assert looked() == [("missing", 9101)]
    assert where(sql, mine) == [("lab1", True)]


@pytest.mark.parametrize("changes", [{"unfinished": True}, {"owner": {"tenant": OTHER_TENANT, "pod": "x"}}, {"owner": None}])
def test_what_is_not_the_pod_whole_is_not_followed(pod, looked, sql, changes):
    mine = pod()
    looked(row(mine), cluster=ONE_CLUSTER)
    found = looked(row(mine, **changes), node="lab2", cluster=ONE_CLUSTER)
    assert found == ([] if "unfinished" in changes else [("foreign", 9101)])
    assert where(sql, mine) == [("lab1", True)]


def test_a_pod_being_changed_is_not_followed_yet(pod, rows, looked, sql):
    mine = pod()
    looked(row(mine), cluster=ONE_CLUSTER)
    rows.job("SCALE", pod=mine, status="running", lease_until="2036-01-01")
    assert looked(row(mine), node="lab2", cluster=ONE_CLUSTER) == []
    assert where(sql, mine) == [("lab1", True)]


def test_a_pod_is_not_followed_without_leave(pod, looked, sql):
    mine = pod()
    looked(row(mine), cluster=ONE_CLUSTER)
    assert looked(row(mine), node="lab2", cluster=ONE_CLUSTER, mends=[]) == [("moved", 9101)]
    assert where(sql, mine) == [("lab1", True)]


def test_a_pod_that_its_node_shows_on_another_waits_for_that_ones_look(pod, looked, sql):
    mine = pod()
    looked(node="lab2", cluster=ONE_CLUSTER)
    elsewhere = [{"vmid": 9101, "node": "pve2"}]
    assert looked(cluster=ONE_CLUSTER, elsewhere=elsewhere) == [("moved", 9101)]
    assert where(sql, mine) == [("lab1", True)]
    looked(row(mine), node="lab2", cluster=ONE_CLUSTER)
    assert where(sql, mine) == [("lab2", True)]


def test_a_pod_on_a_node_that_is_none_of_ours_is_told(pod, looked, sql):
    mine = pod()
    found = looked(cluster=ONE_CLUSTER, elsewhere=[{"vmid": 9101, "node": "pve9"}, {"vmid": 4000, "node": "pve9"}])
    assert found == [("moved_to_unknown_node", 9101)]
    assert where(sql, mine) == [("lab1", True)]


@pytest.mark.parametrize(("status", "type"), [("active", "SCALE"), ("active", "BACKUP"), ("deleting", "DESTROY")])
def test_a_pod_with_an_order_that_waits_for_its_dead_node_is_followed_by_the_order(pod, rows, looked, sql, status, type):
    mine, other = pod(status=status), pod(9102, tenant_id=OTHER_TENANT)
    looked(row(other, 9102, OTHER_TENANT), row(mine), cluster=ONE_CLUSTER)
    sql("UPDATE cloud_pod_nodes SET status = 'offline' WHERE name = 'lab1'")
    queued = rows.job(type, pod=mine)
    assert looked(row(mine), node="lab2", cluster=ONE_CLUSTER) == [("moved", 9101)]
    assert where(sql, mine) == [("lab2", True)]
    assert where(sql, other) == [("lab1", True)]
    assert sql.row("cloud_pod_jobs", queued)["node_id"] == rows.node_id("lab2")


def test_a_deleting_pod_moved_by_hand_is_followed_too(pod, rows, looked, sql):
    mine = pod(status="deleting")
    queued = rows.job("DESTROY", pod=mine)
    assert looked(row(mine), node="lab2") == [("duplicate", 9101)]
    assert looked() == [("moved", 9101)]
    assert sql.row("cloud_pod_jobs", queued)["node_id"] == rows.node_id("lab2")


@pytest.mark.parametrize(("node_status", "expected"), [("active", []), ("offline", [("moved", 9101)])])
def test_a_lost_run_keeps_a_pod_where_it_is_unless_its_node_is_offline(pod, rows, looked, sql, node_status, expected):
    mine = pod()
    looked(row(mine), cluster=ONE_CLUSTER)
    sql("UPDATE cloud_pod_nodes SET status = %s WHERE name = 'lab1'", node_status)
    rows.job("SCALE", pod=mine, lost=True)
    assert looked(row(mine), node="lab2", cluster=ONE_CLUSTER) == expected


def test_size_and_power_of_a_pod_with_an_order_are_not_judged(pod, rows, looked, sql):
    mine = pod()
    rows.job("SCALE", pod=mine)
    assert looked(row(mine, cores=9, status="stopped"), mends=["size", "power"]) == []
    assert sql.value("SELECT count(*) FROM cloud_pod_jobs WHERE type NOT IN ('RECONCILE', 'SCALE')") == 0
