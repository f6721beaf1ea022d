"""Taking a job and holding it: one UPDATE that chooses, one that renews."""

from shim import db
from shim.db import database
from shim.jobs.catalog import LONG, ONE_PER_NODE
from shim.jobs.models import CloudPodJob

# May run now: due; no earlier unfinished change of the same pod (which also means one change at a time, in the order asked,
# save that what the clock ordered and nobody began comes after what people order); the job that it comes after a success;
# its node not offline and below its cap, of which long jobs leave a place to others; for one of the types of which a node runs
# one at a time, none of these running there. A rehearsal takes no time and keeps nobody waiting, whatever its type. A lost
# run's job is re-run by whoever claims it.
# Each node with room gives its best by an index, however many wait, and one without room is not looked at.
_CLAIM = """
WITH room AS MATERIALIZED (
    SELECT n.id, r.alone = 0 AS for_alone, r.long < greatest(n.max_running_jobs - 1, 1) AS for_long
    FROM cloud_pod_nodes n CROSS JOIN LATERAL (
        SELECT count(*) AS all, count(*) FILTER (WHERE j.type = ANY(%(long)s) AND NOT j.dry_run) AS long,
               count(*) FILTER (WHERE j.type = ANY(%(alone)s) AND NOT j.dry_run) AS alone
        FROM cloud_pod_jobs j WHERE j.status = 'running' AND j.node_id = n.id
    ) r WHERE n.status <> 'offline' AND r.all < n.max_running_jobs
)
UPDATE cloud_pod_jobs SET status = 'running', attempt = attempt + 1, worker = %(worker)s,
       lease_until = now() + make_interval(secs => %(lease_s)s), started_at = coalesce(started_at, now())
WHERE id = (
    SELECT best.id FROM room CROSS JOIN LATERAL (
        SELECT j.id, j.priority, j.created_at FROM cloud_pod_jobs j
        WHERE j.node_id = room.id AND j.status = 'queued' AND NOT j.waits AND j.run_after <= now() AND j.type = ANY(%(types)s)
          AND (room.for_long OR j.dry_run OR j.type <> ALL(%(long)s))
          AND (room.for_alone OR j.dry_run OR j.type <> ALL(%(alone)s))
          AND NOT (j.changes_pod AND EXISTS (
              SELECT 1 FROM cloud_pod_jobs e WHERE e.cloud_pod_id = j.cloud_pod_id AND e.changes_pod
              AND e.status IN ('queued', 'running')
              AND (e.status = 'running' OR (e.scheduled AND NOT e.lost, e.created_at, e.id)
                                           < (j.scheduled AND NOT j.lost, j.created_at, j.id))))
        ORDER BY j.priority, j.created_at, j.id NULLS FIRST LIMIT 1 FOR UPDATE SKIP LOCKED
    ) best ORDER BY best.priority, best.created_at, best.id LIMIT 1
) RETURNING id
"""


# To a planner whose statistics know of no queued job, reading and sorting them all is as good as the index that has them in
# order, which alone has `id NULLS FIRST`, though none is NULL. What it takes such a plan to cost must not make it compile.
_BY_THE_INDEX = "SELECT set_config('enable_sort', 'off', true), set_config('jit', 'off', true)"


def claim(types: list[str], *, worker: str, lease_s: float) -> CloudPodJob | None:
    """Return the best job of these types that may run now, marked as this worker's; None when there is none."""
    with database.atomic():
        # Claims one after the other: two at once would each count a node's running jobs without the other's.
        db.lock("claim")
        db.rows(_BY_THE_INDEX)
        given = {"types": types, "alone": list(ONE_PER_NODE), "long": list(LONG), "worker": worker, "lease_s": lease_s}
        found = list(database.execute_sql(_CLAIM, given).fetchall())
        return CloudPodJob.find(found[0][0]) if found else None


def renew(job: CloudPodJob, *, lease_s: float) -> bool:
    """Hold the job longer. False when it is no longer this attempt's: the run must end and write nothing."""
    return bool(
        db.rows(
            "UPDATE cloud_pod_jobs SET lease_until = now() + make_interval(secs => %s)"
            " WHERE id = %s AND attempt = %s AND status = 'running' RETURNING id",
            (lease_s, job.id, job.attempt),
        )
    )


def expire(worker: str) -> None:
    """Give up the leases of a worker whose run died under it, so that the scheduler settles them at once."""
    database.execute_sql("UPDATE cloud_pod_jobs SET lease_until = now() WHERE worker = %s AND status = 'running'", (worker,))
