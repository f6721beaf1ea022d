"""The control plane end to end, over a running stack with two nodes: drift, dry runs, bulk, what is told of a job, HA."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from tests.stack import OTHER_TENANT, TENANT, Stack, wait_until

TEMPLATE = "local:vztmpl/debian-12-standard_12.7-1_amd64.tar.zst"
COROSYNC = "totem {\n  cluster_name: prod\n  version: 2\n}\n"
# What of the database a rehearsal leaves as it is.
KEPT = (
    "cloud_pods",
    "cloud_pod_allocations",
    "cloud_pod_backups",
    "quota_entries",
    "tenant_quotas",
    "regions",
    "address_pools",
)

MENDED = "SELECT mends = '[]'::jsonb FROM drift_reports WHERE job_id = %s"


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """Return a running stack with two tenants and two nodes, which looks at its nodes only when it is told to."""
    home = Path(tempfile.mkdtemp(prefix="cloudpods-control-"))
    home.chmod(0o711)
    running = Stack(home)
    running.environment |= {
        "CLOUDPODS_LOG_FORMAT": "json",
        "CLOUDPODS_HEALTH_SWEEP_S": "0",
        "CLOUDPODS_RECONCILE_S": "0",
        "CLOUDPODS_RECONCILE_MENDS": "power,size,moved",
    }
    try:
        running.lay_lab("lab1", "lab2")
        running.start(said=home / "said")
        running.seed()
        running.cloudpods("seed", "--node", "lab2", "--pool", "10.1.20.50-10.1.20.249", "--gateway", "10.1.20.1")
        yield running
        assert running.stop() == []
    finally:
        running.stop()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(autouse=True)
def no_switches(stack: Stack) -> None:
    """Begin each test on a node that works."""
    stack.switch("reset")


@pytest.fixture
def sql(stack):
    """Return a way to ask the stack's database."""
    url = json.loads((stack.state_dir / "settings.json").read_text())["database_url"]
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True

        def ask(query, *values):
            with connection.cursor() as cursor:
                cursor.execute(query, values)
                return cursor.fetchall() if cursor.description else []

        yield ask


def on_node(lab, *words):
    subprocess.run([lab / "bin" / words[0], *words[1:]], check=True, capture_output=True)


def lab2(stack):
    return stack.lab.with_name("lab2")


def bulk(stack, *items):
    """Order these together; return the finished batch's jobs by item."""
    answer = stack.post("/internal/cloudpods/bulk", tenantId=TENANT, items=list(items))
    assert answer.status_code == 202, answer.text
    batch = answer.json()["batch"]["id"]
    wait_until(lambda: stack.get(f"/internal/batches/{batch}")["done"], "the batch is done")
    return batch, [stack.finished(item["jobId"]) for item in answer.json()["items"]]


def made(stack, *vmids, **changes):
    """Make pods on lab1, unless told otherwise."""
    asked = {"cores": 1, "memoryMb": 512, "node": "lab1", **changes}
    _, jobs = bulk(stack, *({"vmid": vmid, "hostname": f"pod-{vmid}", **asked} for vmid in vmids))
    assert [job["error"] for job in jobs] == [None] * len(vmids)


def pod(stack, vmid):
    return stack.get(f"/internal/cloudpods/{vmid}")


def conf(lab, vmid):
    return (lab / f"etc/pve/lxc/{vmid}.conf").read_text()


def look(stack, sql, node):
    """Look at a node and have it mended; return what was found, by kind and vmid."""
    job = stack.done(f"/internal/nodes/{node}/reconcile")
    assert job["status"] == "success"
    # The clock orders the mends.
    wait_until(lambda: sql(MENDED, job["id"]) == [(True,)], f"the report of {node} is mended")
    (report,) = stack.get("/internal/drift", node=node)["items"]
    assert report["jobId"] == job["id"]
    return {(item["kind"], item["vmid"]): item for item in report["items"]}


def actions(stack, vmid):
    events = stack.get(f"/internal/cloudpods/{vmid}/events", limit=200)["items"]
    return Counter(event["data"]["action"] for event in events)


