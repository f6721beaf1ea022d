"""Containers that are no pods of ours: seen by a look at their node, taken over one by one, refused where they must be."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg2
import pytest
from click.testing import CliRunner

from shim import db
from shim.cli import main
from shim.cloudpods import adopt, adopt_by_hand, scan
from shim.cloudpods.schemas import AdoptPod
from shim.jobs.models import CloudPodJob
from shim.worker import outcome
from shim.worker.playbook import Outcome

TENANT, OTHER_TENANT = "TENANT-123", "TENANT-456"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ7p0q0Yk3oXv0m2bq1WkYw0Q5y5l6f7h8j9k0l1m2n3"


def container(vmid=5001, **other):
    """Return what `cloudpod_info` says of a container nobody made through us."""
    facts = {"hostname": "legacy", "ip": "10.1.10.61", "cores": 2, "memory_mb": 1024, "swap_mb": 256, "disk_gb": 12}
    where = {"storage": "local-zfs", "bridge": "vmbr0", "host_key": KEY, "owner": None}
    state = {"exists": True, "in_pool": True, "node": "lab1", "status": "running", "unfinished": False, "busy": None}
    return {"vmid": vmid, **state, **facts, **where, **other}


@pytest.fixture
def looked(rows):
    """Return a way to have the node lab1 looked at, with these containers there."""

    def look(*pods):
        with db.session():
            job = rows.running("POD_SCAN", tenant_id=None, payload={})
            outcome.write(job, Outcome({"lab1": {"node": "lab1", "pods": list(pods)}}, None))
            return CloudPodJob.find(job.id)

    return look


@pytest.fixture
def ask(api):
    """Return a way to order an adoption by HTTP."""

    def order(vmid=5001, tenant=TENANT, node="lab1", prefix="/internal", **other):
        return api.simulate_post(f"{prefix}/nodes/{node}/adopt", json={"tenantId": tenant, "vmid": vmid, **other})

    return order


@pytest.fixture
def ended(sql):
    """Return a way to end an adoption, well or badly; it gives the pod's row."""

    def end(answer, result=None, failure=None):
        job_id = answer.json["job"]["id"]
        held = "status = 'running', attempt = attempt + 1, tries = 1, lease_until = now() + interval '1 hour'"
        sql(f"UPDATE cloud_pod_jobs SET {held} WHERE id = %s", job_id)
        with db.session():
            outcome.write(CloudPodJob.find(job_id), Outcome(result, failure))
        return sql.row("cloud_pods", answer.json["cloudPod"]["id"])

    return end


def adopted(**other):
    seen = container(**other)
    return {"node": "lab1", "vmid": seen["vmid"], "changed": True, "cloudpod": seen}


FAILED = {"msg": "container 5001 does not belong to tenant TENANT-123", "retryable": False, "left_behind": "nothing"}


@pytest.mark.parametrize("prefix", ["/internal", "/api"])
def test_what_the_last_look_showed_is_listed_without_live_pods(api, looked, rows, prefix):
    rows.pod(vmid=5002)
    rows.pod(vmid=5003, status="deleted")
    assert api.simulate_get(f"{prefix}/nodes/lab1/foreign").json == {"node": "lab1", "seenAt": None, "items": []}
    outside = {"vmid": 100, "exists": True, "in_pool": False, "node": "lab1", "busy": None, "unfinished": False}
    looked(outside, {"vmid": 5005, "exists": False}, container(5001), container(5002), container(5003), container(5004))
    rows.pod(vmid=5004)
    answer = api.simulate_get(f"{prefix}/nodes/lab1/foreign").json
    assert [row["vmid"] for row in answer["items"]] == [5001, 5003]
    assert answer["seenAt"]
    assert answer["items"][0].items() >= {"hostname": "legacy", "memoryMb": 1024, "diskGb": 12, "owner": None}.items()


def test_a_look_is_queued_once(api, sql):
    first, second = (api.simulate_get("/internal/nodes/lab1/foreign", query_string="refresh=1").json["job"] for _ in range(2))
    assert first["id"] == second["id"]
    assert (first["type"], first["tenantId"], first["cloudPodId"]) == ("POD_SCAN", None, None)


