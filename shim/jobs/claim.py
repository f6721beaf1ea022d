"""Taking a job and holding it: one UPDATE that chooses, one that renews."""

from dataclasses import asdict
from itertools import groupby
from operator import itemgetter

from shim import db
from shim.db import database
from shim.jobs.catalog import ACTIONS, LONG, ONE_PER_NODE
from shim.jobs.models import CloudPodJob
from shim.old_run import Run

# May run now: due; no earlier unfinished change of the same pod (which also means one change at a time, in the order asked,
# save that what the clock ordered and nobody began comes after what people order); the job that it comes after a success;
# its node not offline and below its cap, of which long jobs leave a place to others; for one of the types of which a node runs
# one at a time, none of these running there. A rehearsal takes no time and keeps nobody waiting, whatever its type; one that
# is to be ended is only looked into, and need not wait for a place: for those there are as many beyond the cap. A lost run's
# job is re-run by whoever claims it.
# Each node with room gives the best of each type that it has room for by an index, however many wait; where there is no room,
# nothing is looked at. `lower` names the indexes made for this, and no other: of what is queued or running statistics are
# always old, and a planner that believes it to be nothing takes any index of it for as good as any other.
_POD_IS_FREE = """NOT (j.changes_pod AND EXISTS (
              SELECT 1 FROM cloud_pod_jobs e WHERE e.cloud_pod_id = j.cloud_pod_id AND e.changes_pod
              AND lower(e.status) IN ('queued', 'running')
              AND (e.status = 'running' OR (e.scheduled AND NOT e.lost, e.created_at, e.id)
                                           < (j.scheduled AND NOT j.lost, j.created_at, j.id))))"""
_MAY_RUN = """
WITH room AS MATERIALIZED (
    SELECT n.id, n.max_running_jobs - r.all AS places, r.alone = 0 AS for_alone,
           r.long < greatest(n.max_running_jobs - 1, 1) AS for_long
    FROM cloud_pod_nodes n CROSS JOIN LATERAL (
        SELECT count(*) AS all, count(*) FILTER (WHERE j.type = ANY(%(long)s) AND NOT j.dry_run) AS long,
               count(*) FILTER (WHERE j.type = ANY(%(alone)s) AND NOT j.dry_run) AS alone
        FROM cloud_pod_jobs j WHERE j.lease_until IS NOT NULL AND j.node_id = n.id
    ) r WHERE n.status <> 'offline' AND r.all < 2 * n.max_running_jobs {nodes}
), may_run AS (
    SELECT best.*, room.places FROM room CROSS JOIN unnest(%(types)s::text[]) AS of (type) CROSS JOIN LATERAL (
        SELECT j.id, j.node_id, j.type, j.tenant_id, j.priority, j.turn, j.created_at FROM cloud_pod_jobs j
        WHERE room.places > 0
          AND j.node_id = room.id AND j.type = of.type AND lower(j.status) = 'queued' AND NOT j.waits AND NOT j.dry_run
          AND (room.for_long OR of.type <> ALL(%(long)s)) AND (room.for_alone OR of.type <> ALL(%(alone)s))
          AND j.run_after <= now()
          AND j.cancel_requested_at IS NULL AND {pod_is_free}
        ORDER BY j.priority, j.turn, j.created_at, j.id LIMIT %(each)s
    ) best
    UNION ALL
    SELECT best.*, room.places FROM room CROSS JOIN LATERAL (
        SELECT j.id, j.node_id, j.type, j.tenant_id, j.priority, j.turn, j.created_at FROM cloud_pod_jobs j
        WHERE j.node_id = room.id AND lower(j.status) = 'queued' AND NOT j.waits
          AND (j.dry_run OR j.cancel_requested_at IS NOT NULL) AND j.type = ANY(%(types)s) AND j.run_after <= now()
          -- The priority of what is to be ended: the index then gives no more than that where there is no place.
          AND j.priority <= CASE WHEN room.places > 0 THEN 2147483647 ELSE 0 END
          AND (room.places > 0 OR j.cancel_requested_at IS NOT NULL) AND {pod_is_free}
        ORDER BY j.priority, j.turn, j.created_at, j.id LIMIT %(each)s
    ) best
)
"""

