"""Orders lock pods, tenant, plans and quota in one order, and what they hold they hold to their end."""

import threading
from contextlib import contextmanager

import psycopg2
import pytest

from shim.cloudpods import create_many, dry_run
from shim.cloudpods.bulk import CloudPodBatch

TENANT, OTHER_TENANT = "TENANT-123", "TENANT-456"
NEW = {"hostname": "client-portal", "cores": 1, "memoryMb": 512}
# What would change each of them waits for who keeps it.
CHANGES = {
    "pod": "SELECT 1 FROM cloud_pods WHERE vmid = 9101 FOR UPDATE NOWAIT",
    "tenant": f"SELECT 1 FROM tenants WHERE id = '{TENANT}' FOR NO KEY UPDATE NOWAIT",
    "plan": "SELECT 1 FROM plans WHERE slug = 'cloud-basic' FOR NO KEY UPDATE NOWAIT",
    "quota": f"SELECT 1 FROM tenant_quotas WHERE tenant_id = '{TENANT}' FOR UPDATE NOWAIT",
    "another tenant": f"SELECT 1 FROM tenants WHERE id = '{OTHER_TENANT}' FOR UPDATE NOWAIT",
}


def held(sql):
    """Return which of the rows somebody holds just now."""
    names = set()
    for name, change in CHANGES.items():
        try:
            assert sql(change), name
        except psycopg2.errors.LockNotAvailable:
            names.add(name)
    return names


@pytest.fixture
def watch(monkeypatch, sql):
    """Return a way to note, each time that a function is called, what is held."""

    @contextmanager
    def watching(owner, name):
        seen, original = [], getattr(owner, name)

        def noting(*args, **kwargs):
            seen.append(held(sql))
            return original(*args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, noting)
            yield seen

    return watching


def order(api, path, body, **params):
    answer = api.simulate_post(f"/internal/cloudpods{path}", json={"tenantId": TENANT, **body}, params=params)
    assert answer.status_code == 202, answer.text
    return answer


def test_a_dry_run_of_a_change_lets_nothing_go_when_it_takes_its_trial_back(api, rows, watch):
    rows.pod(vmid=9101)
    with watch(dry_run, "_rehearsed") as seen:
        order(api, "/9101/scale", {"newCores": 3}, dryRun="1")
    assert seen == [{"pod", "tenant", "plan", "quota"}]


def test_a_dry_run_of_a_new_pod_does_neither(api, rows, watch):
    rows.pod(vmid=9101)
    with watch(dry_run, "_rehearsed") as seen:
        order(api, "", NEW, dryRun="1")
    assert seen == [{"tenant", "plan", "quota"}]


def test_a_batch_holds_all_of_its_own_before_it_takes_what_is_everybodys(api, rows, sql, watch):
    rows.pod(vmid=9101)
    plan = sql.value("SELECT id FROM plans WHERE slug = 'cloud-basic'")
    with watch(create_many, "Placing") as seen:
        order(api, "/bulk", {"items": [NEW, {**NEW, "planId": plan}, {"action": "stop", "vmid": 9101}]})
    assert seen[0] == {"pod", "tenant", "plan", "quota"}
    with watch(CloudPodBatch, "gather") as seen:
        order(api, "/bulk", {"items": [NEW, {"action": "scale", "vmid": 9101, "newCores": 3}]}, dryRun="1")
    assert seen == [{"pod", "tenant", "plan", "quota"}]


def test_orders_dry_runs_batches_and_changed_limits_do_not_lock_each_other_out(api, rows, sql):
    for vmid in (9101, 9102):
        rows.pod(vmid=vmid, cores=1, memory_mb=64)
    sql("UPDATE cloud_pod_nodes SET total_cpu_cores = 0, total_memory_mb = 0")
    sql("UPDATE tenant_quotas SET max_cloud_pods = 1000, max_cpu_cores = 10000, max_ram_mb = 10000000, max_disk_gb = 100000")
    plan = sql.value("SELECT id FROM plans WHERE slug = 'cloud-basic'")
    small = {**NEW, "memoryMb": 64}
    scales = [{"action": "scale", "vmid": vmid, "newCores": 2} for vmid in (9102, 9101)]
    kinds = [
        lambda n: order(api, f"/{9101 + n % 2}/scale", {"newCores": 1 + n % 3}),
        lambda n: order(api, f"/{9101 + n % 2}/scale", {"newCores": 1 + n % 3}, dryRun="1"),
        lambda _: order(api, "", {**small, "planId": plan}),
        lambda _: order(api, "", small, dryRun="1"),
        lambda _: order(api, "/bulk", {"items": [small, {**small, "planId": plan}, *scales]}),
        lambda _: order(api, "/bulk", {"items": [*scales, small]}, dryRun="1"),
        lambda n: put(api, f"/plans/{plan}", 10_000 + n),
        lambda n: put(api, f"/tenants/{TENANT}/quota", 100_000 + n),
    ]
    wrong = []

    def run(kind):
        try:
            for n in range(4):
                kind(n)
        except AssertionError as error:
            wrong.append(str(error))

    threads = [threading.Thread(target=run, args=(kind,)) for kind in kinds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def put(api, path, cores):
    answer = api.simulate_put(f"/internal{path}", json={"maxCpuCores": cores})
    assert answer.status_code == 200, answer.text
