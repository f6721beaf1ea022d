"""A job's way from state to state, each write fenced by the attempt."""

import pytest

from shim.jobs import many, state
from shim.jobs.models import CloudPodJob

FAILURE = {"msg": "no space left", "retryable": True, "left_behind": "nothing"}
pytestmark = pytest.mark.usefixtures("session")

WRITES = {
    "begin": state.begin,
    "succeed": lambda job: state.succeed(job, {"ok": True}),
    "fail": lambda job: state.fail(job, FAILURE),
    "run_again": lambda job: state.run_again(job, FAILURE),
    "hand_back": state.hand_back,
}


@pytest.fixture
def job(rows):
    return rows.running(pod=rows.pod())


def test_success_keeps_the_result_and_clears_the_traces_of_earlier_tries(job, sql):
    sql("UPDATE cloud_pod_jobs SET error = 'first try', failure = '{}', lost = true")
    state.succeed(job, {"ip": "10.1.10.91"})
    row = sql.row("cloud_pod_jobs", job.id)
    assert (row["status"], row["result"], row["error"], row["failure"]) == ("success", {"ip": "10.1.10.91"}, None, None)
    assert (row["lease_until"], row["lost"]) == (None, False)
    assert row["finished_at"] is not None


def test_failure_keeps_the_nodes_own_message(job, sql):
    state.fail(job, FAILURE)
    row = sql.row("cloud_pod_jobs", job.id)
    assert (row["status"], row["error"], row["failure"], row["result"]) == ("failed", "no space left", FAILURE, None)
    assert row["finished_at"] is not None
    assert row["lease_until"] is None


def test_a_run_is_counted_when_it_begins(job, sql):
    state.begin(job)
    assert (job.tries, sql.row("cloud_pod_jobs", job.id)["tries"]) == (2, 2)


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_an_older_attempt_writes_nothing(job, sql, write):
    sql("UPDATE cloud_pod_jobs SET attempt = 2")
    before = sql.row("cloud_pod_jobs", job.id)
    with pytest.raises(state.LostLease):
        write(job)
    assert sql.row("cloud_pod_jobs", job.id) == before


@pytest.mark.parametrize("status", ["queued", "success", "failed", "cancelled"])
@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_job_that_does_not_run_is_not_written(job, sql, write, status):
    sql("UPDATE cloud_pod_jobs SET status = %s, lease_until = NULL", status)
    before = sql.row("cloud_pod_jobs", job.id)
    with pytest.raises(state.LostLease):
        write(job)
    assert sql.row("cloud_pod_jobs", job.id) == before


BACKOFF = [
    (0, 1.5, 2.5),
    (1, 1.5, 2.5),
    (2, 3.0, 5.0),
    (3, 6.0, 10.0),
    (4, 12.0, 20.0),
    (5, 24.0, 40.0),
    (6, 45.0, 75.0),
    (30, 45.0, 75.0),
]


@pytest.mark.parametrize(("tries", "low", "high"), BACKOFF)
def test_the_pause_before_another_run_doubles_up_to_a_bound(rows, sql, tries, low, high):
    job = rows.running(pod=rows.pod(), tries=tries)
    pause_s = state.run_again(job, FAILURE)
    assert low <= pause_s <= high
    row = sql.row("cloud_pod_jobs", job.id)
    assert (row["status"], row["error"], row["lease_until"], row["woken_at"]) == ("queued", "no space left", None, None)
    ahead = sql.value("SELECT extract(epoch FROM run_after - now()) FROM cloud_pod_jobs")
    assert pause_s - 5 < ahead <= pause_s


def test_pauses_differ_so_that_what_failed_together_does_not_return_together(rows):
    pauses = {state.run_again(rows.running(pod=rows.pod()), FAILURE) for _ in range(5)}
    assert len(pauses) == 5


@pytest.mark.parametrize("lost", [True, False])
def test_a_job_handed_back_is_as_it_was(rows, sql, lost):
    job = rows.running(pod=rows.pod(), lost=lost, error="before")
    assert state.hand_back(job) == 1
    row = sql.row("cloud_pod_jobs", job.id)
    assert (row["status"], row["lost"], row["error"], row["tries"]) == ("queued", lost, "before", 1)


def test_a_lost_job_whose_node_does_not_answer_says_so_and_stays_lost(rows, sql):
    job = rows.running(pod=rows.pod(), lost=True)
    state.hand_back(job, {"msg": "nobody knows yet", "looking": True})
    row = sql.row("cloud_pod_jobs", job.id)
    assert (row["status"], row["lost"], row["error"]) == ("queued", True, "nobody knows yet")


@pytest.mark.parametrize(("attempt", "tries", "pause_s"), [(1, 1, 1), (4, 1, 3), (500, 2, 60)])
def test_each_claim_that_came_to_nothing_makes_the_pause_longer(rows, attempt, tries, pause_s):
    job = rows.running(pod=rows.pod(), attempt=attempt, tries=tries)
    assert state.hand_back(job) == pause_s


