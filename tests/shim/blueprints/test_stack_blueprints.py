"""Deployments end to end, over a running stack. Nothing runs in its node's simulated pods, so that the steps are a site's own
roles, which only write files on this machine.

| role | does |
|---|---|
| site_database | prints the stack's secret, as a careless one might; writes a file |
| site_app | comes after it; writes a file |
| site_names | runs on no pod; writes a file, which its undoing removes |

Each waits, in one stack or the other, as long as a file is there, and fails when a file says so. Several stacks are deployed at
once, told from each other by their names: what goes wrong in one is none of the others' business.
"""

from __future__ import annotations

import copy
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stack import TENANT, Database, Stack, wait_until
from tests.stacks import SEED

# A machine that is busy with other tests takes its time.
DEADLINE_S = 600

STEPS = ("site-database", "site-app", "site-names")
# What may fail: a pod of this role as it is made, or a step.
PLACES = ("app", "db", *STEPS)
OVER = ("active", "failed", "rolled_back", "destroyed")
GONE = ("rolled_back", "destroyed")
META = {
    "site-database": "{runs_on: [db], requires: [db], variables: {site_secret: '{{ stack.secrets.database_password }}'}}",
    "site-app": "{runs_on: [app], after: [site_database], outputs: {url: 'https://{{ stack.tenant_slug }}.example.com/'}}",
    "site-names": "{after: [site_app], undo: true}",
}
FAIL = """---
- name: Wait as long as a file is there
  ansible.builtin.command: "{home}/wait {home}/hold/{what}.{{{{ stack.tenant_slug }}}}"
  changed_when: false

- name: Look whether it is to fail
  ansible.builtin.stat:
    path: "{home}/fail/{what}.{{{{ stack.tenant_slug }}}}"
  register: site_fails

- name: Fail
  ansible.builtin.fail:
    msg: it was told to, {{{{ stack.secrets.database_password }}}}
  when: site_fails.stat.exists

- name: Print what nobody may read
  ansible.builtin.debug:
    msg: "the secret is {{{{ stack.secrets.database_password }}}}"
"""
WRITE = """
- name: Write
  ansible.builtin.copy:
    content: "{{{{ inventory_hostname }}}}"
    dest: "{home}/done/{step}.{{{{ stack.tenant_slug }}}}"
    mode: "0600"
"""
UNDO = """
- name: Remove
  ansible.builtin.file:
    path: "{home}/done/{step}.{{{{ stack.tenant_slug }}}}"
    state: absent
"""


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """Make a folder with a site's roles."""
    made = Path(tempfile.mkdtemp(prefix="cloudpods-blueprints-"))
    made.chmod(0o711)
    for name in ("fail", "done", "hold"):
        (made / name).mkdir()
    wait = made / "wait"
    wait.write_text('#!/bin/sh\n[ -e "$1" ] && touch "$1.met"\nwhile [ -e "$1" ]; do sleep 0.1; done\n')
    wait.chmod(0o755)
    for step, meta in META.items():
        role = made / "roles" / step.replace("-", "_")
        for part in ("meta", "tasks"):
            (role / part).mkdir(parents=True)
        (role / "meta/blueprint.yml").write_text(meta)
        (role / "tasks/main.yml").write_text((FAIL + WRITE).format(home=made, step=step, what=step))
        (role / "tasks/undo.yml").write_text((FAIL + UNDO).format(home=made, step=step, what=f"undo-{step}"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="module")
def stack(home: Path) -> Iterator[Stack]:
    """Return a running stack with the blueprint, which looks at its node only when it is told to."""
    running = Stack(home)
    never = {f"CLOUDPODS_{look}_S": "0" for look in ("HEALTH_SWEEP", "RECONCILE", "NODE_SYNC")}
    running.environment |= {**never, "CLOUDPODS_ROLES_DIR": str(home / "roles")}
    spec = copy.deepcopy(SEED)
    # Listed the other way round than they must come.
    spec["postCreate"] = ["site-names", "site-app", "site-database"]
    try:
        running.lay_lab()
        running.start(workers=3, said=home / "said")
        running.seed()
        made = running.post("/internal/blueprints", name="Site", slug="site", spec=spec)
        assert made.status_code == 201, made.text
        yield running
        assert running.stop() == []
    finally:
        running.stop()


@pytest.fixture(autouse=True)
def begin_anew(stack: Stack, home: Path) -> Iterator[None]:
    """Begin each test with nothing there, whatever the one before left, and see that it leaves nothing itself."""
    yield
    stack.switch("reset")
    for file in (*home.glob("hold/*"), *home.glob("fail/*")):
        file.unlink()
    try:
        nothing_is_left(stack, home)
    finally:
        for row in stack.get("/internal/deployments")["items"]:
            if row["status"] not in GONE:
                destroy(stack, row)
        for file in home.glob("done/*"):
            file.unlink()


def nothing_is_left(stack: Stack, home: Path) -> None:
    """Fail when quota, shares of the node, its containers or addresses, or names are left of anything."""
    ask = Database(stack)
    assert ask("SELECT status, error FROM blueprint_deployments WHERE status NOT IN ('destroyed', 'rolled_back')") == []
    assert ask("SELECT DISTINCT used_cloud_pods, used_cpu_cores, used_ram_mb, used_disk_gb FROM tenant_quotas") == [
        (0, 0, 0, 0)
    ]
    assert ask("SELECT count(*) FROM quota_entries WHERE state = 'reserved'") == [(0,)]
    assert ask("SELECT count(*) FROM cloud_pod_allocations") == [(0,)]
    assert ask("SELECT count(*) FROM cloud_pod_jobs WHERE status IN ('queued', 'running')") == [(0,)]
    assert ask("SELECT count(*) FROM blueprint_deployments WHERE secrets <> '{}'") == [(0,)]
    assert containers(stack) == []
    assert "TENANT-" not in (stack.lab / "etc/migra/ipam-cloudpods.txt").read_text()
    assert list(home.glob("done/site-names.*")) == []


def containers(stack: Stack) -> list[int]:
    """Return the vmids of our pods on the node; below 1000 are the site's own."""
    return [vmid for file in (stack.lab / "etc/pve/lxc").glob("*.conf") if (vmid := int(file.stem)) >= 1000]


def deploy(stack, name, **more):
    answer = stack.post("/internal/blueprints/site/deploy", tenantId=TENANT, name=name, **more)
    assert answer.status_code == 202, answer.text
    return answer.json()["deployment"]


def now(stack, made):
    return stack.get(f"/internal/deployments/{made['id']}")


def ended(stack, made):
    wait_until(lambda: now(stack, made)["status"] in OVER, f"deployment {made['id']} is over", DEADLINE_S)
    return now(stack, made)


def told(stack, made):
    """Return what is told of each step."""
    return {step["name"]: step["status"] for step in now(stack, made)["steps"]}


def destroy(stack, *made):
    for each in made:
        stack.delete(f"/internal/deployments/{each['id']}")
    for each in made:
        after = ended(stack, each)
        assert after["status"] == "destroyed", after["error"]


def done(home, name):
    """Return the hosts on which the steps of a stack were done."""
    files = home.glob(f"done/*.tenant-123--{name}")
    return {file.name.split(".")[0]: file.read_text() for file in files}


def test_it_stands_and_goes_and_tells_no_secret(stack, home):
    made = ended(stack, deploy(stack, "one"))
    assert made["status"] == "active", made["error"]
    assert [step["name"] for step in made["steps"]] == list(STEPS)
    assert {step["status"] for step in made["steps"]} == {"done"}
    assert made["outputs"] == {"url": "https://tenant-123--one.example.com/"}
    hosts = {"site-database": "wp-db-tenant-123--one", "site-app": "wp-app-tenant-123--one", "site-names": "localhost"}
    assert done(home, "one") == hosts
    ((secret,),) = Database(stack)("SELECT secrets->>'database_password' FROM blueprint_deployments WHERE id = %s", made["id"])
    log = stack.session.get(f"{stack.url}/internal/jobs/{made['jobId']}/log", headers={"Accept": "text/plain"}, timeout=20).text
    assert "the secret is ********" in log
    # Undoing that fails keeps the stack, and is tried again.
    spoiled = home / "fail/undo-site-names.tenant-123--one"
    spoiled.touch()
    stack.delete(f"/internal/deployments/{made['id']}")
    after = ended(stack, made)
    assert (after["status"], "it was told to, ***" in after["error"]) == ("failed", True)
    assert len(containers(stack)) == 2
    everything = Database(stack)(
        "SELECT l.text FROM cloud_pod_job_logs l UNION ALL SELECT j::text FROM cloud_pod_jobs j"
        " UNION ALL SELECT e::text FROM cloud_pod_events e UNION ALL SELECT error FROM blueprint_deployments"
    )
    assert not [text for (text,) in everything if secret in text]
    assert secret not in (home / "said").read_text()
    spoiled.unlink()
    destroy(stack, made)


def deploy_failing(stack, home, *places, **more):
    """Deploy a stack for each of these places, which fails there; return them as they ended."""
    # Else a pod stands before its failure is arranged.
    stack.switch("delay", "pct create", 10)
    made = {}
    for place in places:
        if place in STEPS:
            (home / f"fail/{place}.tenant-123--at-{place}").touch()
        made[place] = deploy(stack, f"at-{place}", **more)
        for pod in made[place]["pods"]:
            if pod["role"] == place:
                stack.switch("fail", "pct start", "--vmid", pod["vmid"], "--message", "it was told to", "--times", 1)
    stack.switch("delay", "pct create", 0)
    after = {place: ended(stack, each) for place, each in made.items()}
    for place, each in after.items():
        assert each["failedStep"] == (place if place in STEPS else None), each["error"]
        assert "it was told to" in each["error"]
    return after


def test_a_failure_at_any_place_is_rolled_back(stack, home):
    for place, after in deploy_failing(stack, home, *PLACES).items():
        assert after["status"] == "rolled_back", f"{place}: {after['error']}"
        assert {pod["status"] for pod in after["pods"]} <= {"deleted", "failed"}


def test_what_failed_is_kept_and_goes_on_from_there_each_time(stack, home):
    (home / "fail/site-names.tenant-123--at-app").touch()
    made = deploy_failing(stack, home, "app", policy="keep")["app"]
    assert (made["status"], [pod["status"] for pod in made["pods"]]) == ("failed", ["failed", "active"])
    retry(stack, made)
    after = ended(stack, made)
    assert (after["status"], after["failedStep"]) == ("failed", "site-names"), after["error"]
    assert set(done(home, "at-app")) == {"site-database", "site-app"}
    assert len(containers(stack)) == 2
    (home / "fail/site-names.tenant-123--at-app").unlink()
    retry(stack, made)
    after = ended(stack, made)
    assert after["status"] == "active", after["error"]
    assert set(done(home, "at-app")) == set(STEPS)
    destroy(stack, made)


def retry(stack, made):
    answer = stack.post(f"/internal/deployments/{made['id']}/retry")
    assert answer.status_code == 202, answer.text


def kill_workers(stack):
    # Its servers have processes that are called workers too.
    stack.kill(f"{stack.state_dir} worker")


def test_it_ends_as_it_should_though_its_workers_are_killed_at_every_turn(stack, home):
    def kill_at(step, *names):
        held = [home / f"hold/{step}.tenant-123--{name}" for name in names]
        wait_until(lambda: all(Path(f"{file}.met").exists() for file in held), f"{step} is under way", DEADLINE_S)
        kill_workers(stack)
        for file in held:
            file.unlink()

    (home / "fail/site-names.tenant-123--fails").touch()
    for file in ("site-app.tenant-123--stands", "site-app.tenant-123--fails", "undo-site-names.tenant-123--fails"):
        (home / "hold" / file).touch()
    for command in ("pct create", "pct destroy"):
        stack.switch("delay", command, 5)
    stands, fails = deploy(stack, "stands"), deploy(stack, "fails")
    wait_until(lambda: stack.processes(of="cloudpod-create.sh"), "a pod is being made")
    kill_workers(stack)
    wait_until(lambda: told(stack, stands)["site-app"] == "running", "it is told how far it is", DEADLINE_S)
    kill_at("site-app", "stands", "fails")
    # The kills to come are not its job's: one that loses its worker three times is not tried again.
    after = ended(stack, stands)
    assert after["status"] == "active", after["error"]
    kill_at("undo-site-names", "fails")
    wait_until(lambda: stack.processes(of="cloudpod-destroy.sh"), "a pod is being destroyed", DEADLINE_S)
    kill_workers(stack)
    after = ended(stack, fails)
    assert (after["status"], after["failedStep"]) == ("rolled_back", "site-names"), after["error"]
    assert now(stack, stands)["status"] == "active"
    assert len(containers(stack)) == 2
    destroy(stack, stands)
    ordered = Database(stack)(
        "SELECT d.name, j.type, count(*) FROM cloud_pod_jobs j JOIN blueprint_deployments d ON d.id = j.deployment_id"
        " WHERE d.name IN ('stands', 'fails') GROUP BY 1, 2 ORDER BY 1, 2"
    )
    # The steps, and their undoing.
    once = [("BLUEPRINT", 2), ("CREATE", 2), ("DESTROY", 2)]
    assert ordered == [(name, *each) for name in ("fails", "stands") for each in once]


def test_it_is_destroyed_while_it_is_deployed(stack, home):
    held = home / "hold/site-app.tenant-123--late"
    held.touch()
    late = deploy(stack, "late")
    wait_until(Path(f"{held}.met").exists, "the step is under way", DEADLINE_S)
    stack.switch("delay", "pct create", 2)
    early = deploy(stack, "early")
    wait_until(lambda: stack.processes(of="cloudpod-create.sh"), "a pod is being made")
    destroy(stack, late, early)
    # The one whose step was under way is not played to its end.
    assert containers(stack) == []
    assert [done(home, name) for name in ("late", "early")] == [{"site-database": "wp-db-tenant-123--late"}, {}]
