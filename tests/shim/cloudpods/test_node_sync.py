"""What a node has for pods: what a look writes to its row, and what it leaves."""

import pytest

from shim.jobs import looks
from shim.scheduler import timetable
from shim.worker import outcome
from shim.worker.playbook import Outcome

pytestmark = pytest.mark.usefixtures("session")
COLUMNS = ("total_cpu_cores", "total_memory_mb", "total_disk_gb", "storages", "node_name")


def storage(name, active=True, total_gb=1124):
    return {"name": name, "type": "zfspool", "active": active, "total_gb": total_gb, "available_gb": 1}


@pytest.fixture
def synced(rows, sql):
    """Return a way to write a look's outcome; it gives the node's columns, or the error of a look that failed."""

    def write(node="lab1", **facts):
        job = rows.running("NODE_SYNC", node=node, tenant_id=None, payload={})
        outcome.write(job, Outcome({node: {"node": "pve1", "version": "0.1.0", "facts": facts or None}}, None))
        ended = sql.row("cloud_pod_jobs", job.id)
        found = sql.row("cloud_pod_nodes", rows.node_id(node))
        return ended["error"] or tuple(found[name] for name in COLUMNS)

    return write


def events(sql):
    return [data for (data,) in sql("SELECT data FROM cloud_pod_events WHERE data ->> 'action' = 'NODE_SYNCED' ORDER BY seq")]


def test_totals_are_the_nodes_and_those_written_by_hand_are_told(synced, rows, sql):
    sql("UPDATE cloud_pod_nodes SET total_cpu_cores = 8, memory_overcommit = 1.5, node_name = NULL WHERE name = 'lab1'")
    facts = {"cores": 64, "memory_mb": 262144, "storage": "main", "storages": [storage("small", total_gb=5), storage("main")]}
    assert synced(**facts) == (64, 262144, 1124, ["main", "small"], "pve1")
    node = sql.row("cloud_pod_nodes", rows.node_id())
    assert (node["memory_overcommit"], node["synced_at"] is None) == (1.5, False)
    assert sql.row("cloud_pod_nodes", rows.node_id("lab2"))["synced_at"] is None
    ((before, after),) = [(event["before"], event["after"]) for event in events(sql)]
    assert (before["total_cpu_cores"], after["total_cpu_cores"]) == (8, 64)
    synced(**facts)
    assert len(events(sql)) == 1, "told again though nothing changed"


def test_what_a_node_does_not_tell_stays(synced, sql):
    sql("UPDATE cloud_pod_nodes SET total_cpu_cores = 8, total_memory_mb = 9, total_disk_gb = 7, node_name = 'mine'")
    away = [storage("main", active=False), storage("other")]
    assert synced(cores=None, memory_mb=0, storage="main", storages=away) == (8, 9, 7, ["other"], "mine")
    assert synced(cores=16, storages=[])[:4] == (16, 9, 7, ["other"])


def test_scripts_that_are_too_old_are_named(synced, sql):
    assert "playbooks/node.yml" in synced()
    assert sql.value("SELECT count(*) FROM cloud_pod_nodes WHERE synced_at IS NOT NULL") == 0


def test_the_timetable_asks_at_the_interval_that_is_set_and_never_when_it_is_zero(settings):
    def named(interval):
        made = settings.model_copy(update={"node_sync_s": interval})
        return [entry.interval_s for entry in timetable.entries(made, None) if entry.name == "sync nodes"]

    assert (named(86400.0), named(0.0)) == ([10.0], [])


def test_nodes_that_are_offline_are_not_asked(sql):
    sql("UPDATE cloud_pod_nodes SET status = 'offline' WHERE name = 'lab2'")
    assert looks.may_be_asked() == ("lab1",)
    assert [job.node.name for job in looks.order_due("NODE_SYNC", 86400, {})] == ["lab1"]


def test_a_storage_without_a_name_is_passed_over(synced):
    odd = [{"active": True, "total_gb": 9}, "x", storage("main")]
    assert synced(cores=4, storage="main", storages=odd)[2:4] == (1124, ["main"])
    assert synced(cores=8, storages="none")[3] == ["main"]


@pytest.mark.parametrize("type", ["NODE_SYNC", "RECONCILE", "HEALTH_SWEEP"])
def test_a_node_that_is_down_is_told_once_and_once_that_it_answers_again(rows, sql, type):
    def look(node="lab1", result=None):
        payload = {"mends": []} if type == "RECONCILE" else {}
        for tries in (1, 2):
            job = rows.running(type, node=node, tenant_id=None, payload=payload, tries=tries)
            if result is None:
                outcome.write(job, Outcome(None, {"msg": "cannot reach", "retryable": True, "left_behind": "unknown"}))
                sql("DELETE FROM cloud_pod_jobs WHERE status = 'queued'")
            elif tries == 2:
                outcome.write(job, Outcome({node: result}, None))
            else:
                sql("DELETE FROM cloud_pod_jobs WHERE id = %s", job.id)

    def told():
        told = sql("SELECT data ->> 'action', data ->> 'node' FROM cloud_pod_events ORDER BY seq")
        return [(action.removeprefix(type), node) for action, node in told if action != "NODE_SYNCED"]

    fine = {"NODE_SYNC": {"facts": {"cores": 4}}, "RECONCILE": {"pods": []}, "HEALTH_SWEEP": {"health": []}}[type]
    for _ in range(3):
        look()
    look("lab2")
    assert told() == [("_FAILED", "lab1"), ("_FAILED", "lab2")]
    for _ in range(2):
        look(result=fine)
    assert told()[2:] == [("LOOK_SUCCEEDS_AGAIN", "lab1")]
    look()
    assert told()[3:] == [("_FAILED", "lab1")]