@pytest.mark.parametrize("node", ["lab9", "%00"])
def test_an_unknown_node_is_not_found(api, ask, assert_problem, node):
    assert_problem(api.simulate_get(f"/internal/nodes/{node}/foreign"), 404, "node_not_found")
    assert_problem(ask(node=node), 404, "node_not_found")


def test_an_adopted_container_is_a_pod_once_the_node_says_so(ask, looked, ended, sql, rows):
    looked(container())
    answer = ask(requestedBy="admin")
    assert answer.status_code == 202
    pod = sql.row("cloud_pods", answer.json["cloudPod"]["id"])
    assert (pod["status"], pod["vmid"], pod["tenant_id"], pod["ip"]) == ("provisioning", 5001, TENANT, "10.1.10.61")
    with db.session():
        job = CloudPodJob.find(answer.json["job"]["id"])
        assert adopt.variables(job) == {"vmid": 5001, "tenant_id": TENANT, "pod_id": pod["id"], "run_id": f"{job.id}.0"}
    pod = ended(answer, adopted(memory_mb=4096))
    assert (pod["status"], pod["power_state"], pod["wanted_power"], pod["host_key"]) == ("active", "running", "running", KEY)
    facts = {"hostname": "legacy", "cores": 2, "memory_mb": 4096, "swap_mb": 256, "disk_gb": 12, "storage": "local-zfs"}
    assert pod.items() >= facts.items()
    assert sql("SELECT used_cpu_cores, used_memory_mb, used_disk_gb FROM cloud_pod_allocations") == [(2, 4096, 12)]
    assert ("STATE_CHANGE", "ADOPTED") in sql("SELECT type, data->>'action' FROM cloud_pod_events")


def test_a_stopped_container_is_adopted_as_one_that_is_to_stay_stopped(ask, looked, ended):
    looked(container(status="stopped"))
    pod = ended(ask(), adopted(status="stopped"))
    assert (pod["power_state"], pod["wanted_power"]) == ("stopped", "stopped")


def test_a_container_without_limits_or_address_is_adopted(ask, looked, ended):
    bare = {"ip": None, "cores": None, "disk_gb": None, "hostname": None, "host_key": None}
    looked(container(**bare))
    pod = ended(ask(), adopted(**bare))
    assert (pod["status"], pod["ip"], pod["cores"]) == ("active", "", 1)


def test_a_failed_adoption_leaves_no_live_row_and_can_be_repeated(ask, looked, ended, sql):
    looked(container())
    pod = ended(ask(), failure=FAILED)
    assert (pod["status"], pod["error"]) == ("failed", FAILED["msg"])
    assert sql.counts()["cloud_pod_allocations"] == 0
    assert ended(ask(), adopted())["status"] == "active"


def test_an_adoption_whose_outcome_was_lost_is_repeated_as_the_same_pod(ask, looked, ended, sql):
    looked(container())
    first = ended(ask(), failure=FAILED)
    looked(container(owner={"tenant": TENANT, "pod": first["id"]}))
    again = ended(ask(), adopted(owner={"tenant": TENANT, "pod": first["id"]}))
    assert (again["id"], again["status"], again["error"]) == (first["id"], "active", None)
    assert sql.counts()["cloud_pods"] == 1


def test_a_pod_whose_row_was_lost_comes_back_under_its_id(ask, looked, ended):
    looked(container(owner={"tenant": TENANT, "pod": "pod-of-old"}))
    assert ended(ask(), adopted())["id"] == "pod-of-old"


def refused(looked, ask, sql, assert_problem, status, code, *, seen=None, **order):
    looked(*([seen] if seen else []))
    before = sql.counts()
    assert_problem(ask(**order), status, code)
    assert sql.counts() == before


