"""What the seeds ask for, as plain data: every table, column and route. Fails by naming what is missing.

Sections 1, 5, 7.2 and 9 of the master spec, the tables that seed 001's own INSERTs write to, and `/api/cloudpods*` of the
other seeds. Its tables of metrics and monitoring belong to wings that are not built yet.
"""

import re

import pytest

from shim import app
from shim.jobs.queue import Wakeups
from shim.web import operation

# The master spec's models in its own words (Prisma); relations are columns of the other side.
MODELS = {
    "Tenant": "id name slug ownerUserId planId region createdAt updatedAt",
    "User": "id email name role createdAt updatedAt",
    "Plan": "id name slug description maxCloudPods maxCpuCores maxRamMb maxDiskGb backupPolicy createdAt",
    "CloudPod": (
        "id tenantId vmid hostname ip region status planSnapshot cores memoryMb swapMb storage bridge createdAt updatedAt"
        " deletedAt lastBackupAt lastHealthStatus lastHealthChecked blueprintId"
    ),
    "CloudPodJob": "id cloudPodId tenantId type status payload result error createdAt startedAt finishedAt",
    "CloudPodEvent": "id cloudPodId tenantId type message data createdAt",
    "TenantQuota": (
        "id tenantId maxCloudPods maxCpuCores maxRamMb maxDiskGb usedCloudPods usedCpuCores usedRamMb usedDiskGb"
        " createdAt updatedAt"
    ),
    "Blueprint": "id name slug description spec createdAt updatedAt",
}
# Seed 001, in its own SQL.
TABLES = {
    "cloud_pod_nodes": "id name provider api_url node_name status total_cpu_cores total_memory_mb total_disk_gb",
    "cloud_pod_allocations": "node_id used_cpu_cores used_memory_mb used_disk_gb",
}
UNIQUE = {"User": "email", "Tenant": "slug", "Plan": "slug", "Blueprint": "slug", "TenantQuota": "tenantId"}
# What a row gets that names only what has no default: the spec's `@default`.
DEFAULTS = {
    ("Tenant", "region"): "migra-us-east-1",
    ("CloudPod", "region"): "migra-us-east-1",
    **{("TenantQuota", name): "0" for name in ("usedCloudPods", "usedCpuCores", "usedRamMb", "usedDiskGb")},
}
# The words that the spec's comments allow in a column.
WORDS = {
    ("users", "role"): "owner admin dev billing",
    ("plans", "backup_policy"): "basic standard enterprise",
    ("cloud_pods", "status"): "provisioning active failed deleting deleted",
    ("cloud_pods", "last_health_status"): "ok warning critical",
    ("cloud_pod_jobs", "status"): "queued running success failed",
    ("cloud_pod_events", "type"): "INFO WARN ERROR STATE_CHANGE BACKUP HEALTH",
}
ROUTES = """
POST /internal/cloudpods                            5.1
POST /internal/cloudpods/9101/destroy               5.2
POST /internal/cloudpods/9101/backup                5.3
GET  /internal/cloudpods/9101/health                5.4
GET  /internal/tenants/TENANT-123/cloudpods         5.5
GET  /internal/cloudpods/9101                       5.5
POST /internal/cloudpods/9101/scale                 7.2
GET  /internal/tenants/TENANT-123/quota             9
PUT  /internal/tenants/TENANT-123/quota             9
POST /api/cloudpods                                 001
POST /api/cloudpods/9101/actions                    001
"""
ORDERS = "CREATE DESTROY BACKUP HEALTH_CHECK SCALE"


def snake(name):
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def table(model):
    return snake(model) + "s"


def columns(sql, name):
    found = sql("SELECT column_name, column_default FROM information_schema.columns WHERE table_name = %s", name)
    return dict(found)


def routes():
    return [tuple(line.split()) for line in ROUTES.strip().splitlines()]


@pytest.mark.parametrize("model", MODELS)
def test_every_column_of_the_master_spec_is_there(sql, settings, model):
    missing = {snake(name) for name in MODELS[model].split()} - set(columns(sql, table(model)))
    assert not missing, f"table {table(model)} lacks {sorted(missing)}"


