"""Destroy, backup and scale, by their own routes and by the panel's `actions`: what is taken, what is refused."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg2
import pytest

from shim.worker.playbook import Outcome

TENANT, OTHER_TENANT = "TENANT-123", "TENANT-456"
SCALE = {"newCores": 4, "newMemoryMb": 4096}
VERBS = [("destroy", "DESTROY", {}), ("backup", "BACKUP", {}), ("scale", "SCALE", SCALE)]


@pytest.fixture(params=["own route", "actions"])
def change(request, api):
    """Return a way to order a change: by the verb's own route, or by the panel's one for all."""

    def order(reference, verb, body, prefix="/api"):
        if request.param == "actions" and isinstance(body, dict):
            return api.simulate_post(f"{prefix}/cloudpods/{reference}/actions", json={"action": verb, **body})
        return api.simulate_post(f"{prefix}/cloudpods/{reference}/{verb}", json=body)

    return order


@pytest.mark.parametrize("prefix", ["/internal", "/api"])
@pytest.mark.parametrize(("verb", "type", "fields"), VERBS)
def test_a_change_is_accepted_under_both_prefixes(change, rows, sql, prefix, verb, type, fields):
    pod = rows.pod(vmid=9101)
    answer = change(9101, verb, {"tenantId": TENANT, "reason": "user request", **fields}, prefix)
    assert answer.status_code == 202
    job = answer.json["job"]
    assert answer.headers["location"] == f"{prefix}/jobs/{job['id']}"
    assert (job["type"], job["status"], job["cloudPodId"]) == (type, "queued", pod)
    assert job["payload"].items() >= {"vmid": 9101, "tenantId": TENANT, "reason": "user request", **fields}.items()
    assert answer.json["cloudPod"]["status"] == ("deleting" if verb == "destroy" else "active")
    reserved = [("QUOTA_RESERVED", job["id"])] if type == "SCALE" else []
    assert sql("SELECT data->>'action', job_id FROM cloud_pod_events ORDER BY seq") == [("queued", job["id"]), *reserved]


def test_a_pod_is_found_by_its_id_too(change, rows):
    pod = rows.pod(vmid=9101)
    assert change(pod, "backup", {"tenantId": TENANT}).json["cloudPod"]["vmid"] == 9101


def test_a_backup_is_a_snapshot_unless_another_mode_is_asked_for(change, rows):
    rows.pod(vmid=9101)
    modes = [{}, {"mode": "suspend"}, {"mode": "stop"}, {"mode": "snapshot"}]
    asked = [change(9101, "backup", {"tenantId": TENANT, **mode}).json["job"]["payload"]["mode"] for mode in modes]
    assert asked == ["snapshot", "suspend", "stop", "snapshot"]


def test_scale_takes_the_pods_own_names_of_the_fields(change, rows):
    rows.pod(vmid=9101)
    payload = change(9101, "scale", {"tenantId": TENANT, "cores": 4, "memoryMb": 4096}).json["job"]["payload"]
    assert (payload["newCores"], payload["newMemoryMb"]) == (4, 4096)


def test_scale_under_two_names_at_once_is_refused(change, rows, assert_problem):
    rows.pod(vmid=9101)
    assert_problem(change(9101, "scale", {"tenantId": TENANT, **SCALE, "cores": 1}), 422, "invalid_request", field="cores")


@pytest.mark.parametrize(("verb", "type", "fields"), VERBS)
def test_another_tenants_pod_is_not_found_and_untouched(change, rows, sql, assert_problem, verb, type, fields):
    pod = rows.pod(vmid=9101)
    before = sql.row("cloud_pods", pod)
    for reference in (9101, pod):
        assert_problem(change(reference, verb, {"tenantId": OTHER_TENANT, **fields}), 404, "cloudpod_not_found")
    assert sql.row("cloud_pods", pod) == before
    assert sql.counts()["cloud_pod_jobs"] == 0


def test_not_found_reads_the_same_for_another_tenants_pod_and_for_none(change, rows):
    rows.pod(vmid=9101)
    body = {"tenantId": OTHER_TENANT}
    there, absent = (change(vmid, "backup", body).json for vmid in (9101, 9102))
    assert {k: there[k] for k in ("status", "code", "title")} == {k: absent[k] for k in ("status", "code", "title")}


BAD = [
    ("destroy", {"tenantId": "a b"}, "tenantId", "letters"),
    ("destroy", {"tenantId": 5}, "tenantId", "string"),
    ("destroy", {"tenantId": TENANT, "force": True}, "force", "unknown field"),
    ("destroy", {"tenantId": TENANT, "reason": 5}, "reason", "string"),
    ("destroy", {"tenantId": TENANT, "reason": "x" * 501}, "reason", "500"),
    ("destroy", {"tenantId": TENANT, "reason": "a\x00b"}, "reason", "pattern"),
    ("destroy", {"tenantId": TENANT, "reason": "a\nb\x00"}, "reason", "pattern"),
    ("destroy", {"tenantId": TENANT, "vmid": 9101}, "vmid", "unknown field"),
    ("backup", {"tenantId": TENANT, "mode": "live"}, "mode", "snapshot"),
    ("backup", {"tenantId": TENANT, "mode": ""}, "mode", "snapshot"),
    ("backup", {"tenantId": TENANT, "mode": None}, "mode", "snapshot"),
    ("backup", {"tenantId": TENANT, "newCores": 1}, "newCores", "unknown field"),
    ("scale", {"tenantId": TENANT}, "newCores", "required"),
    ("scale", {"tenantId": TENANT, "force": True}, "newMemoryMb", "required"),
    ("scale", {"tenantId": TENANT, **SCALE, "swapMb": -1}, "swapMb", "greater"),
    ("scale", {"tenantId": TENANT, **SCALE, "force": 1}, "force", "boolean"),
    ("scale", {"tenantId": TENANT, **SCALE, "backupFirst": "yes"}, "backupFirst", "boolean"),
    ("destroy", {"tenantId": TENANT, "backupFirst": None}, "backupFirst", "boolean"),
    ("scale", {"tenantId": TENANT, "newCores": 0, "newMemoryMb": 4096}, "newCores", "greater"),
    ("scale", {"tenantId": TENANT, "newCores": 129, "newMemoryMb": 4096}, "newCores", "less"),
    ("scale", {"tenantId": TENANT, "newCores": "4", "newMemoryMb": 4096}, "newCores", "integer"),
    ("scale", {"tenantId": TENANT, "newCores": 4, "newMemoryMb": 8}, "newMemoryMb", "greater"),
    ("scale", {"tenantId": TENANT, "newCores": 4, "newMemoryMb": 4096.5}, "newMemoryMb", "integer"),
    ("scale", {"tenantId": TENANT, **SCALE, "newSwapMb": 1}, "newSwapMb", "unknown field"),
]


@pytest.mark.parametrize(("verb", "body", "field", "rule"), BAD, ids=[f"{n}-{c[0]}-{c[2]}" for n, c in enumerate(BAD)])
def test_a_bad_change_is_refused_by_field_and_rule_and_writes_nothing(
    change, rows, sql, assert_problem, verb, body, field, rule
):
    pod = rows.pod(vmid=9101)
    before = (sql.row("cloud_pods", pod), sql.counts())
    assert_problem(change(9101, verb, body), 422, "invalid_request", field=field, rule=rule)
    assert (sql.row("cloud_pods", pod), sql.counts()) == before


@pytest.mark.parametrize("verb", ["destroy", "backup", "scale"])
@pytest.mark.parametrize("body", [None, {}], ids=["no body", "empty body"])
def test_the_own_routes_need_a_tenant(api, rows, assert_problem, verb, body):
    rows.pod(vmid=9101)
    answer = api.simulate_post(f"/internal/cloudpods/9101/{verb}", json=body)
    assert_problem(answer, 422, "invalid_request", field="tenantId", rule="required")


def test_actions_takes_the_pods_own_tenant_when_none_is_named(api, rows):
    rows.pod(vmid=9101)
    answer = api.simulate_post("/api/cloudpods/9101/actions", json={"action": "backup"})
    assert (answer.status_code, answer.json["job"]["tenantId"]) == (202, TENANT)


@pytest.mark.parametrize("action", [None, "", "create", "Backup", 5, ["backup"], {"backup": 1}, True])
def test_an_action_that_is_none_is_refused(api, rows, sql, assert_problem, action):
    rows.pod(vmid=9101)
    answer = api.simulate_post("/api/cloudpods/9101/actions", json={"action": action, "tenantId": TENANT})
    assert_problem(answer, 422, "invalid_request", field="action", rule="destroy, backup, scale")
    assert sql.counts()["cloud_pod_jobs"] == 0


UNKNOWN = [
    "9999",
    "99",
    "0",
    "1234567890",
    "9" * 40,
    "00",
    "-9101",
    "9101.0",
    "no-such-id",
    "٩١٠١",
    "a%20b",
    "9101%00",
    "%00",
    "²",
]


@pytest.mark.parametrize("reference", UNKNOWN)
def test_a_change_of_an_unknown_pod_is_not_found(change, rows, sql, assert_problem, reference):
    rows.pod(vmid=9101)
    assert_problem(change(reference, "backup", {"tenantId": TENANT}), 404, "cloudpod_not_found")
    assert sql.counts()["cloud_pod_jobs"] == 0


def test_an_id_with_nul_in_it_is_not_that_id(change, rows, assert_problem):
    pod = rows.pod()
    assert_problem(change(f"{pod[:4]}%00{pod[4:]}", "backup", {"tenantId": TENANT}), 404, "cloudpod_not_found")


@pytest.mark.parametrize("status", ["provisioning", "failed", "deleting", "deleted"])
@pytest.mark.parametrize(("verb", "fields"), [("backup", {}), ("scale", SCALE)])
def test_only_an_active_pod_is_backed_up_or_scaled(change, rows, sql, assert_problem, verb, fields, status):
    rows.pod(vmid=9101, status=status)
    answer = change(9101, verb, {"tenantId": TENANT, **fields})
    assert_problem(answer, 409, "cloudpod_not_active")
    assert answer.json["cloudPodStatus"] == status
    assert sql.counts()["cloud_pod_jobs"] == 0


# What an active one is not whole for it is so while it stands.
@pytest.mark.parametrize(
    ("status", "told"), [("provisioning", None), ("active", "an old one"), ("failed", None), ("deleting", None)]
)
def test_a_pod_in_any_state_but_deleted_can_be_destroyed(change, rows, status, told):
    rows.pod(vmid=9101, status=status, error="an old one")
    pod = change(9101, "destroy", {"tenantId": TENANT}).json["cloudPod"]
    assert (pod["status"], pod["error"]) == ("deleting", told)


def test_a_deleted_pod_is_not_destroyed_again(change, rows, sql, assert_problem):
    rows.pod(vmid=9101, status="deleted")
    assert_problem(change(9101, "destroy", {"tenantId": TENANT}), 409, "cloudpod_deleted")
    assert sql.counts()["cloud_pod_jobs"] == 0


@pytest.mark.parametrize("status", ["queued", "running"])
def test_a_second_destroy_names_the_first_ones_job(change, rows, sql, assert_problem, status):
    pod = rows.pod(vmid=9101, status="deleting")
    held = {"status": status, "lease_until": sql.value("SELECT now()")} if status == "running" else {}
    first = rows.job("DESTROY", pod=pod, **held)
    answer = change(9101, "destroy", {"tenantId": TENANT})
    assert_problem(answer, 409, "job_pending")
    assert answer.json["jobId"] == first


def test_a_failed_destroy_can_be_asked_for_again(change, rows):
    pod = rows.pod(vmid=9101, status="deleting", error="node said no")
    rows.job("DESTROY", pod=pod, status="failed")
    assert change(9101, "destroy", {"tenantId": TENANT}).status_code == 202


def test_of_two_pods_with_one_vmid_the_living_one_is_meant(change, rows):
    rows.pod(vmid=9101, status="deleted", created_at="2030-01-01")
    living = rows.pod(vmid=9101, status="active", created_at="2020-01-01")
    assert change(9101, "backup", {"tenantId": TENANT}).json["cloudPod"]["id"] == living


def test_a_failed_pod_whose_vmid_lives_on_in_another_is_not_destroyed(change, rows, sql, assert_problem):
    failed = rows.pod(vmid=9101, status="failed", allocation=False)
    rows.pod(vmid=9101, status="active")
    assert_problem(change(failed, "destroy", {"tenantId": TENANT}), 409)
    assert sql.row("cloud_pods", failed)["status"] == "failed"


def test_a_failed_pod_whose_address_lives_on_in_another_is_not_destroyed(change, rows, sql, assert_problem):
    failed = rows.pod(vmid=9101, status="failed", ip="10.1.10.91", allocation=False)
    rows.pod(vmid=9102, status="active", ip="10.1.10.91")
    answer = change(failed, "destroy", {"tenantId": TENANT})
    assert answer.status_code < 500, answer.text


@pytest.mark.parametrize(("lost", "status", "ip"), [("vmid", "failed", "10.1.10.91"), ("ip", "deleting", "")])
def test_a_failed_pod_of_which_something_is_left_is_destroyed_whoever_has_its_place(
    change, rows, sql, finish, lost, status, ip
):
    failed = rows.pod(vmid=9101, status="failed", ip="10.1.10.91")
    other = {"vmid": {"vmid": 9101, "ip": "10.1.10.92"}, "ip": {"vmid": 9102, "ip": "10.1.10.91"}}[lost]
    living = rows.pod(tenant_id=OTHER_TENANT, node="lab2", **other)
    answer = change(failed, "destroy", {"tenantId": TENANT})
    assert answer.status_code == 202, answer.text
    assert (answer.json["cloudPod"]["status"], answer.json["cloudPod"]["ip"]) == (status, ip)
    assert finish(answer, Outcome({"changed": True}, None)).items() >= {"vmid": 9101, "pod_id": failed}.items()
    assert (sql.row("cloud_pods", failed)["status"], sql.row("cloud_pods", living)["status"]) == ("deleted", "active")
    assert sql.value("SELECT used_cloud_pods FROM tenant_quotas WHERE tenant_id = %s", TENANT) == 0


@pytest.mark.parametrize("place", [{"vmid": 9101}, {"ip": "10.1.10.91"}])
def test_what_a_failed_pod_left_keeps_its_place(api, rows, assert_problem, place):
    rows.pod(vmid=9101, status="failed", ip="10.1.10.91")
    new = {"tenantId": OTHER_TENANT, "hostname": "h", "cores": 1, "memoryMb": 64, "node": "lab1", **place}
    assert_problem(api.simulate_post("/internal/cloudpods", json=new), 409, f"{next(iter(place))}_taken")


@pytest.mark.parametrize(("verb", "type", "fields"), VERBS)
def test_an_order_that_waits_for_a_pod_that_moves_meanwhile_finds_it(api, rows, sql, servers, verb, type, fields, eventually):
    pod = rows.pod(vmid=9101)
    with closing(psycopg2.connect(servers.database_url)) as mover, ThreadPoolExecutor(1) as thread:
        cursor = mover.cursor()
        cursor.execute("UPDATE cloud_pods SET node_id = %s WHERE id = %s", (rows.node_id("lab2"), pod))
        order = thread.submit(api.simulate_post, f"/internal/cloudpods/9101/{verb}", json={"tenantId": TENANT, **fields})
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        eventually(lambda: sql.value(waiting) == 1)
        mover.commit()
        answer = order.result()
    assert answer.status_code == 202, answer.text
    assert (answer.json["job"]["nodeId"], answer.json["cloudPod"]["node"]) == (rows.node_id("lab2"), "lab2")


def test_changes_of_one_pod_are_numbered_in_the_order_they_were_asked(change, rows, sql):
    rows.pod(vmid=9101)
    asked = [change(9101, verb, {"tenantId": TENANT, **f}).json["job"]["id"] for verb, _, f in reversed(VERBS)]
    assert [row[0] for row in sql("SELECT id FROM cloud_pod_jobs ORDER BY created_at, id")] == asked


def test_a_destroy_cancels_the_scheduled_backup_that_nobody_began_and_no_other(api, rows, sql):
    pod, other = rows.pod(vmid=9101), rows.pod(vmid=9102)
    by_hand = rows.job("BACKUP", pod=pod)
    scheduled = rows.job("BACKUP", pod=pod, scheduled=True)
    lost = rows.job("BACKUP", pod=pod, scheduled=True, lost=True)
    others = rows.job("BACKUP", pod=other, scheduled=True)
    assert api.simulate_post("/internal/cloudpods/9101/destroy", json={"tenantId": TENANT}).status_code == 202
    status = dict(sql("SELECT id, status FROM cloud_pod_jobs WHERE type = 'BACKUP'"))
    assert status == {by_hand: "queued", scheduled: "cancelled", lost: "queued", others: "queued"}
    assert sql.row("cloud_pod_jobs", scheduled)["error"] == "its pod is being destroyed"


def test_a_pod_has_no_more_than_twenty_unfinished_jobs(change, api, rows, sql, assert_problem):
    pod = rows.pod(vmid=9101)
    rows.pod(vmid=9102)
    for _ in range(20):
        rows.job("BACKUP", pod=pod)
    before = sql.counts()
    for verb, fields in (("backup", {}), ("scale", SCALE)):
        assert_problem(change(9101, verb, {"tenantId": TENANT, **fields}), 409, "too_many_jobs")
    rehearsal = api.simulate_post("/internal/cloudpods/9101/destroy", params={"dryRun": "1"}, json={"tenantId": TENANT})
    assert_problem(rehearsal, 409, "too_many_jobs")
    assert sql.counts() == before
    assert change(9102, "backup", {"tenantId": TENANT}).status_code == 202
    sql(
        "UPDATE cloud_pod_jobs SET status = 'success' WHERE id = (SELECT min(id) FROM cloud_pod_jobs WHERE cloud_pod_id = %s)",
        pod,
    )
    assert change(9101, "backup", {"tenantId": TENANT}).status_code == 202
    assert change(9101, "destroy", {"tenantId": TENANT}).status_code == 202
