"""`cloudpods jobs`: jobs at a terminal."""

import json
from datetime import timedelta

import pytest
from click.testing import CliRunner
from psycopg2.extras import Json

from shim.cli import main
from shim.jobs import by_hand
from shim.jobs.queue import Wakeups

TENANT, OTHER_TENANT = "TENANT-123", "TENANT-456"


@pytest.fixture
def cloudpods(servers, tmp_path):
    """Return a way to run the command on the test's database."""
    environ = {
        "CLOUDPODS_DATABASE_URL": servers.database_url,
        "CLOUDPODS_REDIS_URL": servers.redis_url,
        "CLOUDPODS_STATE_DIR": str(tmp_path),
    }
    return lambda *words: CliRunner().invoke(main, ["jobs", *words], env=environ)


@pytest.fixture
def made(rows):
    """Make jobs, oldest first; return their ids by name, and the first pod's."""
    pod, other = rows.pod(vmid=9101), rows.pod("lab2", tenant_id=OTHER_TENANT)
    jobs = {
        "old": rows.job("BACKUP", pod=pod, status="failed", error="no space left", payload={"vmid": 9101}),
        "others": rows.job("DESTROY", pod=other, node="lab2", tenant_id=OTHER_TENANT),
        "new": rows.job("SCALE", pod=pod, payload={"vmid": 9101}),
        "look": rows.job("RECONCILE", tenant_id=None, payload={}),
    }
    return {**jobs, "pod": pod}


def lines(result, exit_code=0):
    assert result.exit_code == exit_code, result.output
    return result.output.splitlines()


def ids(result):
    return [line.split()[0] for line in lines(result)[1:]]


def test_jobs_are_listed_newest_first_with_whose_they_are(cloudpods, made):
    head, *rows = lines(cloudpods("list"))
    assert head.split() == ["JOB", "TYPE", "STATUS", "NODE", "TENANT", "VMID", "AGE"]
    assert [row.split()[0] for row in rows] == [made[name] for name in ("look", "new", "others", "old")]
    assert rows[0].split()[1:6] == ["RECONCILE", "queued", "lab1", "-", "-"]
    assert rows[3].split()[1:6] == ["BACKUP", "failed", "lab1", TENANT, "9101"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--tenant", OTHER_TENANT), ["others"]),
        (("--status", "queued"), ["look", "new", "others"]),
        (("--type", "backup"), ["old"]),
        (("--type", "BACKUP"), ["old"]),
        (("--node", "lab2"), ["others"]),
        (("--pod", "9101"), ["new", "old"]),
        (("--pod", "9101", "--status", "failed", "--tenant", TENANT, "--node", "lab1"), ["old"]),
    ],
)
def test_filters_narrow_the_list(cloudpods, made, words, expected):
    assert ids(cloudpods("list", *words)) == [made[name] for name in expected]


def test_a_list_says_that_there_are_more(cloudpods, made):
    _head, first, more = lines(cloudpods("list", "--limit", "1"))
    assert first.startswith(made["look"])
    assert "--limit" in more


def test_an_empty_list_says_so(cloudpods, made):
    assert lines(cloudpods("list", "--status", "cancelled")) == ["no such job"]


def test_the_list_fits_100_columns_whatever_people_called_their_things(cloudpods, rows, sql):
    long = "a-tenant-whose-name-is-as-long-as-it-may-be-and-goes-on-and-on"
    sql("UPDATE cloud_pod_nodes SET name = 'a-node-whose-name-is-long-as-well' WHERE name = 'lab1'")
    sql(
        "INSERT INTO tenants SELECT (jsonb_populate_record(t, jsonb_build_object('id', %s, 'slug', 'x'))).*"
        " FROM tenants t WHERE id = %s",
        long,
        TENANT,
    )
    node = "a-node-whose-name-is-long-as-well"
    rows.job("RESTORE_DRILL", node=node, tenant_id=long, status="cancelled", payload={"vmid": 999_999_999})
    head, row = lines(cloudpods("list"))
    assert max(len(head), len(row)) <= 100
    assert (" a-nod" in row, " a-ten" in row, "999999999" in row, row.count("…")) == (True, True, True, 2)


