"""A job's log over HTTP, in its three forms, and at a terminal."""

import pytest
from click.testing import CliRunner

from shim import cli, db
from shim.jobs.log_models import CloudPodJobLog
from shim.jobs.models import CloudPodJob


@pytest.fixture
def job(api, rows, sql):
    """Return the id of a running job whose log has three pieces, beside another tenant's with one."""
    other = rows.job("BACKUP", pod=rows.pod("lab2", tenant_id="TENANT-456"), node="lab2", tenant_id="TENANT-456")
    sql("INSERT INTO cloud_pod_job_logs (job_id, attempt, seq, text) VALUES (%s, 1, 1, 'not yours')", other)
    with db.session():
        made = rows.running(pod=rows.pod())
    add(sql, made.id, "a\n", "b\n", "ü\n")
    return made.id


def add(sql, job_id, *texts):
    with db.session():
        CloudPodJobLog.append(CloudPodJob.find(job_id), list(texts))


def over(sql, job_id, status="success"):
    sql("UPDATE cloud_pod_jobs SET status = %s, lease_until = NULL, finished_at = now() WHERE id = %s", status, job_id)


def test_pages_go_by_the_pieces_numbers(api, job):
    first = api.simulate_get(f"/internal/jobs/{job}/log", params={"limit": 2}).json
    assert [(piece["seq"], piece["attempt"], piece["text"]) for piece in first["items"]] == [(1, 1, "a\n"), (2, 1, "b\n")]
    second = api.simulate_get(f"/internal/jobs/{job}/log", params={"limit": 2, "cursor": first["next"]}).json
    assert [piece["text"] for piece in second["items"]] == ["ü\n"]
    assert second["next"] is None
    assert second["items"] == api.simulate_get(f"/internal/jobs/{job}/log", params={"after": 2}).json["items"]
    assert api.simulate_get(f"/internal/jobs/{job}/log", params={"after": 3}).json == {"items": [], "next": None}


def test_plain_text_is_the_whole_of_it(api, job):
    answer = api.simulate_get(f"/internal/jobs/{job}/log", headers={"Accept": "text/plain"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/plain; charset=utf-8")
    assert answer.content.decode() == "a\nb\nü\n"
    later = api.simulate_get(f"/internal/jobs/{job}/log", headers={"Accept": "text/plain"}, params={"after": 1})
    assert later.content.decode() == "b\nü\n"


def test_whoever_takes_anything_gets_a_page(api, job):
    answer = api.simulate_get(f"/internal/jobs/{job}/log", headers={"Accept": "*/*"})
    assert len(answer.json["items"]) == 3


@pytest.mark.parametrize(
    ("query", "field"),
    [({"after": "-1"}, "after"), ({"after": "x"}, "after"), ({"cursor": "WyJ4Il0"}, "cursor"), ({"seq": "1"}, "seq")],
)
def test_what_is_asked_wrongly_is_refused(api, job, assert_problem, query, field):
    assert_problem(api.simulate_get(f"/internal/jobs/{job}/log", params=query), 422, field=field)


@pytest.mark.parametrize("accept", ["text/plain", "text/event-stream"])
def test_a_cursor_goes_with_pages_only(api, job, assert_problem, accept):
    answer = api.simulate_get(f"/internal/jobs/{job}/log", params={"cursor": "WyIxIl0"}, headers={"Accept": accept})
    assert_problem(answer, 422, field="cursor")


@pytest.mark.parametrize("accept", ["application/json", "text/plain", "text/event-stream"])
def test_no_user_reads_it_not_even_the_jobs_own_tenants_owner(api, job, assert_problem, accept):
    for tenant in ("TENANT-123", "TENANT-456"):
        headers = {**api.as_user("owner", tenant), "Accept": accept}
        assert_problem(api.simulate_get(f"/internal/jobs/{job}/log", headers=headers), 403)
    assert_problem(api.simulate_get("/internal/jobs/none/log", headers={"Accept": accept}), 404, "job_not_found")


def test_a_job_that_printed_nothing_yet_has_an_empty_log(api, rows):
    queued = rows.job("BACKUP", pod=rows.pod())
    assert api.simulate_get(f"/internal/jobs/{queued}/log").json == {"items": [], "next": None}
    assert api.simulate_get(f"/internal/jobs/{queued}/log", headers={"Accept": "text/plain"}).text == ""


@pytest.fixture
def tail(tenants, monkeypatch):
    """Return a way to type `cloudpods jobs tail`."""
    monkeypatch.setenv("CLOUDPODS_DATABASE_URL", tenants.database_url)
    monkeypatch.setenv("CLOUDPODS_REDIS_URL", tenants.redis_url)
    return lambda *words: CliRunner().invoke(cli.main, ["jobs", "tail", *words])


def test_a_terminal_shows_it_as_it_was_printed(tail, job):
    done = tail(job)
    assert (done.exit_code, done.output) == (0, "a\nb\nü\n")


def test_a_terminal_follows_it_to_the_end_and_tells_by_its_code_how_that_was(tail, job, sql):
    over(sql, job)
    assert tail(job, "--follow").exit_code == 0
    over(sql, job, "failed")
    done = tail(job, "--follow")
    assert (done.exit_code, done.stdout) == (1, "a\nb\nü\n")


def test_a_terminal_says_that_there_is_no_such_job(tail, job):
    done = tail("none")
    assert (done.exit_code, "there is no job 'none'" in done.output) == (1, True)