# Of a node's the one whose turn it is; among nodes that of the tenant, then of the node, that was not served for longest:
# how far one node's queue has come says nothing about another's. Whoever holds a row just now is about to change it: then the
# next one is taken.
_TAKE_THE_BEST = """
, claimed AS (
    UPDATE cloud_pod_jobs SET status = 'running', attempt = attempt + 1, worker = %(worker)s,
           lease_until = now() + make_interval(secs => %(lease_s)s), started_at = coalesce(started_at, now()),
           -- A lost run's process is kept until whoever has the job now made sure of its end (`state.take_over`).
           run_host = coalesce(run_host, %(host)s), run_pid = coalesce(run_pid, %(pid)s),
           run_started = coalesce(run_started, %(started)s), run_attempt = coalesce(run_attempt, attempt + %(one)s)
    WHERE id = (
        SELECT j.id FROM (
            SELECT *, row_number() OVER (PARTITION BY node_id, priority ORDER BY turn, created_at, id) AS place FROM may_run
        ) best JOIN cloud_pod_jobs j ON j.id = best.id
        LEFT JOIN cloud_pod_claims c ON c.tenant_id = coalesce(best.tenant_id, '')
        LEFT JOIN cloud_pod_turns t ON t.node_id = best.node_id AND t.priority = best.priority
        WHERE lower(j.status) = 'queued'
        ORDER BY best.priority, best.place, c.claimed_at NULLS FIRST, t.claimed_at NULLS FIRST, best.created_at, best.id
        LIMIT 1 FOR UPDATE OF j SKIP LOCKED
    ) RETURNING id, node_id, tenant_id, priority, turn
), queue_went_on AS (
    INSERT INTO cloud_pod_turns AS t SELECT node_id, priority, turn, clock_timestamp() FROM claimed
    ON CONFLICT (node_id, priority) DO UPDATE SET turn = greatest(t.turn, excluded.turn), claimed_at = excluded.claimed_at
), tenant_served AS (
    INSERT INTO cloud_pod_claims SELECT coalesce(tenant_id, ''), clock_timestamp() FROM claimed
    ON CONFLICT (tenant_id) DO UPDATE SET claimed_at = excluded.claimed_at
)
SELECT id FROM claimed
"""
_CLAIM = _MAY_RUN.format(nodes="", pod_is_free=_POD_IS_FREE) + _TAKE_THE_BEST

_OF_EACH_NODE = "SELECT node_id, places, id, type FROM may_run ORDER BY node_id, priority, turn, created_at, id"
_BEST_OF_NODES = _MAY_RUN.format(nodes="AND n.id = ANY(%(nodes)s)", pod_is_free=_POD_IS_FREE) + _OF_EACH_NODE

_KINDS = {"alone": list(ONE_PER_NODE), "long": list(LONG)}

# Nor is it to read and sort what an index has in order. What it takes such a plan to cost must not make it compile.
_BY_THE_INDEX = (
    "SELECT set_config('enable_sort', 'off', true), set_config('enable_incremental_sort', 'off', true),"
    " set_config('jit', 'off', true)"
)


def claim(types: list[str], *, worker: str, lease_s: float, run: Run | None = None) -> CloudPodJob | None:
    """Return the best job of these types that may run now, marked as this worker's and this run's; None when there is none."""
    with database.atomic():
        # Claims one after the other: two at once would each count a node's running jobs without the other's.
        db.lock("claim")
        db.rows(_BY_THE_INDEX)
        given = {"types": types, **_KINDS, "each": 2, "worker": worker, "lease_s": lease_s}
        given |= {**asdict(run), "one": 1} if run else dict.fromkeys(("host", "pid", "started", "one"))
        found = list(database.execute_sql(_CLAIM, given).fetchall())
        return CloudPodJob.find(found[0][0]) if found else None


def may_run(nodes: list[str], each: int) -> list[tuple[int, list[tuple[str, str]]]]:
    """Return for each of these nodes with room how many places are free and (id, type) of what may run there now, best first.

    At most `each` of each type.
    """
    with database.atomic():
        db.rows(_BY_THE_INDEX)
        given = {"types": list(ACTIONS), **_KINDS, "each": each, "nodes": nodes}
        found = database.execute_sql(_BEST_OF_NODES, given).fetchall()
    # What is found where no place is free is to be ended, and needs none.
    return [(max(places, 1), [(row[2], row[3]) for row in best]) for (_, places), best in groupby(found, itemgetter(0, 1))]


def renew(job: CloudPodJob, *, lease_s: float) -> bool:
    """Hold the job longer. False when it is no longer this attempt's: the run must end and write nothing."""
    return bool(
        db.rows(
            "UPDATE cloud_pod_jobs SET lease_until = now() + make_interval(secs => %s)"
            " WHERE id = %s AND attempt = %s AND status = 'running' RETURNING id",
            (lease_s, job.id, job.attempt),
        )
    )