CONTAINERS = [
    (None, 404, "container_not_found"),
    (container(in_pool=False), 404, "container_not_found"),
    (container(unfinished=True), 409, "container_unfinished"),
    (container(owner={"tenant": OTHER_TENANT, "pod": None}), 409, "owned_by_another"),
    (container(owner={"tenant": OTHER_TENANT, "pod": "x"}), 409, "owned_by_another"),
    (container(owner={"tenant": TENANT, "pod": "-x"}), 409, "bad_marker"),
]


@pytest.mark.parametrize(("seen", "status", "code"), CONTAINERS)
def test_a_container_that_is_not_to_be_had_is_refused_and_nothing_is_written(
    looked, ask, sql, assert_problem, seen, status, code
):
    refused(looked, ask, sql, assert_problem, status, code, seen=seen)


def test_an_unknown_tenant_is_refused(looked, ask, sql, assert_problem):
    refused(looked, ask, sql, assert_problem, 404, "tenant_not_found", seen=container(), tenant="TENANT-999")


def test_a_live_vmid_and_a_live_address_are_refused(looked, ask, sql, rows, assert_problem):
    rows.pod(vmid=5001, node="lab2")
    refused(looked, ask, sql, assert_problem, 409, "vmid_taken", seen=container())
    rows.pod(vmid=9101, ip="10.1.10.61", node="lab2")
    refused(looked, ask, sql, assert_problem, 409, "ip_taken", seen=container(5002), vmid=5002)


@pytest.mark.parametrize("other", [{"status": "active"}, {"tenant_id": OTHER_TENANT}, {"vmid": 9102}])
def test_a_marker_copied_from_another_pod_is_refused(looked, ask, sql, rows, assert_problem, other):
    earlier = rows.pod(**{"vmid": 5001, "status": "deleted", **other, **({"vmid": 9101} if "status" in other else {})})
    seen = container(owner={"tenant": TENANT, "pod": earlier})
    refused(looked, ask, sql, assert_problem, 409, "bad_marker", seen=seen)


@pytest.mark.parametrize("body", [{"vmid": 99}, {"vmid": "5001"}, {"vmid": 5001, "hostname": "x"}, {"vmid": None}])
def test_a_bad_body_is_refused(api, assert_problem, body):
    answer = api.simulate_post("/internal/nodes/lab1/adopt", json={"tenantId": TENANT, **body})
    assert_problem(answer, 422, "invalid_request")


@pytest.mark.parametrize("result", [{"lab2": {}}, {"lab1": {}}, {"lab1": {"pods": None}}])
def test_a_look_that_says_nothing_fails_and_keeps_what_was_known(api, looked, rows, sql, result):
    looked(container())
    with db.session():
        job = rows.running("POD_SCAN", tenant_id=None, payload={})
        outcome.write(job, Outcome(result, None))
    assert sql.row("cloud_pod_jobs", job.id)["status"] == "failed"
    assert len(api.simulate_get("/internal/nodes/lab1/foreign").json["items"]) == 1


@pytest.mark.parametrize("vmid", [9777, 9778])
def test_a_marker_of_digits_never_reaches_the_pod_whose_vmid_they_are(looked, ask, sql, rows, assert_problem, vmid):
    rows.pod(vmid=9777, tenant_id=OTHER_TENANT)
    seen = container(owner={"tenant": TENANT, "pod": str(vmid)})
    refused(looked, ask, sql, assert_problem, 409, "bad_marker", seen=seen)


DRILLS = [container(900009101), container(5001, owner={"tenant": TENANT, "pod": "drill.7452a3de"})]


@pytest.mark.parametrize("seen", DRILLS)
def test_a_drills_copy_is_neither_listed_nor_adopted(api, looked, ask, sql, assert_problem, seen):
    refused(looked, ask, sql, assert_problem, 404, "container_not_found", seen=seen, vmid=seen["vmid"])
    assert api.simulate_get("/internal/nodes/lab1/foreign").json["items"] == []


def test_a_drills_copy_that_an_older_look_kept_is_not_listed(api, looked, sql):
    job = looked(container())
    sql("UPDATE cloud_pod_jobs SET result = replace(result::text, '5001', '900005001')::jsonb WHERE id = %s", job.id)
    assert api.simulate_get("/internal/nodes/lab1/foreign").json["items"] == []


