"""Orders, cancels and repeats by HTTP, and workers that do, fail, lose and hand back, in any order: all of it agrees."""

from typing import ClassVar

from hypothesis import HealthCheck, Phase
from hypothesis import settings as examples
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from shim import db
from shim.cloudpods import recount_by_hand
from shim.jobs import cancel, claim, many, state
from shim.jobs.catalog import ACTIONS
from shim.worker import outcome
from shim.worker.failure import stopped
from shim.worker.playbook import Outcome

TENANTS = ("TENANT-123", "TENANT-456")
TYPES = sorted(ACTIONS)
OVER = ("success", "failed", "cancelled")
NODES = ("lab1", "lab2")
CAP = 2
MOST_PODS = 5
ORDERS = {
    "destroy": ("destroy", {}),
    "scale up": ("scale", {"newCores": 2, "newMemoryMb": 1024}),
    "scale down": ("scale", {"newCores": 1, "newMemoryMb": 512}),
    "backup": ("backup", {}),
    "stop": ("actions", {"action": "stop"}),
    "start": ("actions", {"action": "start"}),
    "snapshot": ("snapshots", {"name": "before"}),
}
# A dry run of the others is not to be had.
REHEARSED = ("destroy", "scale", "backup", "actions")
# What may follow a pod's state from one step to the next. A destroy that is cancelled before it began changes nothing.
FOLLOWS = {
    "provisioning": {"active", "failed", "deleting", "deleted"},
    "active": {"deleting", "deleted"},
    "failed": {"deleting", "deleted"},
    "deleting": {"deleted", "active", "failed", "provisioning"},
    "deleted": set(),
}
# Which of what there is: as a number, since what there is depends on the clock, and what is drawn may not.
PICK = st.integers(0, 10_000)
# Told of a job on its way; each other event is of its end.
STEPS = ("queued", "progress", "retry", "wait", "look", "CANCEL_REQUESTED", "CANCEL_TOO_LATE", "JOB_RETRIED")


def picked(number, those):
    """Return one of these."""
    return those[number % len(those)]


