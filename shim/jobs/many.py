"""What is done to many jobs at once, by the clock or beside a change that makes them vain."""

from shim import db
from shim.jobs.catalog import ACTIONS
from shim.quotas import ledger

# Each tenant's one after the other, the first as if it were ordered now by one who waits for nothing: what has just become old
# comes before what is younger, and no tenant's many before what others wait for.
_GO_FIRST = """
UPDATE cloud_pod_jobs j SET priority = %(best)s, turn = old.turn FROM (
    SELECT j.id, row_number() OVER (PARTITION BY j.node_id, j.tenant_id ORDER BY j.turn, j.created_at, j.id) + greatest(
        (SELECT t.turn FROM cloud_pod_turns t WHERE t.node_id = j.node_id AND t.priority = %(best)s),
        (SELECT max(e.turn) FROM cloud_pod_jobs e WHERE e.node_id = j.node_id AND e.priority = %(best)s AND e.type = j.type
         AND coalesce(e.tenant_id, '') = coalesce(j.tenant_id, '') AND lower(e.status) = 'queued'), 0) AS turn
    FROM cloud_pod_jobs j WHERE j.status = 'queued' AND j.type = ANY(%(types)s) AND j.priority > %(best)s
    AND j.created_at < now() - make_interval(secs => %(after_s)s)
) old WHERE j.id = old.id AND j.status = 'queued' AND j.priority > %(best)s
"""

_FORGET = """
WITH old AS (
    SELECT id FROM (
        SELECT id, row_number() OVER (PARTITION BY node_id, type ORDER BY created_at DESC, id DESC) AS place
        FROM cloud_pod_jobs WHERE cloud_pod_id IS NULL AND type = ANY(%s) AND status NOT IN ('queued', 'running')
    ) ended WHERE place > %s
)
DELETE FROM cloud_pod_jobs j WHERE id IN (SELECT id FROM old)
AND NOT EXISTS (SELECT 1 FROM cloud_pod_events e WHERE e.job_id = j.id) RETURNING id
"""


def forget_old(types: list[str], newest: int) -> int:
    """Drop the ended jobs of nodes as a whole, but for the newest of each type and node; return how many.

    One that an event refers to (written by an earlier release) stays: events do for good.
    """
    return len(db.rows(_FORGET, (types, newest)))


def let_the_oldest_go_first(types: list[str], after_s: float) -> None:
    """Give queued jobs of these types that are this old the best priority among the types: then the older goes first."""
    best = min(ACTIONS[type].priority for type in types)
    db.database.execute_sql(_GO_FIRST, {"best": best, "types": types, "after_s": after_s})


def cancel_scheduled(cloud_pod_id: str, why: str) -> None:
    """Cancel what the clock ordered of a pod and nobody began. Call in the transaction of the change that makes it vain."""
    cancelled = db.rows(
        "UPDATE cloud_pod_jobs SET status = 'cancelled', finished_at = now(), error = %s"
        " WHERE cloud_pod_id = %s AND scheduled AND changes_pod AND status = 'queued' AND NOT lost RETURNING id",
        (why, cloud_pod_id),
    )
    for (job_id,) in cancelled:
        ledger.release(job_id)


def cancel_looks(node_id: str, types: list[str], why: str) -> None:
    """Cancel these looks at a node, but for those that are just ending. Call in the transaction that makes them vain."""
    db.database.execute_sql(
        "UPDATE cloud_pod_jobs SET status = 'cancelled', lease_until = NULL, lost = false, finished_at = now(), error = %s"
        # An ending look may wait for the node's row, which the caller holds: nobody may wait for that look.
        " WHERE id = ANY(ARRAY(SELECT id FROM cloud_pod_jobs WHERE node_id = %s AND cloud_pod_id IS NULL AND type = ANY(%s)"
        " AND status IN ('queued', 'running') FOR UPDATE SKIP LOCKED))",
        (why, node_id, types),
    )


def to_announce(types: list[str], limit: int, after_s: float) -> list[tuple[str, str]]:
    """Return (id, type) of due jobs of these types that nobody was woken for lately, and note that they are announced now."""
    return [
        (row[0], row[1])
        for row in db.rows(
            # ARRAY, so that the choice is made once: a join with a subquery may run it, and its LIMIT, for each row again.
            "UPDATE cloud_pod_jobs SET woken_at = now() WHERE id = ANY(ARRAY("
            " SELECT j.id FROM cloud_pod_jobs j WHERE status = 'queued' AND run_after <= now() AND type = ANY(%s)"
            " AND NOT waits AND (woken_at IS NULL OR woken_at < now() - make_interval(secs => %s))"
            " ORDER BY priority, created_at, id LIMIT %s FOR UPDATE SKIP LOCKED)) RETURNING id, type",
            (types, after_s, limit),
        )
    ]