@pytest.mark.parametrize(
    ("words", "exit_code", "said"),
    [
        (("list", "--status", "done"), 2, "must be one of: queued, running, success"),
        (("list", "--limit", "0"), 2, "--limit"),
        (("list", "--type", "bakup"), 1, "there is no type 'bakup'; known are DESTROY, CREATE"),
        (("list", "--node", "lab9"), 1, "there is no node 'lab9'"),
        (("list", "--tenant", "TENANT-9"), 1, "TENANT-9"),
        (("list", "--pod", "1"), 1, "there is no pod with vmid 1"),
        (("show", "no-such-job"), 1, "there is no job 'no-such-job'"),
        (("show", "no-such-job", "--follow"), 1, "there is no job 'no-such-job'"),
    ],
)
def test_what_is_not_there_is_said_in_a_line(cloudpods, made, words, exit_code, said):
    *usage, last = lines(cloudpods(*words), exit_code)
    assert said in last
    assert len(usage) == (3 if exit_code == 2 else 0)


def test_a_list_as_json_is_the_apis(cloudpods, api, made):
    assert json.loads("\n".join(lines(cloudpods("list", "--json")))) == api.simulate_get("/internal/jobs").json["items"]


def test_a_failed_job_is_shown_with_its_reason_and_what_may_be_done(cloudpods, made):
    told = dict(line.split(maxsplit=1) for line in lines(cloudpods("show", made["old"])))
    assert told["job"] == made["old"]
    assert told["pod"] == f"9101 {made['pod']}"
    assert (told["status"], told["error"]) == ("failed, 0 of 3 tries", "no space left")
    assert told["next"] == f"cloudpods jobs retry {made['old']}"


def test_a_job_as_json_is_the_apis(cloudpods, api, made):
    shown = json.loads("\n".join(lines(cloudpods("show", made["new"], "--json"))))
    assert shown == api.simulate_get(f"/internal/jobs/{made['new']}").json


@pytest.mark.parametrize(
    ("seconds", "age"),
    [(0, "0s"), (59, "59s"), (60, "1m"), (3599, "59m"), (3600, "1h"), (172_799, "47h"), (172_800, "2d"), (8_553_600, "14w")],
)
def test_a_jobs_age_is_three_letters(seconds, age):
    assert by_hand._age(timedelta(seconds=seconds)) == age


def test_a_list_tells_the_age_of_each(cloudpods, rows, sql):
    sql("UPDATE cloud_pod_jobs SET created_at = now() - interval '90 minutes' WHERE id = %s", rows.job())
    assert lines(cloudpods("list"))[1].split()[-1] == "1h"


@pytest.fixture
def at_the_first_pause(monkeypatch, sql):
    """Return a way to let something happen to a job while it is followed."""

    def happen(statement, *parameters):
        monkeypatch.setattr(by_hand.time, "sleep", lambda _: sql(statement, *parameters))

    return happen


ENDS = "UPDATE cloud_pod_jobs SET status = %s, error = %s, finished_at = now() WHERE id = %s"


def tell(sql, job, message):
    about = "INSERT INTO cloud_pod_events (tenant_id, job_id, type, message) VALUES (%s, %s, 'INFO', %s)"
    sql(about, TENANT, job, message)


def test_a_job_is_followed_to_its_success(cloudpods, made, sql, at_the_first_pause):
    tell(sql, made["new"], "SCALE queued")
    at_the_first_pause(ENDS, "success", None, made["new"])
    first, *shown = lines(cloudpods("show", made["new"], "--follow"))
    assert first.split(maxsplit=1)[1] == "SCALE queued"
    assert any(line.startswith("status   success") for line in shown)


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_a_job_that_comes_to_nothing_ends_the_command_with_its_reason(cloudpods, made, at_the_first_pause, status):
    at_the_first_pause(ENDS, status, "no space left", made["new"])
    *_, last = lines(cloudpods("show", made["new"], "--follow"), 1)
    assert last == f"cloudpods: SCALE ended as {status}: no space left (job {made['new']})"


def test_what_takes_longer_than_somebody_waits_goes_on(cloudpods, made):
    *_, last = lines(cloudpods("show", made["new"], "--follow", "--within", "0"), 1)
    assert last == f"cloudpods: SCALE is still queued after 0 s; job {made['new']} goes on"


def test_what_is_followed_as_json_is_json_only(cloudpods, made, sql, at_the_first_pause):
    tell(sql, made["new"], "SCALE queued")
    at_the_first_pause(ENDS, "success", None, made["new"])
    assert json.loads("\n".join(lines(cloudpods("show", made["new"], "--follow", "--json"))))["status"] == "success"


