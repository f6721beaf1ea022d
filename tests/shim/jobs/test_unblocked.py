"""Who is woken when a job is over or put back: what it kept waiting, at once, whatever its type and whoever's it is."""

import peewee
import pytest
import redis
from click.testing import CliRunner

from shim import cli, db
from shim.jobs import claim, state, unblocked
from shim.jobs.catalog import ACTIONS
from shim.jobs.queue import FEW, Wakeups

ALL = list(ACTIONS)
pytestmark = pytest.mark.usefixtures("session")


@pytest.fixture
def wakeups(settings):
    return Wakeups(settings.redis_url)


@pytest.fixture
def woken(wakeups, settings):
    """Return a way to see for which jobs wake-ups wait."""
    client = redis.Redis.from_url(settings.redis_url)

    def see():
        waiting = [key for name in client.keys("rq:queue:*") for key in client.lrange(name, 0, -1)]
        return sorted(client.hget(f"rq:job:{key.decode()}", "description").decode() for key in waiting)

    return see


def take(types=ALL):
    return claim.claim(list(types), worker="w", lease_s=30)


FAILURE = {"msg": "no", "retryable": True, "left_behind": "nothing"}
ENDS = {
    "success": lambda job: state.succeed(job, {}),
    "failed": lambda job: state.fail(job, FAILURE),
}
PUT_BACK = {
    "run_again": lambda job: state.run_again(job, FAILURE),
    "hand_back": state.hand_back,
    "look_first": lambda job: state.look_first(job, FAILURE),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_a_destroy_that_waited_for_a_backup_is_woken_at_once_though_another_worker_serves_it(rows, wakeups, woken, end):
    pod = rows.pod()
    rows.job("BACKUP", pod=pod)
    backup = take(["BACKUP"])
    # Just ordered, and its own wake-up has come to nothing.
    destroy = rows.job("DESTROY", pod=pod, woken_at="2999-01-01")
    rows.job("SCALE", pod=pod)
    assert take() is None
    end(backup)
    unblocked.wake(wakeups, backup)
    assert woken() == [destroy]


@pytest.mark.parametrize("end", (ENDS | PUT_BACK).values(), ids=ENDS | PUT_BACK)
def test_the_place_that_is_free_goes_to_the_best_that_may_run_there(rows, sql, wakeups, woken, end):
    sql("UPDATE cloud_pod_nodes SET max_running_jobs = 1")
    rows.job("SCALE", pod=rows.pod())
    scale = take()
    rows.job("HEALTH_CHECK", pod=rows.pod())
    waiting = rows.job("POWER", pod=rows.pod(tenant_id="TENANT-456"), tenant_id="TENANT-456")
    rows.job("POWER", pod=rows.pod("lab2"), node="lab2")
    end(scale)
    unblocked.wake(wakeups, scale)
    assert woken() == [waiting]


def test_the_next_backup_of_the_node_is_woken_beside_the_pods_next(rows, wakeups, woken):
    pod = rows.pod()
    rows.job("BACKUP", pod=pod)
    backup = take()
    waiting = [rows.job("BACKUP", pod=rows.pod()), rows.job("POWER", pod=pod)]
    unblocked.wake(wakeups, backup)
    assert woken() == []
    state.succeed(backup, {})
    unblocked.wake(wakeups, backup)
    assert woken() == sorted(waiting)


def test_what_comes_after_a_success_is_woken_wherever_it_is(rows, wakeups, woken):
    rows.job("BACKUP", pod=rows.pod())
    first = take()
    followers = [
        rows.job("SCALE", pod=rows.pod(), after_job_id=first.id),
        rows.job("RESTORE", pod=rows.pod("lab2"), node="lab2", after_job_id=first.id),
    ]
    state.succeed(first, {})
    unblocked.wake(wakeups, first)
    assert woken() == sorted(followers)


def test_what_may_not_run_is_not_woken(rows, sql, wakeups, woken):
    pod = rows.pod()
    rows.job("BACKUP", pod=pod)
    backup = take()
    rows.job("SCALE", pod=pod, run_after="2999-01-01")
    rows.job("POWER", pod=pod)
    rows.job("SCALE", pod=rows.pod(), after_job_id=backup.id)
    state.fail(backup, FAILURE)
    unblocked.wake(wakeups, backup)
    sql("UPDATE cloud_pod_nodes SET status = 'offline'")
    rows.job("DESTROY", pod=rows.pod())
    unblocked.wake(wakeups, backup)
    assert woken() == []


def test_no_more_are_woken_than_there_are_places_nor_again_and_again(rows, sql, wakeups, woken):
    sql("UPDATE cloud_pod_nodes SET max_running_jobs = 2")
    rows.job("SCALE", pod=rows.pod())
    rows.job("SCALE", pod=rows.pod())
    first, _ = take(), take()
    for type in ("CREATE", "DESTROY", "POWER", "SCALE", "SNAPSHOT"):
        for _ in range(5):
            rows.job(type, pod=rows.pod())
    state.succeed(first, {})
    unblocked.wake(wakeups, first)
    assert len(woken()) == 1
    for _ in range(50):
        unblocked.wake(wakeups, first)
    assert len(woken()) <= FEW * 5
    assert wakeups.waiting("DESTROY") == FEW


def test_a_job_whose_own_wake_up_still_waits_is_not_woken_again(rows, wakeups, woken):
    """Each further one was a process that found nothing."""
    rows.job("SCALE", pod=rows.pod())
    first = take()
    waiting = [(rows.job(type, pod=rows.pod()), type) for type in ("SCALE", "POWER", "CREATE", "SCALE")]
    wakeups.tell(waiting)
    state.succeed(first, {})
    unblocked.wake(wakeups, first)
    assert woken() == sorted(job for job, _ in waiting)


def test_a_wake_up_that_came_to_nothing_is_repeated_beside_those_that_wait(rows, sql, wakeups, woken):
    sql("UPDATE cloud_pod_nodes SET max_running_jobs = 1")
    rows.job("SCALE", pod=rows.pod())
    first = take()
    best, other = (rows.job("SCALE", pod=rows.pod(), woken_at=sql.value("SELECT now()")) for _ in range(2))
    wakeups.tell([(other, "SCALE")])
    state.succeed(first, {})
    unblocked.wake(wakeups, first)
    assert woken() == sorted([best, other])


def cancel_over_http(api, tenants, job):
    assert api.simulate_post(f"/internal/jobs/{job}/cancel").status_code == 200


def cancel_once_over_http(api, tenants, job):
    answer = api.simulate_post(f"/internal/jobs/{job}/cancel", headers={"Idempotency-Key": "a-key"})
    assert answer.status_code == 200


def cancel_by_hand(api, tenants, job):
    of_stack = {"CLOUDPODS_DATABASE_URL": tenants.database_url, "CLOUDPODS_REDIS_URL": tenants.redis_url}
    done = CliRunner().invoke(cli.main, ["jobs", "cancel", job], env=of_stack)
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("cancel", [cancel_over_http, cancel_once_over_http, cancel_by_hand])
def test_what_a_cancelled_job_kept_waiting_is_woken(api, tenants, rows, sql, woken, cancel):
    pod = rows.pod()
    first = rows.job("BACKUP", pod=pod, run_after="2999-01-01")
    second = rows.job("SCALE", pod=pod, woken_at=sql.value("SELECT now()"))
    rows.job("POWER", pod=pod)
    cancel(api, tenants, first)
    assert woken() == [second]


def test_a_cancel_is_done_though_the_wake_up_after_it_is_not(api, rows, sql, monkeypatch):
    def gone(*_):
        raise peewee.OperationalError("gone")

    monkeypatch.setattr(unblocked, "may_run", gone)
    job = rows.job("BACKUP", pod=rows.pod(), run_after="2999-01-01")
    assert api.simulate_post(f"/internal/jobs/{job}/cancel").json["status"] == "cancelled"


def test_where_a_queues_workers_are_all_at_work_the_place_is_offered_to_others_too(rows, sql, wakeups, woken):
    sql("UPDATE cloud_pod_nodes SET max_running_jobs = 1")
    rows.job("SCALE", pod=rows.pod())
    scale = take()
    for number in range(FEW):
        wakeups.tell([(f"job-{number}", "CREATE")])
    rows.job("CREATE", pod=rows.pod())
    power = rows.job("POWER", pod=rows.pod())
    state.succeed(scale, {})
    unblocked.wake(wakeups, scale)
    assert [job for job in woken() if not job.startswith("job-")] == [power]


def test_a_dead_redis_is_no_error(rows):
    rows.job("SCALE", pod=rows.pod())
    scale = take()
    rows.job("SCALE", pod=rows.pod())
    state.succeed(scale, {})
    unblocked.wake(Wakeups("unix:///nowhere/redis.sock"), scale)
    with db.database.atomic():
        assert take() is not None