@pytest.mark.parametrize("name", TABLES)
def test_every_column_of_seed_001_is_there(sql, settings, name):
    missing = set(TABLES[name].split()) - set(columns(sql, name))
    assert not missing, f"table {name} lacks {sorted(missing)}"


@pytest.mark.parametrize("model", [*MODELS, "CloudPodNode", "CloudPodAllocation"])
def test_ids_and_times_have_defaults_of_the_databases_own(sql, settings, model):
    defaults = columns(sql, table(model))
    without = [name for name in ("id", "created_at", "updated_at") if name in defaults and defaults[name] is None]
    assert not without, f"table {table(model)}: no default for {without}"


@pytest.mark.parametrize(("model", "name"), DEFAULTS)
def test_a_default_of_the_spec_is_ours(sql, settings, model, name):
    assert DEFAULTS[model, name] in columns(sql, table(model))[snake(name)]


@pytest.mark.parametrize("model", UNIQUE)
def test_what_the_spec_calls_unique_is(sql, settings, model):
    found = sql(
        "SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]"
        " WHERE i.indrelid = %s::regclass AND i.indisunique AND i.indnatts = 1 AND i.indpred IS NULL",
        table(model),
    )
    assert (snake(UNIQUE[model]),) in found


@pytest.mark.parametrize(("name", "column"), WORDS)
def test_every_word_of_the_spec_may_be_written(sql, settings, name, column):
    checks = sql("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'c' AND conrelid = %s::regclass", name)
    allowed = "".join(text for (text,) in checks if f"({column} " in text)
    missing = [word for word in WORDS[name, column].split() if f"'{word}'" not in allowed]
    assert not missing, f"{name}.{column} refuses {missing}"


@pytest.mark.parametrize(("method", "path", "section"), routes())
def test_every_route_of_the_spec_is_there_and_declared(settings, method, path, section):
    found = app.create(settings)._router.find(path)
    assert found is not None, f"section {section}: nothing answers {path}"
    resource = found[0]
    assert hasattr(resource, f"on_{method.lower()}"), f"section {section}: {path} does not take {method}"
    assert operation.of(resource, method) is not None


@pytest.mark.parametrize(("method", "path", "section"), routes())
def test_every_route_of_the_spec_answers_its_tenant_and_hides_from_another(api, rows, method, path, section):
    rows.pod(vmid=9101)
    bodies = {"actions": {"action": "backup"}, "scale": {"newCores": 4, "newMemoryMb": 4096}, "quota": {"maxCloudPods": 9}}
    create = {"hostname": "client-portal", "cores": 2, "memoryMb": 2048}
    last = path.rsplit("/", 1)[1]
    body = {"tenantId": "TENANT-123", **(create if last == "cloudpods" else bodies.get(last, {}))}
    if last == "quota":
        del body["tenantId"]
    # The quota is the panel's to set.
    stranger = api.as_user("owner", tenant="TENANT-456")
    answer = api.simulate_request(method, path, headers=stranger, json=body if method != "GET" else None)
    assert answer.status_code == (403 if method == "PUT" else 404), answer.text
    answer = api.simulate_request(method, path, json=body if method != "GET" else None)
    assert answer.status_code == (202 if method == "POST" else 200), answer.text


def test_both_prefixes_have_every_route(settings):
    paths = set(app.routes(settings, Wakeups(settings.redis_url)))
    lonely = [
        path
        for path in paths
        for one, other in (("/internal/", "/api/"), ("/api/", "/internal/"))
        if path.startswith(one) and path.replace(one, other, 1) not in paths
    ]
    assert not lonely, f"only under one prefix: {sorted(lonely)}"


def test_every_type_of_job_of_the_spec_is_in_the_catalog():
    from shim.jobs.catalog import ACTIONS

    missing = set(ORDERS.split()) - set(ACTIONS)
    assert not missing, f"the catalog lacks {sorted(missing)}"
