"""Quotas under a storm: 200 clients create, scale and destroy at random over 20 tenants while workers are killed.

| what | how much |
|---|---|
| clients, tenants, time | 200 threads, 20 tenants, 60 s, each client a request every few seconds |
| admitted orders | at most `RUNS`, each a run of Ansible: beside them clients ask for what no quota has, and are refused |
| killed | a worker, its child or a playbook, every few seconds |
| watched | `used_*`, reservations and limits of every tenant, several times a second, from beginning to end |
"""

from __future__ import annotations

import http.client
import json
import random
import shutil
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.stack import Database, Stack, wait_until

pytestmark = pytest.mark.timeout(2400)

CLIENTS, STORM_S, KILL_EVERY_S, PAUSE_S = 200, 60.0, 8.0, 4.0
# How many orders may be admitted, in bursts over the whole time: a run costs seconds of a small machine.
BURSTS = (20, 8, 8, 8, 8, 8)
RUNS = sum(BURSTS)
TENANTS = [f"STORM-{number}" for number in range(20)]
LIMITS = {"pods": 2, "cores": 4, "ram_mb": 2048, "disk_gb": 16}
# The last events of jobs, by what became of them.
ENDS = {
    ("CREATE", "success"): "CREATED",
    ("CREATE", "failed"): "CREATE_FAILED",
    ("SCALE", "success"): "SCALED",
    ("SCALE", "failed"): "SCALE_FAILED",
    ("DESTROY", "success"): "DESTROYED",
    ("DESTROY", "failed"): "DESTROY_FAILED",
}
# Whatever may still be taken counts: of each pod what it may grow by at most.
BEYOND = """
SELECT q.tenant_id, q.used_cloud_pods, q.used_cpu_cores, q.used_ram_mb, q.used_disk_gb, r.* FROM tenant_quotas q
CROSS JOIN LATERAL (
    SELECT coalesce(sum(p.pods), 0) AS pods, coalesce(sum(p.cores), 0) AS cores, coalesce(sum(p.ram), 0) AS ram,
           coalesce(sum(p.disk), 0) AS disk
    FROM (SELECT max(greatest(pods, 0)) AS pods, max(greatest(cpu_cores, 0)) AS cores, max(greatest(ram_mb, 0)) AS ram,
                 max(greatest(disk_gb, 0)) AS disk
          FROM quota_entries WHERE tenant_id = q.tenant_id AND state = 'reserved' GROUP BY cloud_pod_id) p
) r
WHERE least(q.used_cloud_pods, q.used_cpu_cores, q.used_ram_mb, q.used_disk_gb) < 0
   OR q.used_cloud_pods + r.pods > q.max_cloud_pods OR q.used_cpu_cores + r.cores > q.max_cpu_cores
   OR q.used_ram_mb + r.ram > q.max_ram_mb OR q.used_disk_gb + r.disk > q.max_disk_gb
"""


class Storm:
    """What the clients share: how many orders may still be admitted, what was answered, which pods there are."""

    def __init__(self, stack: Stack, database: Database) -> None:
        self.stack, self.database = stack, database
        self.over = threading.Event()
        self.tickets = threading.Semaphore(0)
        self.lock = threading.Lock()
        self.answers: Counter[tuple[int, str]] = Counter()
        self.jobs: list[str] = []
        self.pods: dict[str, list[str]] = defaultdict(list)
        self.beyond: list[tuple[object, ...]] = []
        self.looks = 0
        self.scaled = threading.Event()

    def blow(self) -> None:
        """Let orders be admitted, burst after burst, and end the storm."""
        for burst in BURSTS:
            self.tickets.release(burst)
            time.sleep(STORM_S / len(BURSTS))
        wait_until(self.scaled.is_set, "a pod stood long enough to be scaled", 600)
        self.over.set()

    def client(self, number: int) -> None:
        """Send orders of one tenant until the storm is over."""
        dice, tenant = random.Random(number), TENANTS[number % len(TENANTS)]
        while not self.over.wait(dice.uniform(0, 2 * PAUSE_S)):
            if self.tickets.acquire(blocking=False):
                if self.send(*self.order(dice, tenant)) != 202:
                    self.tickets.release()
            else:
                self.send(tenant, "", {"hostname": "too-large", "cores": LIMITS["cores"] + 1, "memoryMb": 64})

    def order(self, dice: random.Random, tenant: str) -> tuple[str, str, dict[str, object]]:
        with self.lock:
            pod = dice.choice(self.pods[tenant] or [""])
        # On a slow machine the first pods would be the last as well, and no size be changed.
        action = dice.choice(["create", "create", "scale", "destroy"]) if self.scaled.is_set() else "scale"
        if action == "create" or not pod:
            size = {"cores": dice.randint(1, 3), "memoryMb": 512 * dice.randint(1, 3), "diskGb": 8}
            return tenant, "", {"hostname": f"pod-{dice.randrange(1000)}", **size}
        if action == "scale":
            return tenant, f"/{pod}/scale", {"newCores": dice.randint(1, 4), "newMemoryMb": 512 * dice.randint(1, 4)}
        return tenant, f"/{pod}/destroy", {}

    def send(self, tenant: str, path: str, body: dict[str, object]) -> int:
        """Send an order; note what was answered, the job and the pod."""
        connection = http.client.HTTPConnection("127.0.0.1", self.stack.port, timeout=120)
        headers = {"Authorization": self.stack.session.headers["Authorization"], "Content-Type": "application/json"}
        connection.request("POST", f"/internal/cloudpods{path}", json.dumps({"tenantId": tenant, **body}), headers)
        answer = connection.getresponse()
        said = json.loads(answer.read())
        connection.close()
        with self.lock:
            self.answers[answer.status, said.get("code", "")] += 1
            if answer.status == 202:
                self.jobs.append(said["job"]["id"])
                if path.endswith("/scale"):
                    self.scaled.set()
                if not path:
                    self.pods[tenant].append(said["cloudPod"]["id"])
        return answer.status

    def watch(self) -> None:
        """Look at every quota until the storm is over, and keep each that is not within its limits."""
        with self.database.session() as cursor:
            while not self.over.wait(0.2):
                cursor.execute(BEYOND)
                self.beyond += cursor.fetchall()
                self.looks += 1

    def kill(self) -> None:
        """Kill something that runs jobs, again and again, until the storm is over."""
        dice = random.Random(0)
        while not self.over.wait(KILL_EVERY_S):
            # PostgreSQL has workers of its own.
            worker = f"{self.stack.state_dir} worker"
            victims = self.stack.processes(of=dice.choice([worker, worker, "ansible-playbook"]))
            if victims:
                with suppress(psutil.NoSuchProcess):
                    dice.choice(victims).kill()


