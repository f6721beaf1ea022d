"""What orders reserve of a quota and their ends make of it: each kind of job, each way to end."""

import pytest

from shim import db
from shim.jobs.models import CloudPodJob
from shim.worker import outcome
from shim.worker.playbook import Outcome

TENANT, OTHER = "TENANT-123", "TENANT-456"
BODY = {"tenantId": TENANT, "hostname": "client-portal", "cores": 2, "memoryMb": 2048, "diskGb": 8}
SIZE = (1, 2, 2048, 8)
NOTHING = (0, 0, 0, 0)
CREATED = Outcome({"vmid": 9101, "ip": "10.1.10.91", "changed": True}, None)


def failed(left_behind="nothing"):
    return Outcome(None, {"msg": "no", "retryable": False, "left_behind": left_behind})


@pytest.fixture
def used(sql):
    """Return a way to see what a tenant uses; it is what its committed entries come to."""

    def see(tenant=TENANT):
        columns = "used_cloud_pods, used_cpu_cores, used_ram_mb, used_disk_gb"
        (found,) = sql(f"SELECT {columns} FROM tenant_quotas WHERE tenant_id = %s", tenant)
        sums = ", ".join(f"coalesce(sum({name}), 0)" for name in ("pods", "cpu_cores", "ram_mb", "disk_gb"))
        committed = f"SELECT {sums} FROM quota_entries WHERE tenant_id = %s AND state = 'committed'"
        assert sql(committed, tenant) == [found]
        assert tenant == OTHER or see(OTHER) == NOTHING
        return found

    return see


@pytest.fixture
def entries(sql):
    """Return a way to see the ledger's entries, each of which has its events."""

    def see():
        found = sql(
            "SELECT job_id, state, pods, cpu_cores, ram_mb, disk_gb FROM quota_entries WHERE job_id IS NOT NULL ORDER BY id"
        )
        for job, state, *_ in found:
            said = {row[0] for row in sql("SELECT data->>'action' FROM cloud_pod_events WHERE job_id = %s", job)}
            assert f"QUOTA_{state.upper()}" in said
        assert not sql(
            "SELECT 1 FROM quota_entries e JOIN cloud_pod_jobs j ON j.id = e.job_id"
            " WHERE e.state = 'reserved' AND j.status NOT IN ('queued', 'running')"
        ), "an ended job holds a reservation"
        return [(row[1], row[2:]) for row in found]

    return see


@pytest.fixture
def limit(sql):
    """Return a way to set a tenant's limits."""

    def set(pods=100, cores=100, ram_mb=100_000, disk_gb=1000, tenant=TENANT):
        names = "max_cloud_pods = %s, max_cpu_cores = %s, max_ram_mb = %s, max_disk_gb = %s"
        sql(f"UPDATE tenant_quotas SET {names} WHERE tenant_id = %s", pods, cores, ram_mb, disk_gb, tenant)

    return set


@pytest.fixture
def post(api):
    """Return a way to send an order."""
    return lambda path, **body: api.simulate_post(f"/internal{path}", json=body)


@pytest.fixture
def create(post):
    """Return a way to order a pod."""
    return lambda **changes: post("/cloudpods", **{**BODY, **changes})


def scale(post, cores, memory_mb, vmid=9101):
    return post(f"/cloudpods/{vmid}/scale", tenantId=TENANT, newCores=cores, newMemoryMb=memory_mb)


def test_a_create_is_reserved_and_committed_with_its_success(create, finish, used, entries):
    order = create()
    assert (used(), entries()) == (NOTHING, [("reserved", SIZE)])
    finish(order, CREATED)
    assert (used(), entries()) == (SIZE, [("committed", SIZE)])


def test_every_change_of_the_ledger_is_an_event_before_the_jobs_own_end(create, finish, api):
    order = create()
    finish(order, CREATED)
    items = api.simulate_get(f"/internal/jobs/{order.json['job']['id']}/events").json["items"]
    assert [item["data"]["action"] for item in items] == ["queued", "QUOTA_RESERVED", "QUOTA_COMMITTED", "CREATED"]
    said = {"pods": 1, "cores": 2, "ramMb": 2048, "diskGb": 8}
    assert items[1]["data"] == {"action": "QUOTA_RESERVED", **said, "used": dict.fromkeys(said, 0)}
    assert items[2]["data"] == {"action": "QUOTA_COMMITTED", **said, "used": said}
    assert {item["tenantId"] for item in items} == {TENANT}


