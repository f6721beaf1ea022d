"""What choosing the next job costs when 10,000 wait, of 100 tenants on 4 nodes, beside 100,000 that ended.

A claim is measured whole, from the beginning of its transaction to its commit, on a connection that is open: at first the
planner knows nothing of the jobs that wait, then its statistics are fresh.
"""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from shim import db, migrations
from shim.embedded import account
from shim.embedded.postgres import Postgres
from shim.embedded.supervisor import Supervisor
from shim.jobs.catalog import ACTIONS
from shim.jobs.claim import claim
from tests.benchmarks.figures import Figure, percentile
from tests.benchmarks.filled import FILL

TENANTS, PODS, ENDED, NODES, QUEUED, CLAIMS = 100, 10_000, 100_000, 4, 10_000, 200
TYPES = ("CREATE", "SCALE", "BACKUP", "HEALTH_CHECK")
_QUEUE = """
INSERT INTO cloud_pod_jobs (cloud_pod_id, tenant_id, node_id, type, priority, changes_pod)
SELECT id, tenant_id, node_id, %(type)s, %(priority)s, %(changes_pod)s FROM cloud_pods
WHERE vmid %% %(types)s = %(number)s ORDER BY vmid
"""
_END = "UPDATE cloud_pod_jobs SET status = 'success', lease_until = NULL WHERE id = %s RETURNING id"


def measure() -> Iterator[Figure]:
    """Yield what a claim takes, beside its limit."""
    with _queued(), db.session():
        yield from _claims("nothing known of them")
        db.database.execute_sql("ANALYZE")
        yield from _claims("statistics fresh")


def _claims(how: str) -> Iterator[Figure]:
    taken: list[float] = []
    for _ in range(CLAIMS):
        began = time.monotonic()
        job = claim(list(ACTIONS), worker="benchmark", lease_s=3600)
        taken.append((time.monotonic() - began) * 1000)
        assert job is not None, "jobs wait and nodes have room"
        # Its node has room again.
        db.rows(_END, (job.id,))
    what = f"one claim of {QUEUED:,} queued, {ENDED:,} ended, {how}"
    yield Figure(f"{what}, median", statistics.median(taken), "ms", 5)
    yield Figure(f"{what}, p99", percentile(taken, 0.99), "ms")


@contextmanager
def _queued() -> Iterator[None]:
    """Connect to a database of its own where these jobs wait, told to the planner before they came."""
    home = Path(tempfile.mkdtemp(prefix="cloudpods-claim-"))
    home.chmod(0o711)
    supervisor = Supervisor()
    try:
        postgres = Postgres(account.choose(home), home)
        output = os.open(home / "servers.log", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        service = replace(postgres.service(), output=output)
        supervisor.start(service)
        assert supervisor.wait_until(service, postgres.answers, 60)
        db.connect(postgres.url, pool_size=2)
        with db.session():
            _fill()
        yield
    finally:
        db.database.close_all()
        supervisor.stop()
        shutil.rmtree(home, ignore_errors=True)


def _fill() -> None:
    migrations.upgrade()
    sizes = {"tenants": TENANTS, "pods": PODS, "jobs": ENDED, "events": 1, "nodes": NODES}
    db.database.execute_sql(FILL, sizes)
    # The planner's own helper would tell it in the midst of the measuring.
    db.database.execute_sql("ALTER TABLE cloud_pod_jobs SET (autovacuum_enabled = off)")
    db.database.execute_sql("ANALYZE")
    for number, type in enumerate(TYPES):
        about = {"priority": ACTIONS[type].priority, "changes_pod": ACTIONS[type].changes_pod}
        db.database.execute_sql(_QUEUE, {"type": type, "types": len(TYPES), "number": number, **about})
    assert db.rows("SELECT count(*) FROM cloud_pod_jobs WHERE status = 'queued'") == [(QUEUED,)]