class Orders(RuleBasedStateMachine):
    """Two tenants, two nodes, and workers that may write long after they lost a job."""

    api: ClassVar = None
    sql: ClassVar = None

    def __init__(self):
        super().__init__()
        for table in ("cloud_pod_events", "quota_entries", "cloud_pod_jobs", "cloud_pod_allocations", "cloud_pod_backups"):
            self.sql(f"SET session_replication_role = replica; DELETE FROM {table}; RESET session_replication_role")
        self.sql("DELETE FROM cloud_pod_snapshots")
        self.sql("DELETE FROM cloud_pods")
        used = ("cloud_pods", "cpu_cores", "ram_mb", "disk_gb")
        self.sql("UPDATE tenant_quotas SET " + ", ".join(f"used_{name} = 0" for name in used))
        self.sql("UPDATE cloud_pod_nodes SET max_running_jobs = %s, status = 'active'", CAP)
        self.held = []  # what workers believe to hold, older attempts too
        self.states = {}  # of pods, as last seen
        self.ended = {}  # jobs, as they were when they had ended

    @initialize()
    def pods_are_there(self):
        for tenant in TENANTS:
            self.create(tenant, dry=False)
        with db.session():
            while self._work_one():
                pass

    def post(self, path, body):
        answer = self.api.simulate_post(f"/internal{path}", json=body)
        assert answer.status_code in (200, 202, 409), answer.text
        return answer

    @rule(tenant=st.sampled_from(TENANTS), dry=st.booleans())
    def create(self, tenant, dry):
        if len(self.states) < MOST_PODS:
            self.post(
                f"/cloudpods{'?dryRun=1' if dry else ''}", {"tenantId": tenant, "hostname": "a", "cores": 1, "memoryMb": 512}
            )

    @rule(pick=PICK, order=st.sampled_from(sorted(ORDERS)), dry=st.sampled_from([False, False, False, True]))
    def order(self, pick, order, dry):
        pod = picked(pick, self.pods())
        verb, body = ORDERS[order]
        dry = dry and verb in REHEARSED
        tenant = self.sql.value("SELECT tenant_id FROM cloud_pods WHERE id = %s", pod)
        self.post(f"/cloudpods/{pod}/{verb}{'?dryRun=1' if dry else ''}", {"tenantId": tenant, **body})

    def pods(self):
        return [row[0] for row in self.sql("SELECT id FROM cloud_pods ORDER BY created_at, id")]

    def jobs(self):
        return [row[0] for row in self.sql("SELECT id FROM cloud_pod_jobs ORDER BY created_at, id")]

    @rule(pick=PICK, what=st.sampled_from(["cancel", "cancel", "retry"]))
    def cancel_or_retry(self, pick, what):
        self.post(f"/jobs/{picked(pick, self.jobs())}/{what}", {})

    @rule()
    def claim(self):
        with db.session():
            job = claim.claim(TYPES, worker="w", lease_s=30)
        if job is not None:
            self.held.append(job)

    @rule(pick=PICK, write=st.sampled_from(["succeed", "succeed", "fail", "again", "unknown", "end", "busy", "leave"]))
    def write(self, pick, write):
        if not self.held:
            return
        job = picked(pick, self.held)
        before = self.sql.row("cloud_pod_jobs", job.id)
        mine = before["status"] == "running" and before["attempt"] == job.attempt
        try:
            with db.session():
                self._write(job, write)
            assert mine, f"{write} of an older attempt was let through"
        except state.LostLease:
            assert not mine
            assert self.sql.row("cloud_pod_jobs", job.id) == before
        self.held = [each for each in self.held if each is not job or not mine]

    def _write(self, job, write):
        if job.cancel_requested_at is not None and write not in ("succeed", "busy"):
            outcome.write(job, Outcome(None, cancel.failure(job.cancel_requested_by, "nothing")))
            return
        if write == "busy":
            state.hand_back(job)
            return
        if job.cancel_requested_at is None and not job.lost:
            state.begin(job)
        if write == "leave":
            state.leave(job, stopped("its worker was told to stop"), no_try=job.tries > 0)
        else:
            outcome.write(job, self._outcome(job, write))

    def _outcome(self, job, write):
        failures = {
            "fail": {"msg": "no", "retryable": False, "left_behind": "nothing"},
            "again": {"msg": "not now", "retryable": True, "left_behind": "nothing"},
            "unknown": {"msg": "who knows", "retryable": True, "left_behind": "unknown"},
            "end": stopped("somebody ended it"),
        }
        return Outcome(self._result(job), None) if write == "succeed" else Outcome(None, failures[write])

    def _result(self, job):
        vmid = job.payload["vmid"]
        archive = {"volid": f"a:backup/{job.id}", "mode": "snapshot"}
        seen = {"vmid": vmid, "exists": True, "snapshots": [{"name": "before"}]}
        address = f"10.{vmid >> 16 & 255}.{vmid >> 8 & 255}.{vmid & 255}"
        return {"vmid": vmid, "ip": address, "changed": True, "archive": archive, "cloudpod": seen, "node": job.node_name}

    @rule()
    def time_passes(self):
        self.sql("UPDATE cloud_pod_jobs SET run_after = now() WHERE status = 'queued'")

    @rule(pick=PICK)
    def lease_runs_out(self, pick):
        running = [row[0] for row in self.sql("SELECT id FROM cloud_pod_jobs WHERE status = 'running' ORDER BY created_at, id")]
        if running:
            self.sql("UPDATE cloud_pod_jobs SET lease_until = '2026-01-01' WHERE id = %s", picked(pick, running))
            with db.session():
                state.collect_lost()

    @rule(node=st.sampled_from(NODES), status=st.sampled_from(["active", "offline"]))
    def node_comes_or_goes(self, node, status):
        self.sql("UPDATE cloud_pod_nodes SET status = %s WHERE name = %s", status, node)

    @invariant()
    def pods_go_their_way(self):
        now = dict(self.sql("SELECT id, status FROM cloud_pods"))
        for pod, status in now.items():
            before = self.states.get(pod, status)
            assert status == before or status in FOLLOWS[before], f"{before} → {status}"
        self.states = now

    @invariant()
    def one_change_of_a_pod_and_so_many_of_a_node(self):
        running = "SELECT count(*) FROM cloud_pod_jobs WHERE status = 'running'"
        assert not self.sql(f"{running} AND changes_pod GROUP BY cloud_pod_id HAVING count(*) > 1")
        # What is only to be ended waits for no place.
        assert not self.sql(f"{running} AND cancel_requested_at IS NULL GROUP BY node_id HAVING count(*) > %s", CAP)

    @invariant()
    def no_job_that_is_over_holds_anything_or_changes(self):
        over = "SELECT j.id FROM cloud_pod_jobs j JOIN quota_entries e ON e.job_id = j.id WHERE e.state = 'reserved'"
        assert not self.sql(f"{over} AND j.status = ANY(%s)", list(OVER))
        for (job,) in self.sql("SELECT id FROM cloud_pod_jobs WHERE status = ANY(%s)", list(OVER)):
            row = self.sql.row("cloud_pod_jobs", job)
            assert self.ended.setdefault(job, row) == row

    def teardown(self):
        """Whatever happened: once nodes and workers are well, every job ends, and all accounts agree."""
        self.sql("UPDATE cloud_pod_nodes SET status = 'active'")
        self.sql("UPDATE cloud_pod_jobs SET lease_until = '2026-01-01' WHERE status = 'running'")
        with db.session():
            state.collect_lost()
            while self._work_one():
                self.pods_go_their_way()
        assert not self.sql("SELECT id, type, status FROM cloud_pod_jobs WHERE status <> ALL(%s)", list(OVER))
        assert set(self.states.values()) <= {"active", "failed", "deleted"}
        told = "SELECT job_id, data->>'action' FROM cloud_pod_events WHERE data->>'action' <> ALL(%s)"
        ends = self.sql(f"{told} AND data->>'action' NOT LIKE 'QUOTA_%%'", list(STEPS))
        assert sorted(job for job, _ in ends) == sorted(self.jobs()), ends
        assert list(recount_by_hand.run(None, tenant=None, nodes=False, dry_run=True, as_json=False, wait_s=1))[-1].endswith(
            ", 0 differences"
        )

    def _work_one(self):
        self.time_passes()
        woken = {job for job, _ in many.to_announce(TYPES, 1000, 0.0)}
        job = claim.claim(TYPES, worker="w", lease_s=30)
        if job is not None:
            assert job.id in woken, "nobody would have been woken for it"
            self._write(job, "succeed")
        return job


def test_orders_keep_their_rules_under_any_order_of_things(api, sql):
    Orders.api, Orders.sql = api, sql
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    # To seek a shorter case of one that failed would take longer than anybody waits.
    how = {"derandomize": True, "phases": [Phase.generate], "suppress_health_check": checks}
    profile = examples(max_examples=10, stateful_step_count=35, deadline=None, **how)
    run_state_machine_as_test(Orders, settings=profile)
