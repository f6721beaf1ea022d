"""Backups over HTTP: what a backup's outcome keeps, how it is listed, and what retention is asked for."""

import pytest

from shim import db
from shim.jobs.catalog import ACTIONS
from shim.worker.playbook import Outcome

TENANT, OTHER_TENANT = "TENANT-123", "TENANT-456"
PATH = "/internal/cloudpods/9101/backups"


def volid(day):
    return f"vzdump-backups:backup/vzdump-lxc-9101-2026_11_{day:02}-00_05_47.tar.zst"


def made(day, *removed):
    archive = {"volid": volid(day), "size_bytes": 5_000_000_000, "storage": "vzdump-backups", "mode": "snapshot"}
    return Outcome({"changed": True, "archive": archive, "removed": [volid(d) for d in removed], "cloudpod": {}}, None)


@pytest.fixture
def pod(rows):
    """Make an active pod and return its id."""
    return rows.pod(vmid=9101)


@pytest.fixture
def back_up(api, finish):
    """Return a way to back the pod up; it returns the playbook's variables."""

    def run(ending, **body):
        return finish(api.simulate_post("/internal/cloudpods/9101/backup", json={"tenantId": TENANT, **body}), ending)

    return run


@pytest.fixture
def days(api):
    """Return a way to list the pod's backups, as days of November."""

    def listed(query="", reference=9101, prefix="/internal"):
        answer = api.simulate_get(f"{prefix}/cloudpods/{reference}/backups", query_string=query)
        assert answer.status_code == 200, answer.text
        return [int(item["volid"].split("_")[2][:2]) for item in answer.json["items"]]

    return listed


@pytest.mark.parametrize("prefix", ["/internal", "/api"])
def test_a_backup_is_listed_with_all_that_is_known(api, pod, back_up, prefix):
    back_up(made(1))
    answer = api.simulate_get(f"{prefix}/cloudpods/9101/backups").json
    (item,) = answer["items"]
    assert answer["next"] is None
    whose = {"cloudPodId": pod, "tenantId": TENANT, "node": "lab1", "vmid": 9101, "status": "ready", "volid": volid(1)}
    assert item.items() >= {**whose, "sizeBytes": 5_000_000_000, "storage": "vzdump-backups", "mode": "snapshot"}.items()
    assert (item["drilledAt"], item["drillPassed"], item["removedAt"]) == (None, None, None)


def test_what_retention_took_away_is_listed_only_when_asked_for(pod, back_up, days):
    back_up(made(1))
    back_up(made(2))
    back_up(made(3, 1, 2))
    assert (days(), days("status=ready"), days("status=removed")) == ([3], [3], [2, 1])


def test_one_archive_is_one_row_however_many_jobs_name_it(pod, back_up, days, sql):
    back_up(made(1))
    back_up(made(1))
    assert days() == [1]
    assert sql.value("SELECT count(*) FROM cloud_pod_backups") == 1


def test_what_another_pod_has_is_not_taken_away(rows, pod, back_up, days, sql):
    back_up(made(1))
    sql("UPDATE cloud_pod_backups SET vmid = 9102")
    back_up(made(2, 1))
    assert days() == [2, 1]


def test_an_archive_that_a_sites_own_script_does_not_name_makes_no_row(pod, back_up, days, sql):
    back_up(Outcome({"changed": True, "archive": {"volid": None, "mode": "snapshot"}}, None))
    assert days() == []
    assert sql.value("SELECT last_backup_at IS NOT NULL FROM cloud_pods")


@pytest.mark.parametrize("odd", [{}, {"volid": ""}, {"volid": 5}, {"volid": "x" * 1_000_000}], ids=lambda odd: str(odd)[:20])
def test_an_archive_without_a_usable_name_is_an_unusable_result(pod, back_up, days, sql, odd):
    back_up(Outcome({"changed": True, "archive": odd}, None))
    assert days() == []
    assert "unusable" in sql.value("SELECT error FROM cloud_pod_jobs")