def test_a_create_that_leaves_nothing_is_released(create, finish, used, entries):
    finish(create(), failed())
    assert (used(), entries()) == (NOTHING, [("released", SIZE)])


def test_a_create_that_leaves_something_counts_until_it_is_destroyed(create, finish, post, used, entries):
    order = create(vmid=9101)
    finish(order, failed(left_behind="container 9101"))
    assert (used(), entries()) == (SIZE, [("committed", SIZE)])
    finish(post("/cloudpods/9101/destroy", tenantId=TENANT), Outcome({"changed": True}, None))
    assert (used(), entries()) == (NOTHING, [("committed", SIZE), ("committed", tuple(-n for n in SIZE))])


def test_a_result_that_says_nothing_usable_stays_reserved_until_a_look_at_the_node(create, finish, used, entries):
    finish(create(), Outcome({"vmid": 9101}, None))
    assert (used(), entries()) == (NOTHING, [("reserved", SIZE)])


def test_a_create_that_is_to_be_tried_again_stays_reserved(create, finish, entries):
    finish(create(), Outcome(None, {"msg": "no", "retryable": True, "left_behind": "nothing"}))
    assert entries() == [("reserved", SIZE)]


@pytest.mark.parametrize(("ending", "left"), [(CREATED, SIZE), (failed(), NOTHING)])
def test_a_pod_destroyed_while_it_was_made_is_counted_and_given_back(create, finish, post, used, ending, left):
    order = create(vmid=9101)
    destroy = post("/cloudpods/9101/destroy", tenantId=TENANT)
    finish(order, ending)
    assert used() == left
    finish(destroy, Outcome({"changed": True}, None))
    assert used() == NOTHING


def test_a_failed_destroy_gives_nothing_back(rows, finish, post, used, entries):
    rows.pod(vmid=9101)
    finish(post("/cloudpods/9101/destroy", tenantId=TENANT), failed(left_behind="container 9101"))
    assert (used(), entries()) == (SIZE, [])


def test_a_scale_reserves_the_difference(rows, finish, post, used, entries):
    rows.pod(vmid=9101)
    order = scale(post, 4, 1024)
    assert (used(), entries()) == (SIZE, [("reserved", (0, 2, -1024, 0))])
    finish(order, Outcome({"changed": True}, None))
    assert (used(), entries()) == ((1, 4, 1024, 8), [("committed", (0, 2, -1024, 0))])


def test_a_failed_scale_is_released(rows, finish, post, used, entries):
    rows.pod(vmid=9101)
    finish(scale(post, 4, 4096), failed())
    assert (used(), entries()) == (SIZE, [("released", (0, 2, 2048, 0))])


def test_a_scale_to_the_same_size_takes_nothing(rows, finish, post, used, entries):
    rows.pod(vmid=9101)
    finish(scale(post, 2, 2048), Outcome({"changed": False}, None))
    assert (used(), entries()) == (SIZE, [("released", NOTHING)])


def test_scales_one_behind_the_other_end_at_what_was_asked_last(rows, finish, post, used, limit):
    rows.pod(vmid=9101)
    limit(cores=4)
    down, up = scale(post, 1, 2048), scale(post, 4, 2048)
    finish(down, Outcome({"changed": True}, None))
    assert used() == (1, 1, 2048, 8)
    finish(up, Outcome({"changed": True}, None))
    assert used() == (1, 4, 2048, 8)


def test_what_a_pod_shrinks_by_first_is_not_given_to_others_while_it_is_to_grow_again(rows, finish, post, create, limit, used):
    rows.pod(vmid=9101, cores=4)
    limit(cores=4)
    down, up = scale(post, 1, 2048), scale(post, 4, 2048)
    finish(down, Outcome({"changed": True}, None))
    assert create(cores=1).json["code"] == "quota_exceeded"
    finish(up, failed())
    assert create(cores=1).status_code == 202