def test_what_was_changed_by_hand_is_found_and_mended_once(stack, sql):
    made(stack, 9201, 9202, 9203)
    on_node(stack.lab, "pct", "stop", "9201")
    on_node(stack.lab, "pct", "set", "9202", "--memory", "1024", "--cores", "2")
    on_node(stack.lab, "pct", "stop", "9203")
    on_node(stack.lab, "pct", "destroy", "9203", "--purge", "1")
    size = ("--cores", "2", "--memory", "1024", "--rootfs", "clients-main:4")
    on_node(stack.lab, "pct", "create", "5002", TEMPLATE, "--hostname", "legacy", "--pool", "ClientPods", *size)

    found = look(stack, sql, "lab1")
    assert set(found) == {("power", 9201), ("size", 9202), ("missing", 9203), ("foreign", 5002)}
    assert found["size", 9202]["node"] == {"cores": 2, "memory_mb": 1024}
    assert stack.get("/internal/drift", node="lab1", kind="size")["items"][0]["items"] == [found["size", 9202]]
    orders = {vmid: found[kind, vmid]["mend"]["jobId"] for kind, vmid in (("power", 9201), ("size", 9202))}
    # While the orders are under way, and when they are done, nothing more is ordered.
    while_under_way = look(stack, sql, "lab1")
    assert {vmid: stack.finished(job)["status"] for vmid, job in orders.items()} == {9201: "success", 9202: "success"}
    assert set(look(stack, sql, "lab1")) == {("missing", 9203), ("foreign", 5002)}
    assert not [item for item in while_under_way.values() if item["mend"]]
    assert [actions(stack, vmid)["DRIFT_MENDED"] for vmid in (9201, 9202, 9203)] == [1, 1, 0]
    assert [actions(stack, vmid)["DRIFT_FOUND"] for vmid in (9201, 9202, 9203)] == [1, 1, 1]

    assert stack.runs(9201)
    assert "memory: 512" in conf(stack.lab, 9202)
    assert (stack.lab / "etc/pve/lxc/5002.conf").exists()
    assert pod(stack, 9203)["status"] == "active"
    assert stack.done("/internal/cloudpods/9203/destroy", tenantId=TENANT)["status"] == "success"
    on_node(stack.lab, "pct", "destroy", "5002", "--purge", "1")


def test_a_node_that_has_less_than_its_pods_take_stops_growth_only(stack, sql):
    def row(node):
        query = "SELECT total_cpu_cores, total_memory_mb, total_disk_gb, storages FROM cloud_pod_nodes WHERE name = %s"
        return sql(query, node)[0]

    synced = "SELECT count(*) FROM cloud_pod_nodes WHERE synced_at IS NOT NULL"
    wait_until(lambda: sql(synced) == [(2,)], "the clock has had both nodes asked")
    whole = row("lab2")
    assert whole[:2] == (64, 262144)
    assert whole[3] == ["clients-backup", "clients-main"]

    made(stack, 9211, node="lab2", memoryMb=1024)
    meminfo = lab2(stack) / "proc/meminfo"
    before = meminfo.read_text()
    meminfo.write_text("MemTotal: 524288 kB\n")
    assert "lab2: 64 cores, 512 MB" in stack.cloudpods("nodes", "sync", "lab2")
    assert row("lab2") == (whole[0], 512, *whole[2:])

    more = stack.post("/internal/cloudpods/9211/scale", tenantId=TENANT, newMemoryMb=1025)
    other = stack.post("/internal/cloudpods", tenantId=TENANT, hostname="x", cores=1, memoryMb=16, node="lab2")
    assert [(answer.status_code, answer.json()["code"]) for answer in (more, other)] == [(409, "no_capacity")] * 2
    # Elsewhere there is room.
    anywhere = {"tenantId": TENANT, "hostname": "x", "cores": 1, "memoryMb": 16}
    rehearsed = stack.session.post(f"{stack.url}/internal/cloudpods?dryRun=1", json=anywhere, timeout=20).json()
    assert rehearsed["placement"]["node"] == "lab1"
    scaled = stack.done("/internal/cloudpods/9211/scale", tenantId=TENANT, newCores=2, newMemoryMb=768)
    assert scaled["status"] == "success"
    assert stack.done("/internal/cloudpods/9211/destroy", tenantId=TENANT)["status"] == "success"

    meminfo.write_text(before)
    assert stack.done("/internal/nodes/lab2/sync")["result"]["total_memory_mb"] == 262144
    assert row("lab2") == whole