def test_a_deleted_pods_backups_are_still_listed_by_vmid_and_by_id(pod, back_up, days, sql):
    back_up(made(1))
    sql("UPDATE cloud_pods SET status = 'deleted', deleted_at = now()")
    assert days() == days(reference=pod) == [1]


def test_a_later_pod_of_the_same_vmid_has_backups_of_its_own(rows, pod, back_up, days, sql):
    back_up(made(1))
    sql("UPDATE cloud_pods SET status = 'deleted', deleted_at = now()")
    rows.pod(vmid=9101)
    back_up(made(2))
    assert (days(), days(reference=pod)) == ([2], [1])


def test_pages_have_no_gap_and_no_duplicate(api, pod, back_up):
    for day in range(1, 6):
        back_up(made(day))
    seen, cursor = [], ""
    while cursor is not None:
        answer = api.simulate_get(PATH, params={"limit": "2", **({"cursor": cursor} if cursor else {})}).json
        seen, cursor = seen + [item["volid"] for item in answer["items"]], answer["next"]
    assert seen == [volid(day) for day in (5, 4, 3, 2, 1)]


@pytest.mark.parametrize(
    ("query", "field"), [("status=gone", "status"), ("colour=red", "colour"), ("cursor=abc", "cursor"), ("limit=0", "limit")]
)
def test_a_bad_query_is_refused(api, pod, assert_problem, query, field):
    assert_problem(api.simulate_get(PATH, query_string=query), 422, "invalid_request", field=field)


@pytest.mark.parametrize("reference", ["9102", "nobody", "%00"])
def test_an_unknown_pod_is_not_found(api, pod, assert_problem, reference):
    assert_problem(api.simulate_get(f"/internal/cloudpods/{reference}/backups"), 404, "cloudpod_not_found")


KEPT = {
    "basic": {"keep_last": 2},
    "standard": {"keep_last": 2, "keep_daily": 7, "keep_weekly": 4},
    "enterprise": {"keep_last": 4, "keep_daily": 14, "keep_weekly": 8, "keep_monthly": 12},
}


@pytest.mark.parametrize("policy", KEPT)
def test_every_backup_hands_on_the_retention_of_the_tenants_plan(pod, back_up, sql, policy):
    sql("UPDATE plans SET backup_policy = %s", policy)
    assert back_up(made(1))["retention"] == KEPT[policy]


def test_the_plan_as_it_is_now_counts_not_as_it_was_sold(pod, back_up, sql):
    sql("UPDATE cloud_pods SET plan_snapshot = %s::jsonb", '{"backupPolicy": "enterprise"}')
    assert back_up(made(1))["retention"] == KEPT["basic"]


@pytest.fixture
def settled(rows, pod, sql):
    """Return a way to settle a lost backup of the pod, which had the archives of the 1st and 2nd, by what the node lists."""

    def settle(*listed):
        for day in (1, 2):
            rows.backup(pod, volid=volid(day))
        with db.session():
            job = rows.running("BACKUP", pod=pod, payload={"vmid": 9101, "mode": "suspend"}, lost=True)
            mine = {"tenant": TENANT, "pod": pod, "job": job.id, "size_bytes": 5}
            backups = [{**mine, **other, "volid": volid(day)} for day, other in listed]
            return ACTIONS["BACKUP"].handler.settle(job, {"vmid": 9101, "exists": True, "backups": backups})

    return settle


OTHERS = {"job": "an earlier one"}


def test_a_lost_backup_whose_archive_is_there_is_done_and_shows_what_retention_took(settled):
    result = settled((3, {}), (2, OTHERS))
    assert result["archive"] == {"volid": volid(3), "size_bytes": 5, "storage": "vzdump-backups", "mode": "suspend"}
    assert result["removed"] == [volid(1)]


@pytest.mark.parametrize("other", [OTHERS, {"job": None}, {"pod": "another", "tenant": OTHER_TENANT}], ids=str)
def test_a_lost_backup_whose_archive_is_not_there_runs_again(settled, other):
    assert settled((3, other), (2, OTHERS), (1, OTHERS)) is None