@pytest.mark.parametrize(
    ("limits", "name", "asked"),
    [({"pods": 2}, "pods", 1), ({"cores": 5}, "cores", 2), ({"ram_mb": 6143}, "ramMb", 2048), ({"disk_gb": 23}, "diskGb", 8)],
)
def test_more_than_the_limit_is_refused_with_the_figures_and_writes_nothing(
    rows, create, sql, limit, assert_problem, entries, limits, name, asked
):
    rows.pod()
    limit(**limits)
    assert create().status_code == 202
    before = sql.counts()
    answer = create()
    assert_problem(answer, 409, "quota_exceeded")
    top = next(iter(limits.values()))
    figures = {"limit": top, "used": asked, "reserved": asked, "asked": asked}
    assert {word: answer.json[word] for word in figures} == {word: {name: value} for word, value in figures.items()}
    assert (sql.counts(), len(entries())) == (before, 1)
    assert create(tenantId=OTHER).status_code == 202


def test_a_scale_beyond_the_limit_is_refused_and_one_that_shrinks_is_not(rows, post, limit, sql, assert_problem):
    rows.pod(vmid=9101)
    limit(cores=1, ram_mb=4096)
    before = sql.counts()
    answer = scale(post, 3, 4096)
    assert_problem(answer, 409, "quota_exceeded")
    assert answer.json["asked"] == {"cores": 1}
    assert sql.counts() == before
    # The limit lies below what is used: only growth is refused.
    assert scale(post, 2, 4096).status_code == 202


def test_a_tenant_without_a_quota_gets_its_plans(create, sql, used):
    sql("DELETE FROM tenant_quotas")
    sql("UPDATE plans SET max_cloud_pods = 1")
    assert create().status_code == 202
    assert create().json["limit"] == {"pods": 1}


def test_a_quota_is_refused_before_placement_is_waited_for(create, limit, sql, servers):
    import psycopg2

    limit(pods=0)
    other = psycopg2.connect(servers.database_url)
    other.cursor().execute("SELECT pg_advisory_xact_lock(hashtextextended('cloudpods:placement', 0))")
    assert create().json["code"] == "quota_exceeded"
    other.close()


def test_a_size_that_came_back_with_a_snapshot_counts_even_above_the_limit(rows, post, finish, sql, limit, used):
    pod = rows.pod(vmid=9101)
    sql("INSERT INTO cloud_pod_snapshots (cloud_pod_id, name, status) VALUES (%s, 'before', 'ready')", pod)
    limit(cores=2)
    seen = {"exists": True, "status": "running", "cores": 8, "memory_mb": 1024, "swap_mb": 0}
    finish(
        post("/cloudpods/9101/snapshots/before/rollback", tenantId=TENANT), Outcome({"cloudpod": seen, "changed": True}, None)
    )
    assert used() == (1, 8, 1024, 8)


def test_an_outcome_that_cannot_be_written_whole_settles_nothing(create, sql, used, entries):
    order = create()
    job_id = order.json["job"]["id"]
    held = "status = 'running', attempt = 1, tries = 1, lease_until = now() + interval '1 hour'"
    sql(f"UPDATE cloud_pod_jobs SET {held} WHERE id = %s", job_id)
    with db.session():
        older = CloudPodJob.find(job_id)
        sql("UPDATE cloud_pod_jobs SET attempt = 2 WHERE id = %s", job_id)
        with pytest.raises(outcome.state.LostLease):
            outcome.write(older, CREATED)
    assert (used(), entries()) == (NOTHING, [("reserved", SIZE)])


def test_of_twenty_orders_at_once_as_many_are_taken_as_the_limit_allows(create, limit, entries, sql):
    from concurrent.futures import ThreadPoolExecutor

    limit(cores=10)
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: create(), range(20)))
    assert sorted(answer.status_code for answer in answers) == [202] * 5 + [409] * 15
    assert entries() == [("reserved", SIZE)] * 5


def test_a_dearer_restore_as_new_is_refused_like_a_create(rows, post, limit, sql, assert_problem):
    pod = rows.pod(vmid=9101)
    rows.backup(pod)
    limit(pods=1)
    before = sql.counts()
    assert_problem(post("/cloudpods/9101/restore", tenantId=TENANT, asNew=True), 409, "quota_exceeded")
    assert sql.counts() == before


def test_only_one_file_ends_jobs():
    from pathlib import Path

    import shim

    ends = ("handler.succeed(", "handler.fail(", "state.succeed(", "state.fail(")
    files = [path for path in Path(shim.__file__).parent.rglob("*.py") if any(end in path.read_text() for end in ends)]
    assert [path.name for path in files] == ["ending.py"], "an end that does not settle its quota"