def test_rehearsals_run_on_the_node_and_change_nothing(stack, sql):
    made(stack, 9221)

    def everything():
        rows = {table: sorted(map(repr, sql(f"SELECT * FROM {table}"))) for table in KEPT}
        folders = [stack.lab / "etc", stack.lab / "clients", stack.lab / "mnt", stack.lab / "run/net-unix"]
        files = [file for folder in folders for file in (folder, *folder.rglob("*")) if file.is_file()]
        return rows, {str(file): (file.stat().st_mtime_ns, file.read_bytes()) for file in files}

    def rehearse(path, **body):
        answer = stack.session.post(f"{stack.url}/internal/cloudpods{path}", params={"dryRun": "1"}, json=body, timeout=20)
        assert answer.status_code == 202, answer.text
        return answer.json()

    before = everything()
    mine = {"tenantId": TENANT}
    told = {
        "create": rehearse("", **mine, hostname="never", cores=2, memoryMb=1024, node="lab1"),
        "scale": rehearse("/9221/scale", **mine, newCores=4, newMemoryMb=2048),
        "destroy": rehearse("/9221/destroy", **mine),
        "shutdown": rehearse("/9221/actions", action="shutdown"),
        "start": rehearse("/9221/actions", action="start"),
        "backup": rehearse("/9221/backup", **mine),
    }
    jobs = {name: stack.finished(answer["job"]["id"]) for name, answer in told.items()}
    assert {name: job["error"] for name, job in jobs.items()} == dict.fromkeys(told)
    assert {name: job["result"]["changed"] for name, job in jobs.items()} == {**dict.fromkeys(told, True), "start": False}
    assert everything() == before
    last = stack.get(f"/internal/jobs/{jobs['scale']['id']}/events")["items"][-1]
    assert (last["data"]["action"], last["data"]["changed"]) == ("DRY_RUN", True)


def test_a_change_after_a_backup_waits_for_its_success(stack, sql):
    made(stack, 9231)
    stack.switch("fail", "vzdump", "--message", "no space on vzdump-backups")
    share = (
        "SELECT used_memory_mb FROM cloud_pod_allocations WHERE cloud_pod_id = (SELECT id FROM cloud_pods WHERE vmid = 9231)"
    )
    reserved = "SELECT count(*) FROM quota_entries WHERE state = 'reserved'"
    for verb, size in (("scale", {"newMemoryMb": 1024}), ("destroy", {})):
        job = stack.done(f"/internal/cloudpods/9231/{verb}", tenantId=TENANT, backupFirst=True, **size)
        first = stack.finished(job["afterJobId"])
        assert (job["status"], job["tries"]) == ("failed", 0)
        assert (first["type"], first["status"], first["tries"]) == ("BACKUP", "failed", 1)
        assert "no space on vzdump-backups" in first["error"]
        assert first["id"] in job["error"]
        kept = pod(stack, 9231)
        assert (kept["status"], kept["memoryMb"], kept["powerState"], kept["error"]) == ("active", 512, "running", None)
        assert (sql(share), sql(reserved)) == ([(512,)], [(0,)])
    assert actions(stack, 9231)["DESTROY_NOT_BEGUN"] == 1
    assert stack.runs(9231)

    stack.switch("reset")
    scaled = stack.done("/internal/cloudpods/9231/scale", tenantId=TENANT, backupFirst=True, newMemoryMb=1024)
    assert scaled["status"] == "success", scaled["error"]
    assert stack.finished(scaled["afterJobId"])["finishedAt"] <= scaled["startedAt"]
    assert pod(stack, 9231)["memoryMb"] == 1024

    url = f"{stack.url}/internal/cloudpods/9231"
    assert stack.session.put(url, json={"protected": True}, timeout=20).status_code == 200
    refused = stack.post("/internal/cloudpods/9231/destroy", tenantId=TENANT, backupFirst=True)
    assert (refused.status_code, refused.json()["code"]) == (409, "pod_protected")
    assert stack.session.put(url, json={"protected": False}, timeout=20).status_code == 200
    destroyed = stack.done("/internal/cloudpods/9231/destroy", tenantId=TENANT, backupFirst=True)
    assert destroyed["status"] == "success", destroyed["error"]
    gone = pod(stack, 9231)
    assert gone["status"] == "deleted"
    archives = stack.get(f"/internal/cloudpods/{gone['id']}/backups")["items"]
    assert {archive["jobId"] for archive in archives} == {scaled["afterJobId"], destroyed["afterJobId"]}
    assert not (stack.lab / "etc/pve/lxc/9231.conf").exists()


