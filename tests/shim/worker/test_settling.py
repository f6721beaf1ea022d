"""Which lost runs are done by what the node shows, and what each action hands to its playbook."""

import pytest

from shim.jobs.catalog import ACTIONS
from shim.worker import on_node, outcome, run

TENANT, OTHER_TENANT = "TENANT-123", "TENANT-456"
SCALE = {"vmid": 9101, "newCores": 4, "newMemoryMb": 4096}
pytestmark = pytest.mark.usefixtures("session")


@pytest.fixture
def job(request, rows):
    """Make a running job, whose type is the parameter, of pod 9101."""
    pod = rows.pod(vmid=9101, status="provisioning" if request.param == "CREATE" else "active")
    payload = SCALE if request.param == "SCALE" else {"vmid": 9101, "mode": "suspend"}
    return rows.running(request.param, pod=pod, payload=payload, lost=True)


def seen(job, **other):
    """Return what `cloudpod_info` says of a pod that is as a finished run leaves it."""
    whole = {"vmid": 9101, "exists": True, "in_pool": True, "unfinished": False, "busy": None, "status": "running"}
    owner = {"tenant": TENANT, "pod": job.cloud_pod_id}
    return {**whole, "owner": owner, "ip": "10.1.10.91", "cores": 4, "memory_mb": 4096, **other}


def settle(job, **other):
    return ACTIONS[job.type].handler.settle(job, seen(job, **other))


NOT_OURS = {
    "absent": {"exists": False},
    "not in the pool": {"in_pool": False},
    "unfinished": {"unfinished": True},
    "no owner": {"owner": None},
    "an empty owner": {"owner": {}},
    "another tenant's": {"owner": {"tenant": OTHER_TENANT, "pod": None}},
    "another pod's": {"owner": {"tenant": TENANT, "pod": "another"}},
}


@pytest.mark.parametrize("job", ["CREATE"], indirect=True)
def test_a_lost_create_is_done_when_the_pod_stands_whole_and_runs(job):
    result = settle(job)
    assert (result["vmid"], result["ip"]) == (9101, "10.1.10.91")


@pytest.mark.parametrize("job", ["SCALE"], indirect=True)
def test_a_lost_scale_is_done_when_the_pod_has_the_size_asked_for(job):
    assert settle(job)["vmid"] == 9101


@pytest.mark.parametrize("job", ["CREATE", "SCALE"], indirect=True)
@pytest.mark.parametrize("other", NOT_OURS.values(), ids=NOT_OURS)
def test_what_is_not_this_pod_whole_settles_nothing(job, other):
    assert settle(job, **other) is None


@pytest.mark.parametrize("job", ["CREATE"], indirect=True)
@pytest.mark.parametrize("status", ["stopped", "unknown", None])
def test_a_created_pod_that_does_not_run_is_not_done(job, status):
    assert settle(job, status=status) is None


@pytest.mark.parametrize("job", ["SCALE"], indirect=True)
@pytest.mark.parametrize("other", [{"cores": 2}, {"memory_mb": 2048}, {"cores": None}, {"memory_mb": "4096"}], ids=str)
def test_a_scale_half_way_is_not_done(job, other):
    assert settle(job, **other) is None


@pytest.mark.parametrize("job", ["DESTROY", "BACKUP", "HEALTH_CHECK"], indirect=True)
@pytest.mark.parametrize("exists", [True, False])
def test_other_lost_runs_run_again_whatever_is_seen(job, exists):
    assert settle(job, exists=exists) is None


@pytest.mark.parametrize("job", ["DESTROY", "BACKUP", "SCALE", "CREATE"], indirect=True)
def test_every_change_says_which_container_whose_and_which_run(job):
    variables = ACTIONS[job.type].handler.variables(job)
    guard = {"vmid": 9101, "tenant_id": TENANT, "pod_id": job.cloud_pod_id, "run_id": f"{job.id}.1"}
    assert variables.items() >= guard.items()


@pytest.mark.parametrize("job", ["BACKUP"], indirect=True)
def test_a_backup_hands_on_its_mode(job):
    assert ACTIONS["BACKUP"].handler.variables(job)["mode"] == "suspend"


@pytest.mark.parametrize("job", ["SCALE"], indirect=True)
def test_a_scale_hands_on_the_new_size(job):
    assert ACTIONS["SCALE"].handler.variables(job).items() >= {"cores": 4, "memory_mb": 4096}.items()