@pytest.fixture
def failed(rows, sql):
    """Make a failed backup; return its id."""
    payload = {"vmid": 9105, "tenantId": TENANT, "mode": "snapshot"}
    return rows.job("BACKUP", pod=rows.pod(vmid=9105), status="failed", payload=payload)


def test_a_failed_job_is_ordered_anew_and_a_worker_woken(cloudpods, tenants, failed, sql):
    told = dict(line.split(maxsplit=1) for line in lines(cloudpods("retry", failed)))
    assert (told["type"], told["status"], told["pod"].split()[0]) == ("BACKUP", "queued, 0 of 3 tries", "9105")
    assert sql("SELECT id FROM cloud_pod_jobs WHERE retry_of = %s", failed) == [(told["job"],)]
    assert Wakeups(tenants.redis_url).waiting("BACKUP") == 1


def test_a_retry_is_followed(cloudpods, failed, at_the_first_pause):
    at_the_first_pause("UPDATE cloud_pod_jobs SET status = 'success', finished_at = now() WHERE retry_of = %s", failed)
    first, *_ = lines(cloudpods("retry", failed, "--follow"))
    assert first.endswith("BACKUP queued")


def test_what_may_not_be_ordered_anew_is_said_in_a_line(cloudpods, made, failed, sql):
    (said,) = lines(cloudpods("retry", made["new"]), 1)
    assert said == "cloudpods: this job is queued still; follow it, or cancel it first"
    lines(cloudpods("retry", failed))
    (said,) = lines(cloudpods("retry", failed), 1)
    assert said.startswith("cloudpods: this was ordered anew already, as job ")


def test_a_job_that_nobody_began_is_cancelled_at_once(cloudpods, made, sql):
    told = dict(line.split(maxsplit=1) for line in lines(cloudpods("cancel", made["new"], "--wait")))
    assert told["status"] == "cancelled, 0 of 3 tries"
    assert sql.row("cloud_pod_jobs", made["new"])["status"] == "cancelled"


BEGUN = "status = 'running', attempt = 1, tries = 1, lease_until = now() + interval '1 hour'"


def test_a_job_that_was_begun_is_asked_to_end(cloudpods, made, sql):
    sql(f"UPDATE cloud_pod_jobs SET {BEGUN} WHERE id = %s", made["new"])
    told = dict(line.split(maxsplit=1) for line in lines(cloudpods("cancel", made["new"])))
    assert told["status"] == "stopping, 1 of 3 tries"
    (row,) = [line for line in lines(cloudpods("list")) if line.startswith(made["new"])]
    assert row.split()[2] == "stopping"


def test_a_job_that_was_done_before_it_could_be_cancelled_is_told_so(cloudpods, made, sql, at_the_first_pause):
    sql(f"UPDATE cloud_pod_jobs SET {BEGUN} WHERE id = %s", made["new"])
    at_the_first_pause("UPDATE cloud_pod_jobs SET status = 'success', lease_until = NULL WHERE id = %s", made["new"])
    *_, last = lines(cloudpods("cancel", made["new"], "--wait"), 1)
    assert last == f"cloudpods: SCALE ended as success (job {made['new']})"


def test_a_job_that_is_over_is_not_cancelled(cloudpods, made):
    (said,) = lines(cloudpods("cancel", made["old"]), 1)
    assert said == f"cloudpods: job {made['old']} is over: failed"


def test_what_fills_pages_is_cut_to_a_line_and_whole_as_json(cloudpods, rows):
    job = rows.job("BACKUP", status="success", payload={"vmid": 9101, "reason": "x" * 500})
    (payload,) = [line for line in lines(cloudpods("show", job)) if line.startswith("payload")]
    assert (len(payload), payload.endswith("… (--json)")) == (100, True)
    assert len(json.loads("\n".join(lines(cloudpods("show", job, "--json"))))["payload"]["reason"]) == 500


def test_what_a_node_said_gives_a_terminal_no_orders(cloudpods, rows, sql):
    said = "tar: \x1b]0;title\x07\x1b[2Jdisk full\nENDED"
    job = rows.job("BACKUP", pod=rows.pod(vmid=9101), status="failed", error=said, failure=Json({"left_behind": said}))
    sql("INSERT INTO cloud_pod_events (type, message, job_id, tenant_id) VALUES ('INFO', %s, %s, %s)", said, job, TENANT)
    shown = cloudpods("show", job, "--follow").output
    assert "tar: disk full" in shown
    assert "\x1b" not in shown
    assert "\nENDED" not in shown