def test_many_orders_are_followed_to_their_end(stack):
    made(stack, 9241)
    new = {"hostname": "of-many", "cores": 1, "memoryMb": 512, "node": "lab1"}
    batch, jobs = bulk(stack, {**new, "vmid": 9242}, {**new}, {"action": "destroy", "vmid": 9241, "backupFirst": True})
    assert [job["status"] for job in jobs] == ["success"] * 3
    seen = stack.get(f"/internal/batches/{batch}")
    assert (seen["jobs"], seen["counts"]["success"], seen["done"]) == (4, 4, True)
    kinds = Counter(job["type"] for job in stack.get(f"/internal/batches/{batch}/jobs")["items"])
    assert kinds == {"CREATE": 2, "BACKUP": 1, "DESTROY": 1}
    states = [pod(stack, jobs[number]["cloudPodId"])["status"] for number in range(3)]
    assert states == ["active", "active", "deleted"]
    theirs = ("--tenant", OTHER_TENANT, "--role", "owner", "--user", "user-9")
    bearer = {"Authorization": f"Bearer {stack.cloudpods('token', 'create', 'theirs', *theirs).strip()}"}
    assert requests.get(f"{stack.url}/internal/batches/{batch}", headers=bearer, timeout=20).status_code == 404


def keyed(stack, key, **order):
    """Send an order with a key over a connection of its own; return the answer, None when there was none."""
    headers = {"Authorization": stack.session.headers["Authorization"], "Idempotency-Key": key}
    try:
        return requests.post(f"{stack.url}/internal/cloudpods", json=order, headers=headers, timeout=20)
    except requests.ConnectionError:
        return None


def test_an_order_with_a_key_is_done_once_over_a_killed_api(stack, sql):
    order = {"tenantId": TENANT, "hostname": "only-once", "cores": 1, "memoryMb": 512, "node": "lab1"}
    first = keyed(stack, "before-the-kill", **order)
    stack.kill("gunicorn")
    wait_until(stack.healthy, "the API is well again")
    again = keyed(stack, "before-the-kill", **order)
    assert (again.status_code, again.headers["Idempotency-Replayed"]) == (202, "true")
    assert again.json() == first.json()

    # Killed while an order is under way: it waits for a lock that somebody else holds.
    second = {**order, "hostname": "cut-off"}
    sql("BEGIN")
    sql("SELECT 1 FROM tenant_quotas WHERE tenant_id = %s FOR UPDATE", TENANT)
    lost = threading.Thread(target=keyed, args=(stack, "under-the-kill"), kwargs=second)
    lost.start()
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    wait_until(lambda: sql(waiting)[0][0], "the order waits")
    stack.kill("gunicorn")
    lost.join()
    sql("ROLLBACK")
    wait_until(stack.healthy, "the API is well again")
    answers = []

    def taken():
        # The database may still be ending what the killed process had begun.
        answers.append(keyed(stack, "under-the-kill", **second))
        return answers[-1].status_code != 409

    wait_until(taken, "the order is taken")
    assert answers[-1].status_code == 202, answers[-1].text
    for answer in (first, answers[-1]):
        assert stack.finished(answer.json()["job"]["id"])["status"] == "success"
    names = sql("SELECT hostname FROM cloud_pods WHERE hostname IN ('only-once', 'cut-off') ORDER BY hostname")
    assert names == [("cut-off",), ("only-once",)]


def test_who_asked_and_which_request_follow_a_job_to_its_end(stack):
    order = {"tenantId": TENANT, "hostname": "traced", "cores": 1, "memoryMb": 512, "node": "lab1", "vmid": 9251}
    headers = {"X-Request-Id": "panel-7f3a", "X-Acting-User": "user-7"}
    answer = stack.session.post(f"{stack.url}/internal/cloudpods", json=order, headers=headers, timeout=20)
    assert (answer.status_code, answer.headers["X-Request-Id"]) == (202, "panel-7f3a")
    job = stack.finished(answer.json()["job"]["id"])
    assert (job["status"], job["requestedBy"], job["requestId"]) == ("success", "user-7", "panel-7f3a")
    events = stack.get(f"/internal/jobs/{job['id']}/events")["items"]
    assert [event["data"]["action"] for event in events][-1] == "CREATED"
    assert {(event["actor"], event["requestId"]) for event in events} == {("user-7", "panel-7f3a")}
    assert events[0]["tokenId"]

    said = (stack.state_dir.parent / "said").read_text()
    # `up` itself speaks to a person.
    lines = [json.loads(line) for line in said.splitlines() if not line.startswith("CloudPods is up at ")]
    mine = [line for line in lines if line.get("request_id") == "panel-7f3a"]
    (request,) = [line for line in mine if line["event"] == "request"]
    assert (request["route"], request["status"], request["method"]) == ("/internal/cloudpods", 202, "POST")
    of_job = [line for line in mine if line.get("job_id") == job["id"]]
    assert any(line["logger"].startswith("shim.worker") for line in of_job)
    assert {line["attempt"] for line in of_job} == {1}
    secret = str(stack.session.headers["Authorization"]).split()[1]
    assert secret not in said
    assert secret.rpartition("_")[2] not in said