@pytest.mark.parametrize(("ip", "code"), [("10.1.20.60", "ip_not_allowed"), ("10.1.10.1", "ip_not_allowed")])
def test_an_address_that_no_pod_of_the_node_may_have_is_refused(looked, ask, sql, assert_problem, ip, code):
    sql("UPDATE address_pools SET first_ip = '10.1.10.1' WHERE gateway = '10.1.10.1'")
    refused(looked, ask, sql, assert_problem, 409, code, seen=container(ip=ip))


@pytest.mark.parametrize("odd", [{"ip": "dhcp"}, {"memory_mb": None}, {"swap_mb": None}], ids=str)
def test_a_value_that_no_pod_can_have_is_refused(looked, ask, sql, assert_problem, odd):
    refused(looked, ask, sql, assert_problem, 409, "container_unusable", seen=container(**odd))


def test_a_vmid_with_another_tenants_archives_is_refused(looked, ask, sql, rows, assert_problem):
    backup = rows.backup(rows.pod(vmid=5001, status="deleted", tenant_id=OTHER_TENANT, allocation=False))
    refused(looked, ask, sql, assert_problem, 409, "vmid_taken", seen=container())
    sql("UPDATE cloud_pod_backups SET status = 'removed' WHERE id = %s", backup)
    assert ask().status_code == 202


def test_a_sites_own_low_vmid_may_be_adopted(looked, ask):
    looked(container(100))
    assert ask(100).status_code == 202


def test_a_failed_adoption_leaves_a_pod_that_is_to_be_destroyed_so(api, looked, ask, ended, sql):
    looked(container())
    answer = ask()
    assert destroyed(api).status_code == 202
    assert ended(answer, failure=FAILED)["status"] == "deleting"
    assert ask().status_code == 409


def destroyed(api):
    return api.simulate_post("/internal/cloudpods/5001/destroy", json={"tenantId": TENANT})


@pytest.mark.parametrize("asked_before_its_end", [True, False])
def test_a_pod_that_never_was_one_is_failed_again_when_its_node_refuses_to_destroy_it(
    api, looked, ask, ended, sql, asked_before_its_end
):
    looked(container())
    answer = ask()
    first = destroyed(api) if asked_before_its_end else None
    ended(answer, failure=FAILED)
    assert ended(first or destroyed(api), failure=FAILED)["status"] == "failed"
    assert (used(sql), sql("SELECT count(*) FROM cloud_pod_allocations")) == ((0, 0, 0, 0), [(0,)])
    assert ended(ask(), adopted())["status"] == "active"


def test_a_pod_that_never_was_one_stays_deleting_while_something_may_be_left(api, looked, ask, ended):
    looked(container())
    ended(ask(), failure=FAILED)
    assert ended(destroyed(api), failure={**FAILED, "left_behind": "container 5001, not whole"})["status"] == "deleting"


def test_a_failed_adoption_of_a_deleted_pod_leaves_its_row_as_it_was(looked, ask, ended, rows, sql):
    gone = {"status": "deleted", "deleted_at": "2026-05-01T00:00:00+00:00"}
    earlier = rows.pod("lab2", vmid=5001, allocation=False, ip="10.1.20.77", **gone)
    before = sql.row("cloud_pods", earlier)
    looked(container(owner={"tenant": TENANT, "pod": earlier}))
    after = ended(ask(), failure=FAILED)
    assert {**after, "updated_at": None} == {**before, "updated_at": None}
    assert ended(ask(), adopted())["deleted_at"] is None


