"""New pods of a batch are placed together: others wait for a few statements, and each pod is as if it were ordered alone."""

import pytest

from shim import db
from shim.cloudpods import create_many

TENANT, OTHER_TENANT = "TENANT-123", "TENANT-456"
NEW = {"hostname": "client-portal", "cores": 1, "memoryMb": 512}
PATH = "/internal/cloudpods"
DIFFERS = {"id", "seq", "vmid", "created_at", "updated_at", "job_id", "cloud_pod_id", "batch_id", "request_id", "run_after"}


def bulk(api, items):
    return api.simulate_post(f"{PATH}/bulk", json={"tenantId": TENANT, "items": items})


@pytest.fixture
def roomy(sql):
    """Let tenant and nodes have room for all that a test asks for."""
    sql("UPDATE tenant_quotas SET max_cloud_pods = 1000, max_cpu_cores = 10000, max_ram_mb = 10000000, max_disk_gb = 100000")
    sql("UPDATE cloud_pod_nodes SET total_cpu_cores = 0, total_memory_mb = 0, total_disk_gb = 0")


@pytest.mark.usefixtures("roomy")
def test_what_all_wait_for_is_held_for_as_many_statements_however_large_the_batch(api, monkeypatch):
    def statements(count):
        ran, execute, placing = [], db.database.obj.execute_sql, create_many.Placing

        def begin():
            monkeypatch.setattr(db.database.obj, "execute_sql", lambda *a, **k: ran.append(a) or execute(*a, **k))
            return placing()

        with monkeypatch.context() as patch:
            patch.setattr(create_many, "Placing", begin)
            assert bulk(api, [NEW] * count).status_code == 202
        monkeypatch.undo()
        return len(ran)

    few, many = statements(5), statements(100)
    assert 0 < many <= few < 40


@pytest.mark.usefixtures("roomy")
def test_a_pod_of_a_batch_is_written_as_one_ordered_alone(api, sql):
    def written():
        told = {}
        for table in ("cloud_pods", "cloud_pod_allocations", "cloud_pod_jobs", "quota_entries", "cloud_pod_events"):
            keys = [key for (key,) in sql("SELECT column_name FROM information_schema.columns WHERE table_name = %s", table)]
            shown = ", ".join(sorted({*keys} - DIFFERS - {"payload", "data", "placement", "woken_at", "node_id", "turn"}))
            told[table] = sorted(map(str, sql(f"SELECT {shown} FROM {table}")))
        return told

    assert api.simulate_post(PATH, json={"tenantId": TENANT, "node": "lab1", **NEW}).status_code == 202
    alone = written()
    answer = bulk(api, [{**NEW, "node": "lab1"}])
    assert answer.status_code == 202
    assert {table: sorted([*rows, *rows]) for table, rows in alone.items()} == written()
    payloads = [payload for (payload,) in sql("SELECT payload FROM cloud_pod_jobs ORDER BY created_at")]
    assert {**payloads[0], "vmid": 0} == {**payloads[1], "vmid": 0}


@pytest.mark.usefixtures("roomy")
def test_each_pod_has_a_vmid_and_an_address_of_its_own(api, sql):
    # Both nodes share a pool, of which the control plane gives the addresses.
    sql("UPDATE cloud_pod_nodes SET address_pool_id = (SELECT id FROM address_pools ORDER BY first_ip LIMIT 1)")
    assert api.simulate_post(PATH, json={"tenantId": OTHER_TENANT, **NEW}).status_code == 202
    assert bulk(api, [NEW, {**NEW, "vmid": 10003}, *[NEW] * 8]).status_code == 202
    assert api.simulate_post(PATH, json={"tenantId": OTHER_TENANT, **NEW}).status_code == 202
    assert sql("SELECT count(*), count(DISTINCT vmid), count(DISTINCT ip), bool_and(ip <> '') FROM cloud_pods") == [
        (12, 12, 12, True)
    ]
    assert sql.value("SELECT max(vmid) FROM cloud_pods") == 10011


def test_the_item_that_has_no_place_is_named_and_none_is_taken(api, sql, assert_problem):
    sql("UPDATE cloud_pod_nodes SET total_memory_mb = 1024, memory_overcommit = 1")
    answer = bulk(api, [NEW, NEW, NEW, NEW, NEW])
    assert_problem(answer, 409, "no_capacity", field="items.4")
    assert sql.counts()["cloud_pods"] == 0
    assert bulk(api, [NEW] * 4).status_code == 202