def test_figures_checks_and_counts_of_a_running_stack(stack):
    def figures():
        # A connection of its own each time: another process may answer.
        text = requests.get(f"{stack.url}/metrics", headers=dict(stack.session.headers), timeout=20).text
        return {
            (sample.name, *sorted(sample.labels.values())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    plans = ("cloudpods_http_request_duration_seconds_count", "/internal/plans", "2xx", "GET")
    before = figures().get(plans, 0)
    for _ in range(40):
        requests.get(f"{stack.url}/internal/plans", headers=dict(stack.session.headers), timeout=20).raise_for_status()
    assert len(stack.processes(of="gunicorn")) == 3
    assert [figures()[plans] - before for _ in range(6)] == [40] * 6
    assert figures()["cloudpods_jobs", "NODE_SYNC", "success"] >= 2

    checked = json.loads(stack.cloudpods("check", "--json"))
    assert [each for each in checked if not each["ok"]] == []
    assert {"node lab1 lets us call every script", "node lab2 lets us call every script"} <= {each["check"] for each in checked}
    assert stack.cloudpods("quota", "recount", "--nodes", "--dry-run").strip().endswith(", 0 differences")


def test_a_pod_that_the_cluster_moved_is_followed_and_a_copy_is_not(stack, sql):
    here, there = stack.lab, lab2(stack)
    made(stack, 9271, 9272)

    def carry(vmid, *, copy=False):
        """Take a pod's volume and conf to lab2."""
        volume = f"clients/main/subvol-{vmid}-disk-0"
        (shutil.copytree if copy else shutil.move)(here / volume, there / volume)
        files = here / f"etc/pve/nodes/lab1/lxc/{vmid}.conf", there / f"etc/pve/nodes/lab2/lxc/{vmid}.conf"
        (shutil.copy if copy else shutil.move)(*files)
        users = there / "etc/pve/user.cfg"
        users.write_text(users.read_text().replace("pods of clients:", f"pods of clients:{vmid},").replace(",:", ":"))

    # Two nodes of no common cluster: what bears the pod's name may be a copy, and both look at it.
    carry(9272, copy=True)
    assert look(stack, sql, "lab2")["duplicate", 9272]["mend"] is None
    assert look(stack, sql, "lab1") == {}
    assert pod(stack, 9272)["node"] == "lab1"
    on_node(there, "pct", "destroy", "9272", "--purge", "1")

    # One cluster has one file system for its confs.
    for lab in (here, there):
        (lab / "etc/pve/corosync.conf").write_text(COROSYNC)
    shutil.rmtree(there / "etc/pve/nodes/lab1", ignore_errors=True)
    shutil.move(there / "etc/pve/nodes/lab2", here / "etc/pve/nodes/lab2")
    (there / "etc/pve/nodes").rmdir()
    (there / "etc/pve/nodes").symlink_to(here / "etc/pve/nodes")
    on_node(here, "pct", "stop", "9271")
    carry(9271)
    on_node(there, "pct", "start", "9271")

    (moved,) = look(stack, sql, "lab1").values()
    assert (moved["kind"], moved["node"], moved["mend"]) == ("moved", {"node": "lab2"}, None)
    (moved,) = look(stack, sql, "lab2").values()
    assert (moved["kind"], moved["mend"]) == ("moved", {"node": "lab2"})
    assert look(stack, sql, "lab1") == {}
    assert actions(stack, 9271)["MOVED"] == 1
    shares = "SELECT n.name FROM cloud_pod_allocations a JOIN cloud_pod_nodes n ON n.id = a.node_id WHERE a.cloud_pod_id = %s"
    followed = pod(stack, 9271)
    assert (followed["node"], sql(shares, followed["id"])) == ("lab2", [("lab2",)])

    scaled = stack.done("/internal/cloudpods/9271/scale", tenantId=TENANT, newMemoryMb=1024)
    assert scaled["status"] == "success", scaled["error"]
    assert "memory: 1024" in conf(there, 9271)
    destroyed = stack.done("/internal/cloudpods/9271/destroy", tenantId=TENANT)
    assert destroyed["status"] == "success", destroyed["error"]
    assert not (there / "etc/pve/lxc/9271.conf").exists()
    assert "0 differences" in stack.cloudpods("quota", "recount")