def test_an_adoption_that_waits_for_the_earlier_pods_row_holds_no_other_order_up(ask, looked, rows, sql, servers, eventually):
    """A restore of the earlier pod as a new one holds the row and waits for a vmid: the other way round they would lock up."""
    earlier = rows.pod(vmid=5001, status="deleted", allocation=False)
    looked(container(owner={"tenant": TENANT, "pod": earlier}))
    restoring = psycopg2.connect(servers.database_url)
    cursor = restoring.cursor()
    cursor.execute("SELECT 1 FROM cloud_pods WHERE id = %s FOR UPDATE", (earlier,))
    with ThreadPoolExecutor(1) as pool, closing(restoring):
        adopting = pool.submit(ask)
        eventually(lambda: sql("SELECT 1 FROM pg_locks WHERE NOT granted"))
        cursor.execute("SELECT pg_try_advisory_xact_lock(hashtextextended('cloudpods:vmid', 0))")
        assert cursor.fetchone() == (True,)
        restoring.commit()
        assert adopting.result(timeout=20).status_code == 202


def test_an_order_for_an_address_that_an_adoption_takes_meanwhile_is_refused(api, sql, servers, assert_problem, eventually):
    """The order waits for the adoption to end, and looks at the addresses only then."""
    adopting = psycopg2.connect(servers.database_url)
    cursor = adopting.cursor()
    cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended('cloudpods:vmid', 0))")
    wanted = {"tenantId": TENANT, "hostname": "a", "cores": 1, "memoryMb": 512, "ip": "10.1.10.61", "node": "lab1"}
    with ThreadPoolExecutor(1) as pool:
        order = pool.submit(api.simulate_post, "/internal/cloudpods", json=wanted)
        eventually(lambda: sql("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"))
        cursor.execute(
            "INSERT INTO cloud_pods (tenant_id, node_id, vmid, hostname, ip, cores, memory_mb)"
            " SELECT %s, id, 5001, 'legacy', '10.1.10.61', 1, 512 FROM cloud_pod_nodes WHERE name = 'lab1'",
            (TENANT,),
        )
        adopting.commit()
        assert_problem(order.result(timeout=20), 409, "ip_taken", field="ip")
    adopting.close()


# At a terminal


@pytest.fixture
def by_hand(tenants, looked, monkeypatch):
    """Return a way to adopt at a terminal; the worker is this test, which ends each job as soon as it is waited for."""
    ends = {
        "POD_SCAN": {"lab1": {"node": "lab1", "pods": [container(), container(5002, owner={"tenant": TENANT, "pod": None})]}},
        "ADOPT": adopted(),
    }

    def finish(job_id, wait_s):
        with db.session():
            held = "status = 'running', attempt = attempt + 1, tries = 1, lease_until = now() + interval '1 hour'"
            db.database.execute_sql(f"UPDATE cloud_pod_jobs SET {held} WHERE id = %s", (job_id,))
            job = CloudPodJob.find(job_id)
            outcome.write(job, Outcome(ends[job.type], None))
            return job

    monkeypatch.setattr(adopt_by_hand, "finished", finish)
    environ = {"CLOUDPODS_DATABASE_URL": tenants.database_url, "CLOUDPODS_REDIS_URL": tenants.redis_url}

    def run(*words):
        return CliRunner().invoke(main, ["adopt", "--node", "lab1", *words], env=environ)

    return run


def test_at_a_terminal_the_containers_are_listed(by_hand):
    lines = by_hand().output.splitlines()
    assert lines[0].split()[:3] == ["vmid", "status", "hostname"]
    assert [line.split()[0] for line in lines[1:]] == ["5001", "5002"]
    assert lines[2].split()[-1] == TENANT


def test_at_a_terminal_a_dry_run_writes_nothing(by_hand, sql):
    result = by_hand("--vmid", "5001", "--tenant", TENANT, "--dry-run")
    assert '"hostname": "legacy"' in result.output
    assert sql.counts()["cloud_pods"] == 0


def test_at_a_terminal_a_container_is_adopted(by_hand, sql):
    result = by_hand("--vmid", "5001", "--tenant", TENANT)
    assert result.exit_code == 0, result.output
    assert result.output.startswith("container 5001 on lab1 is pod ")
    assert sql("SELECT status, tenant_id FROM cloud_pods") == [("active", TENANT)]
    assert [line.split()[0] for line in by_hand().output.splitlines()[1:]] == ["5002"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--vmid", "5001"], 2, "belong together"),
        (["--tenant", TENANT], 2, "belong together"),
        (["--dry-run"], 2, "needs --vmid"),
        (["--vmid", "5001", "--tenant", "no one"], 1, "tenantId"),
        (["--vmid", "5001", "--tenant", "TENANT-999"], 1, "there is no tenant"),
        (["--vmid", "5009", "--tenant", TENANT], 1, "no container 5009"),
    ],
)
def test_at_a_terminal_what_cannot_be_done_is_said(by_hand, sql, words, code, said):
    result = by_hand(*words)
    assert (result.exit_code, said in result.output) == (code, True), result.output
    assert sql.counts()["cloud_pods"] == 0


