"""Jobs under any order of claims, outcomes, lost leases and late writers: what must always hold, holds."""

from typing import ClassVar

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as examples
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from shim.jobs import claim, state
from shim.jobs.catalog import ACTIONS

TERMINAL = ("success", "failed", "cancelled")
FAILURE = {"msg": "no", "retryable": True, "left_behind": "nothing"}
CAP = 2


class Jobs(RuleBasedStateMachine):
    """Some pods on one node, jobs for them, and workers that may write long after they lost a job."""

    rows: ClassVar = None
    sql: ClassVar = None

    def __init__(self):
        super().__init__()
        for table in ("cloud_pod_jobs", "cloud_pod_allocations", "cloud_pods"):
            self.sql(f"DELETE FROM {table}")
        self.sql("UPDATE cloud_pod_nodes SET max_running_jobs = %s", CAP)
        self.pods = [self.rows.pod(allocation=False) for _ in range(3)]
        self.held = []  # what workers believe to hold, older attempts too
        self.ended = {}  # terminal rows as they were first seen
        self.asked = {pod: [] for pod in self.pods}  # changes in the order asked
        self.begun = {pod: [] for pod in self.pods}  # changes in the order of their first claim

    @rule(pod=st.integers(0, 2), type=st.sampled_from(sorted(ACTIONS)))
    def submit(self, pod, type):
        job = self.rows.job(type, pod=self.pods[pod])
        if ACTIONS[type].changes_pod:
            self.asked[self.pods[pod]].append(job)

    @rule(types=st.sets(st.sampled_from(sorted(ACTIONS)), min_size=1))
    def claim(self, types):
        due = self.sql.value("SELECT count(*) FROM cloud_pod_jobs WHERE status = 'queued' AND type = ANY(%s)", list(types))
        job = claim.claim(sorted(types), worker="w", lease_s=30)
        if job is None:
            return
        assert due > 0
        assert job.type in types
        assert not self._running_beside(job), "a second change of a pod was begun"
        self.held.append(job)
        if job.changes_pod and job.id not in self.begun[job.cloud_pod_id]:
            self.begun[job.cloud_pod_id].append(job.id)

    def _running_beside(self, job):
        beside = "SELECT id FROM cloud_pod_jobs WHERE status = 'running' AND changes_pod AND cloud_pod_id = %s AND id <> %s"
        return job.changes_pod and self.sql(beside, job.cloud_pod_id, job.id)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), write=st.sampled_from(["begin", "succeed", "fail", "run_again", "hand_back", "renew"]))
    def write(self, data, write):
        job = data.draw(st.sampled_from(self.held))
        before = self.sql.row("cloud_pod_jobs", job.id)
        mine = before["status"] == "running" and before["attempt"] == job.attempt
        if write == "renew":
            assert claim.renew(job, lease_s=30) is mine
            return
        try:
            {
                "begin": lambda: state.begin(job),
                "succeed": lambda: state.succeed(job, {}),
                "fail": lambda: state.fail(job, FAILURE),
                "run_again": lambda: state.run_again(job, FAILURE),
                "hand_back": lambda: state.hand_back(job),
            }[write]()
            assert mine, f"{write} of an older attempt was let through"
        except state.LostLease:
            assert not mine
            assert self.sql.row("cloud_pod_jobs", job.id) == before

    @rule()
    def time_passes(self):
        self.sql("UPDATE cloud_pod_jobs SET run_after = now() WHERE status = 'queued'")

    @rule(data=st.data())
    def lease_runs_out(self, data):
        running = [row[0] for row in self.sql("SELECT id FROM cloud_pod_jobs WHERE status = 'running' ORDER BY id")]
        if not running:
            return
        self.sql("UPDATE cloud_pod_jobs SET lease_until = '2026-01-01' WHERE id = %s", data.draw(st.sampled_from(running)))
        for job, _ in state.collect_lost():
            row = self.sql.row("cloud_pod_jobs", job)
            assert (row["status"], row["lost"]) == ("queued", True)

    @invariant()
    def a_lease_is_held_by_running_jobs_only(self):
        assert not self.sql("SELECT id FROM cloud_pod_jobs WHERE (status = 'running') <> (lease_until IS NOT NULL)")

    @invariant()
    def at_most_one_change_of_a_pod_runs(self):
        twice = (
            "SELECT cloud_pod_id FROM cloud_pod_jobs WHERE status = 'running' AND changes_pod GROUP BY 1 HAVING count(*) > 1"
        )
        assert not self.sql(twice)

    @invariant()
    def a_node_is_not_above_its_cap(self):
        assert self.sql.value("SELECT count(*) FROM cloud_pod_jobs WHERE status = 'running'") <= CAP

    @invariant()
    def an_ended_job_does_not_change(self):
        for (job,) in self.sql("SELECT id FROM cloud_pod_jobs WHERE status = ANY(%s)", list(TERMINAL)):
            row = self.sql.row("cloud_pod_jobs", job)
            assert self.ended.setdefault(job, row) == row
            assert row["finished_at"] is not None

    @invariant()
    def changes_begin_in_the_order_asked(self):
        for pod, begun in self.begun.items():
            assert begun == self.asked[pod][: len(begun)]


@pytest.mark.usefixtures("session")
def test_jobs_keep_their_rules_under_any_order_of_things(rows, sql):
    Jobs.rows, Jobs.sql = rows, sql
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    run_state_machine_as_test(
        Jobs, settings=examples(max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=checks)
    )