@pytest.mark.parametrize("job", ["HEALTH_CHECK"], indirect=True)
def test_a_health_check_names_its_vmid(job):
    assert ACTIONS["HEALTH_CHECK"].handler.variables(job) == {"vmids": [9101]}


@pytest.mark.parametrize(
    ("payload", "ip", "address"), [({}, "", {"auto_ip": True}), ({"ip": "10.1.10.91"}, "10.1.10.91", {"ip": "10.1.10.91"})]
)
def test_a_create_hands_on_the_pod_and_one_way_to_an_address(rows, payload, ip, address):
    pod = rows.pod(vmid=9101, status="provisioning", ip=ip)
    variables = ACTIONS["CREATE"].handler.variables(rows.running("CREATE", pod=pod, payload={"vmid": 9101, **payload}))
    size = {"cores": 2, "memory_mb": 2048, "swap_mb": 512, "disk_gb": 8, "storage": "clients-main", "bridge": "vmbr0"}
    assert variables.items() >= {**size, **address, "hostname": "client-portal"}.items()
    assert len({"ip", "auto_ip"} & set(variables)) == 1


LOST_THRICE = [
    ("CREATE", {}, True, "container 9101"),
    ("CREATE", {}, False, "nothing"),
    ("RESTORE", {"asNew": True}, True, "container 9101"),
    ("RESTORE", {"asNew": False}, True, "unknown"),
    ("POWER", {"action": "reboot"}, True, "unknown"),
    ("BACKUP", {}, True, "unknown"),
    ("HEALTH_CHECK", {}, True, "nothing"),
    ("RESTORE_DRILL", {}, True, "its copy, container 900009101; the next drill of the pod removes it"),
]


@pytest.mark.parametrize(("type", "payload", "exists", "left"), LOST_THRICE)
def test_after_the_last_lost_run_only_a_new_pods_container_is_a_leftover(
    rows, tenants, monkeypatch, type, payload, exists, left
):
    """The others' container was there before: whoever read of it as a leftover would remove the pod."""
    archive = {"archive": "a:backup/b", "backupId": "b", "asNew": False}
    job = rows.running(
        type, pod=rows.pod(vmid=9101), lost=True, tries=3, payload={"vmid": 9101, **archive, **payload}, max_tries=3
    )
    monkeypatch.setattr(on_node, "look", lambda *_: ({"vmid": 9101, "exists": exists, "owner": None, "backups": []}, None))
    ending = run._settle(job, tenants, None)
    assert (ending.failure["left_behind"], ending.failure["retryable"]) == (left, False)


NO_WORD = [
    (None, {"msg": "nobody knows yet: no route", "left_behind": "unknown", "looking": True}),
    ({"busy": "migrate"}, None),
]


@pytest.mark.parametrize(("seen", "trouble"), NO_WORD, ids=["away", "busy"])
def test_a_lost_job_whose_node_never_says_what_became_of_it_fails_at_last(rows, tenants, monkeypatch, sql, seen, trouble):
    monkeypatch.setattr(on_node, "look", lambda *_: (seen, trouble))
    now = sql.value("SELECT now()")
    job = rows.running("SCALE", pod=rows.pod(vmid=9101), payload=SCALE, lost=True, started_at=now)
    assert run._settle(job, tenants, None) is None
    assert job.status == "queued"
    job = rows.running("SCALE", pod=rows.pod(), payload=SCALE, lost=True, started_at=now - outcome.WAIT_AT_MOST)
    ending = run._settle(job, tenants, None)
    assert (ending.failure["left_behind"], ending.failure["retryable"]) == ("unknown", False)
    assert "longer than 24 hours" in ending.failure["msg"]
    outcome.write(job, ending)
    assert sql.row("cloud_pod_jobs", job.id)["status"] == "failed"


def test_where_nobody_can_use_what_the_node_shows_the_job_is_run_again_as_often_as_others(rows, tenants, monkeypatch):
    """Its run would end there, before it is counted, and the next one after it, for ever."""
    shown = {"vmid": 9101, "exists": True, "busy": None, "backups": [{"volid": "a:backup/b"}]}
    monkeypatch.setattr(on_node, "look", lambda *_: (shown, None))
    job = rows.running("BACKUP", pod=rows.pod(vmid=9101), payload={"vmid": 9101, "mode": "snapshot"}, lost=True, max_tries=2)
    assert (run._settle(job, tenants, None), job.status, job.failure["left_behind"]) == (None, "running", "unknown")
    job.tries = 2
    ending = run._settle(job, tenants, None)
    assert (ending.failure["left_behind"], ending.failure["retryable"]) == ("unknown", False)
