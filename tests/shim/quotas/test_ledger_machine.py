"""The ledger under any order of orders, outcomes and recounts: used is what was committed, never negative or above."""

from typing import ClassVar

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as examples
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from shim.cloudpods.recount import recount
from shim.db import database
from shim.errors import QuotaExceeded
from shim.quotas import ledger
from shim.quotas.amount import NONE, Amount

TENANT, OTHER = "TENANT-123", "TENANT-456"
LIMIT = Amount(4, 8, 8, 8)
SIZES = st.builds(Amount, st.just(1), st.integers(1, 5), st.integers(1, 5), st.integers(1, 5))
USED = "used_cloud_pods, used_cpu_cores, used_ram_mb, used_disk_gb"


class Ledger(RuleBasedStateMachine):
    """Pods of two tenants, jobs that make, change and end them one after the other, as they were ordered."""

    rows: ClassVar = None
    sql: ClassVar = None

    def __init__(self):
        super().__init__()
        # As for a replica: events refuse to be deleted.
        self.sql("SET session_replication_role = replica")
        for table in ("quota_entries", "cloud_pod_events", "cloud_pod_jobs", "cloud_pod_allocations", "cloud_pods"):
            self.sql(f"DELETE FROM {table}")
        self.sql("SET session_replication_role = DEFAULT")
        limits = "max_cloud_pods = %s, max_cpu_cores = %s, max_ram_mb = %s, max_disk_gb = %s"
        nothing = "used_cloud_pods = 0, used_cpu_cores = 0, used_ram_mb = 0, used_disk_gb = 0"
        self.sql(f"UPDATE tenant_quotas SET {limits}, {nothing}", *LIMIT.values())
        self.sizes = {}  # what each pod has
        self.whose = {}
        self.queued = {}  # of each pod, (job, size asked for), in the order asked

    def _order(self, type, pod, size):
        job = self.rows.job(type, pod=pod, tenant_id=self.whose[pod])
        try:
            with database.atomic():
                ledger.reserve(self.whose[pod], job, pod, size)
        except QuotaExceeded as error:
            for name, limit in error.extra["limit"].items():
                others = error.extra["used"][name] + error.extra["reserved"][name]
                assert error.extra["asked"][name] > 0
                assert others + error.extra["asked"][name] > limit
            self._end(job, "cancelled")
            return False
        self.queued[pod].append((job, size))
        return True

    def _end(self, job, status):
        self.sql("UPDATE cloud_pod_jobs SET status = %s WHERE id = %s", status, job)

    @rule(tenant=st.sampled_from([TENANT, OTHER]), size=SIZES)
    def create(self, tenant, size):
        cores, ram_mb, disk_gb = size.values()[1:]
        columns = {"cores": cores, "memory_mb": ram_mb, "disk_gb": disk_gb, "status": "provisioning"}
        pod = self.rows.pod(allocation=False, tenant_id=tenant, **columns)
        self.sizes[pod], self.whose[pod], self.queued[pod] = NONE, tenant, []
        if not self._order("CREATE", pod, size):
            self.sql("UPDATE cloud_pods SET status = 'failed' WHERE id = %s", pod)
            del self.sizes[pod]

    @precondition(lambda self: self._standing())
    @rule(data=st.data(), size=SIZES)
    def scale(self, data, size):
        self._order("SCALE", data.draw(st.sampled_from(self._standing())), size)

    @precondition(lambda self: self._busy())
    @rule(data=st.data(), how=st.sampled_from(["commit", "settle", "release", "commit", "twice"]))
    def end(self, data, how):
        pod = data.draw(st.sampled_from(self._busy()))
        job, size = self.queued[pod].pop(0)
        fails = how == "release"
        with database.atomic():
            if how in ("commit", "twice"):
                ledger.commit(job)
            elif how == "settle":
                ledger.settle(self.whose[pod], job, pod, size)
            if how in ("release", "twice"):
                ledger.release(job)
        self._end(job, "failed" if fails else "success")
        self.sizes[pod] = self.sizes[pod] if fails else size
        self._write(pod)

    @precondition(lambda self: self._idle())
    @rule(data=st.data(), twice=st.booleans())
    def destroy(self, data, twice):
        pod = data.draw(st.sampled_from(self._idle()))
        job = self.rows.job("DESTROY", pod=pod, tenant_id=self.whose[pod])
        for _ in range(1 + twice):
            with database.atomic():
                ledger.give_back(self.whose[pod], job, pod)
        self._end(job, "success")
        self.sizes[pod] = NONE
        self._write(pod)

    @rule(tenant=st.sampled_from([TENANT, OTHER]))
    def count(self, tenant):
        assert [each for each in recount(tenant, mend=True) if each.kind != "share"] == []

    def _standing(self):
        return [pod for pod, size in self.sizes.items() if size]

    def _busy(self):
        return [pod for pod in self.sizes if self.queued[pod]]

    def _idle(self):
        return [pod for pod in self._standing() if not self.queued[pod]]

    def _write(self, pod):
        size = self.sizes[pod]
        if not size:
            self.sql("UPDATE cloud_pods SET status = 'deleted' WHERE id = %s", pod)
            del self.sizes[pod]
            return
        columns = "status = 'active', cores = %s, memory_mb = %s, disk_gb = %s"
        self.sql(f"UPDATE cloud_pods SET {columns} WHERE id = %s", *size.values()[1:], pod)

    @invariant()
    def used_is_the_sum_of_the_pods_and_within_the_limits(self):
        for tenant, *used in self.sql(f"SELECT tenant_id, {USED} FROM tenant_quotas"):
            mine = [size for pod, size in self.sizes.items() if self.whose[pod] == tenant]
            assert tuple(used) == sum(mine, NONE).values()
            assert all(0 <= value <= limit for value, limit in zip(used, LIMIT.values(), strict=True))

    @invariant()
    def used_is_the_sum_of_the_committed_entries(self):
        sums = ", ".join(f"coalesce(sum(e.{name}), 0)" for name in ("pods", "cpu_cores", "ram_mb", "disk_gb"))
        committed = "LEFT JOIN quota_entries e ON e.tenant_id = q.tenant_id AND e.state = 'committed'"
        for row in self.sql(f"SELECT {USED}, {sums} FROM tenant_quotas q {committed} GROUP BY q.id"):
            assert row[:4] == row[4:]

    @invariant()
    def what_is_queued_may_all_succeed(self):
        for tenant in (TENANT, OTHER):
            peak = NONE
            for pod, size in self.sizes.items():
                if self.whose[pod] == tenant:
                    most = size
                    for _, asked in self.queued[pod]:
                        most = most.or_more(asked)
                    peak += most
            assert peak.or_more(LIMIT) == LIMIT

    @invariant()
    def every_entry_has_its_events(self):
        its = "v.job_id = e.job_id AND v.data->>'action' = 'QUOTA_' || upper(e.state)"
        said = f"(SELECT count(*) FROM cloud_pod_events v WHERE {its})"
        assert not self.sql(f"SELECT id FROM quota_entries e WHERE e.job_id IS NOT NULL AND {said} <> 1")


@pytest.mark.usefixtures("session")
def test_the_ledger_keeps_its_rules_under_any_order_of_things(rows, sql):
    Ledger.rows, Ledger.sql = rows, sql
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    run_state_machine_as_test(
        Ledger, settings=examples(max_examples=25, stateful_step_count=40, deadline=None, suppress_health_check=checks)
    )