def test_a_run_that_only_found_its_pod_busy_is_not_counted(rows, sql):
    job = rows.running(pod=rows.pod(), attempt=3, tries=2)
    state.hand_back(job, counted=True)
    assert sql.row("cloud_pod_jobs", job.id)["tries"] == 1


def test_a_job_to_be_looked_into_is_queued_as_lost_with_its_failure(rows, sql):
    job = rows.running(pod=rows.pod())
    state.look_first(job, FAILURE)
    row = sql.row("cloud_pod_jobs", job.id)
    assert (row["status"], row["lost"], row["error"]) == ("queued", True, FAILURE["msg"])


def test_a_failure_on_record_ends_the_doubt_about_a_lost_run(rows, sql):
    job = rows.running(pod=rows.pod(), lost=True)
    state.run_again(job, FAILURE)
    assert sql.row("cloud_pod_jobs", job.id)["lost"] is False


def test_jobs_whose_lease_ran_out_are_queued_as_lost_and_others_left(rows, sql):
    lost = rows.running("CREATE", pod=rows.pod(), lease_until="2026-01-01")
    held = rows.running(pod=rows.pod())
    queued = rows.job(pod=rows.pod())
    assert state.collect_lost() == [(lost.id, "CREATE")]
    row = sql.row("cloud_pod_jobs", lost.id)
    assert (row["status"], row["lost"], row["lease_until"], row["woken_at"], row["attempt"]) == ("queued", True, None, None, 1)
    assert sql.row("cloud_pod_jobs", held.id)["status"] == "running"
    assert sql.row("cloud_pod_jobs", queued)["lost"] is False
    assert state.collect_lost() == []


def test_the_worker_that_lost_a_job_cannot_end_it_any_more(rows):
    job = rows.running(pod=rows.pod(), lease_until="2026-01-01")
    state.collect_lost()
    with pytest.raises(state.LostLease):
        state.succeed(job, {})


def announced(types=("BACKUP",), limit=10, after_s=10.0):
    return {job for job, _ in many.to_announce(list(types), limit, after_s)}


def test_a_job_is_announced_once_in_a_while(rows, sql):
    job = rows.job(pod=rows.pod())
    assert many.to_announce(["BACKUP"], 10, 10.0) == [(job, "BACKUP")]
    assert announced() == set()
    sql("UPDATE cloud_pod_jobs SET woken_at = now() - interval '11 s'")
    assert announced() == {job}


def test_a_new_job_is_not_announced_again_before_its_time(session, rows):
    from shim.jobs.submit import submit

    pod = rows.pod()
    made = submit(
        "BACKUP", tenant_id="TENANT-123", cloud_pod_id=pod, node_id=rows.node_id(), payload={"vmid": 9001}, requested_by=None
    )
    assert announced() == set()
    assert announced(after_s=0) == {made.id}


@pytest.mark.parametrize(
    "columns",
    [
        {"run_after": "2999-01-01"},
        {"status": "running", "lease_until": "2999-01-01"},
        {"status": "success"},
        {"status": "failed"},
        {"type": "DESTROY"},
    ],
    ids=str,
)
def test_what_may_not_run_is_not_announced(rows, columns):
    rows.job(**{"type": "BACKUP", "pod": rows.pod(), **columns})
    assert announced() == set()


def test_no_more_are_announced_than_asked_the_most_urgent_first(rows):
    urgent = {rows.job("DESTROY", pod=rows.pod()) for _ in range(2)}
    for _ in range(3):
        rows.job("BACKUP", pod=rows.pod(), created_at="2026-01-01")
    assert announced(("BACKUP", "DESTROY"), limit=2) == urgent
    assert len(announced(("BACKUP", "DESTROY"), limit=2)) == 2
    assert len(announced(("BACKUP", "DESTROY"), limit=2)) == 1


def test_a_retry_is_announced_as_soon_as_it_is_due(rows, sql, job):
    state.run_again(job, FAILURE)
    sql("UPDATE cloud_pod_jobs SET run_after = '2999-01-01'")
    assert announced() == set()
    sql("UPDATE cloud_pod_jobs SET run_after = now()")
    assert announced() == {job.id}


def test_the_run_id_names_job_and_attempt(job):
    assert job.run_id == f"{job.id}.1"
    assert CloudPodJob.find(job.id).run_id == job.run_id


@pytest.mark.parametrize(
    ("status", "lease"), [("running", None), ("queued", "2999-01-01"), ("success", "2999-01-01"), ("paused", None)]
)
def test_the_database_refuses_a_state_that_is_none(rows, status, lease):
    import psycopg2

    with pytest.raises(psycopg2.errors.CheckViolation):
        rows.job(pod=rows.pod(), status=status, lease_until=lease)
