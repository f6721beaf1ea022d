"""The figures for Prometheus: what they say, who may read them, what they cost."""

import os
import subprocess
import sys

import pytest
from prometheus_client.parser import text_string_to_metric_families

from shim import db
from shim.cloudpods.metrics import Figures

TENANT, OTHER_TENANT = "TENANT-123", "TENANT-456"


@pytest.fixture
def read(tenants, api_on):
    """Return a way to read the figures of a fresh API: name → labels → value."""

    def run(*requests):
        api = api_on(tenants)
        for path in requests:
            api.simulate_get(path)
        answer = api.simulate_get("/metrics")
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"].startswith("text/plain")
        found = {}
        for family in text_string_to_metric_families(answer.text):
            for sample in family.samples:
                found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
        return found

    return run


def labels(**named):
    return tuple(sorted(named.items()))


def test_requests_are_counted_by_method_route_and_class_of_status(read):
    counts = "cloudpods_http_request_duration_seconds_count"
    ours = labels(method="GET", route="/internal/cloudpods/{reference}", status="4xx")
    nothing = labels(method="GET", route="none", status="4xx")
    before = read().get(counts, {})
    after = read("/internal/cloudpods/9101", "/internal/cloudpods/9102", "/odd/9101")[counts]
    assert after[ours] - before.get(ours, 0) == 2
    assert after[nothing] - before.get(nothing, 0) == 1
    assert not [key for key in after if "9101" in str(key)]


def test_jobs_queues_quotas_headroom_and_drift(read, rows, sql):
    pod = rows.pod(vmid=9101)
    rows.job("BACKUP", pod=pod, created_at="2026-01-01")
    rows.job("SCALE", pod=pod, status="success", started_at="2026-01-01 00:00:00", finished_at="2026-01-01 00:00:30")
    sql("UPDATE cloud_pod_nodes SET total_memory_mb = 8192, memory_overcommit = 1.5 WHERE name = 'lab1'")
    sql("UPDATE tenant_quotas SET used_cloud_pods = 1")
    sql(
        "INSERT INTO drift_reports (node_id, job_id, checked, counts, looked_at) VALUES (%s, 'j', 1, '{\"size\": 2}', now())",
        rows.node_id(),
    )
    found = read()
    assert found["cloudpods_jobs"] == {labels(type="BACKUP", status="queued"): 1, labels(type="SCALE", status="success"): 1}
    assert found["cloudpods_job_duration_seconds_sum"] == {labels(type="SCALE"): 30}
    assert found["cloudpods_queue_depth"][labels(queue="cloudpods:backup")] == 1
    assert found["cloudpods_queue_depth"][labels(queue="cloudpods:scale")] == 0
    assert found["cloudpods_queue_age_seconds"][labels(queue="cloudpods:backup")] > 1000
    assert found["cloudpods_quota"][labels(plan="cloud-basic", resource="pods", of="used")] == 2
    assert found["cloudpods_node_headroom"] == {labels(node="lab1", resource="memory_mb"): 8192 * 1.5 - 2048}
    assert found["cloudpods_drift"] == {labels(node="lab1", kind="size"): 2}
    assert not [key for by_labels in found.values() for key in by_labels if TENANT in str(key) or OTHER_TENANT in str(key)]


def test_without_a_token_nothing_is_told_unless_a_setting_opens_it(tenants, api_on, assert_problem):
    closed, nobody = api_on(tenants), {"Authorization": ""}
    assert_problem(closed.simulate_get("/metrics", headers=nobody), 401)
    opened = api_on(tenants.model_copy(update={"metrics_open": True}))
    assert opened.simulate_get("/metrics", headers=nobody).status_code == 200


def test_an_impatient_reader_does_not_ask_the_database_again(rows, monkeypatch):
    with db.session():
        figures = Figures()
        first = list(figures.collect())
        monkeypatch.setattr(db, "rows", lambda *_: pytest.fail("the database was asked again"))
        assert list(figures.collect()) == first


def test_the_requests_of_all_processes_are_added_up(tmp_path):
    environ = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    count = "from shim.web import request_metrics as m; m._REQUESTS.labels('GET', '/', '2xx').observe(1)"

    def run(code):
        return subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True).stdout

    run(count)
    run(count)
    said = run("from shim.web import request_metrics as m; print(m.exposition([]).decode())")
    assert 'cloudpods_http_request_duration_seconds_count{method="GET",route="/",status="2xx"} 2.0' in said