@pytest.fixture
def stack() -> Iterator[Stack]:
    """Return a running stack that looks at nothing by the clock."""
    home = Path(tempfile.mkdtemp(prefix="cloudpods-storm-"))
    home.chmod(0o711)
    running = Stack(home)
    running.environment |= {"CLOUDPODS_HEALTH_SWEEP_S": "0", "CLOUDPODS_RECONCILE_S": "0", "CLOUDPODS_LEASE_S": "15"}
    try:
        running.lay_lab()
        running.start(workers=4)
        running.seed("--max-jobs", "8")
        yield running
        assert running.stop() == []
    finally:
        running.stop()
        shutil.rmtree(home, ignore_errors=True)


def make_tenants(database: Database) -> None:
    for tenant in TENANTS:
        database(
            "INSERT INTO tenants (id, name, slug, owner_user_id, plan_id)"
            " SELECT %s, %s, lower(%s), owner_user_id, plan_id FROM tenants ORDER BY id LIMIT 1",
            *[tenant] * 3,
        )
        limits = "max_cloud_pods, max_cpu_cores, max_ram_mb, max_disk_gb"
        database(f"INSERT INTO tenant_quotas (tenant_id, {limits}) VALUES (%s, %s, %s, %s, %s)", tenant, *LIMITS.values())


def test_no_quota_is_ever_exceeded_and_nothing_is_lost_in_a_storm(stack):
    database = Database(stack)
    make_tenants(database)
    storm = Storm(stack, database)
    unfinished = "SELECT count(*) FROM cloud_pod_jobs WHERE status IN ('queued', 'running')"
    with ThreadPoolExecutor(CLIENTS + 2) as pool:
        clients = [pool.submit(storm.client, number) for number in range(CLIENTS)]
        others = [pool.submit(storm.watch), pool.submit(storm.kill)]
        storm.blow()
        for each in [*clients, *others]:
            each.result()
    wait_until(lambda: database(unfinished) == [(0,)], "every job is over", 1200)

    assert storm.beyond == [], "a quota was exceeded or negative"
    assert storm.looks > 10
    assert {status for status, _ in storm.answers} <= {202, 404, 409, 429, 503}, storm.answers
    assert storm.answers[409, "quota_exceeded"] > 20
    assert len(TENANTS) < len(storm.jobs) <= RUNS
    assert {type for (type,) in database("SELECT DISTINCT type FROM cloud_pod_jobs")} >= {"CREATE", "SCALE", "DESTROY"}
    check_jobs(storm, database)
    check_ledger(database)
    assert stack.cloudpods("quota", "recount", "--dry-run", "--nodes") == f"{len(TENANTS) + 2} tenants counted, 0 differences\n"


def check_jobs(storm: Storm, database: Database) -> None:
    """Every admitted order is a job which was told of when it was queued and when it ended."""
    found = database(
        "SELECT j.id, j.type, j.status, array_agg(e.data->>'action' ORDER BY e.seq) FROM cloud_pod_jobs j"
        " LEFT JOIN cloud_pod_events e ON e.job_id = j.id WHERE j.cloud_pod_id IS NOT NULL GROUP BY j.id"
    )
    assert {row[0] for row in found} == set(storm.jobs)
    for id, type, status, actions in found:
        assert (actions[0], actions[-1]) == ("queued", ENDS[type, status]), (id, type, status, actions)
        assert (actions.count("queued"), actions.count(ENDS[type, status])) == (1, 1)


def check_ledger(database: Database) -> None:
    """Nothing is reserved any more, and every entry was told of once when it was reserved and once when it was settled."""
    found = database(
        "SELECT j.type, e.state, (SELECT array_agg(v.data->>'action' ORDER BY v.seq) FROM cloud_pod_events v"
        " WHERE v.job_id = e.job_id AND v.data->>'action' LIKE 'QUOTA_%')"
        " FROM quota_entries e JOIN cloud_pod_jobs j ON j.id = e.job_id"
    )
    for type, state, actions in found:
        reserved = [] if type == "DESTROY" else ["QUOTA_RESERVED"]
        assert actions == [*reserved, f"QUOTA_{state.upper()}"], (type, state, actions)
    assert {state for _, state, _ in found} <= {"committed", "released"}
    told = "SELECT count(*) FROM cloud_pod_events WHERE data->>'action' IN ('QUOTA_COMMITTED', 'QUOTA_RELEASED')"
    assert database(told) == [(len(found),)]