def test_without_a_worker_the_terminal_says_so(tenants):
    environ = {"CLOUDPODS_DATABASE_URL": tenants.database_url, "CLOUDPODS_REDIS_URL": tenants.redis_url}
    result = CliRunner().invoke(main, ["adopt", "--node", "lab1", "--wait", "0"], env=environ)
    assert result.exit_code == 1
    assert "is a worker running?" in result.output


def test_two_adoptions_of_one_container_make_one_pod(tenants, looked):
    looked(container())
    with db.session():
        adopt.adopt("lab1", AdoptPod(tenantId=TENANT, vmid=5001))
        with pytest.raises(Exception, match="belongs to a live pod"):
            adopt.adopt("lab1", AdoptPod(tenantId=TENANT, vmid=5001))
        assert scan.foreign("lab1")[1] == []


def used(sql, tenant=TENANT):
    columns = "used_cloud_pods, used_cpu_cores, used_ram_mb, used_disk_gb"
    return sql(f"SELECT {columns} FROM tenant_quotas WHERE tenant_id = %s", tenant)[0]


def test_an_adopted_pod_counts_as_what_the_node_says_at_the_end(looked, ask, ended, sql):
    looked(container())
    answer = ask()
    assert used(sql) == (0, 0, 0, 0)
    ended(answer, adopted(cores=3))
    assert (used(sql), used(sql, OTHER_TENANT)) == ((1, 3, 1024, 12), (0, 0, 0, 0))


def test_an_adoption_over_the_quota_is_refused_and_writes_nothing(looked, ask, sql, assert_problem):
    looked(container())
    sql("UPDATE tenant_quotas SET max_cpu_cores = 1")
    before = sql.counts()
    answer = ask()
    assert_problem(answer, 409, "quota_exceeded")
    assert answer.json["asked"] == {"cores": 2}
    assert sql.counts() == before


def test_a_failed_adoption_takes_nothing_of_the_quota(looked, ask, ended, sql):
    looked(container())
    ended(ask(), failure=FAILED)
    assert used(sql) == (0, 0, 0, 0)
    assert sql("SELECT state FROM quota_entries") == [("released",)]


def test_what_a_failed_create_left_is_counted_once_when_it_is_adopted(looked, ask, ended, rows, sql):
    pod = rows.pod(vmid=5001, status="failed", cores=2, memory_mb=1024, disk_gb=12)
    looked(container(owner={"tenant": TENANT, "pod": pod}))
    sql("UPDATE tenant_quotas SET max_cloud_pods = 1")
    ended(ask(), adopted(owner={"tenant": TENANT, "pod": pod}))
    assert used(sql) == (1, 2, 1024, 12)


def test_what_a_failed_create_left_stays_counted_when_its_adoption_fails(looked, ask, ended, rows, sql):
    pod = rows.pod("lab2", vmid=5001, status="failed", cores=1, memory_mb=512, disk_gb=8)
    before = sql.row("cloud_pods", pod)
    looked(container(owner={"tenant": TENANT, "pod": pod}))
    after = ended(ask(), failure=FAILED)
    assert {**after, "updated_at": None} == {**before, "updated_at": None}
    assert (used(sql), used(sql, OTHER_TENANT)) == ((1, 1, 512, 8), (0, 0, 0, 0))
    shares = "SELECT node_id, used_cpu_cores, used_memory_mb, used_disk_gb FROM cloud_pod_allocations"
    assert sql(shares) == [(rows.node_id("lab2"), 1, 512, 8)]
