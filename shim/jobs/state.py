"""A job's way: queued → running → success | failed, running → queued to run again. Every write is fenced by the attempt.

| from | to | when | function |
|---|---|---|---|
| running | success | the playbook's result is in | `succeed` |
| running | failed | a failure that no further run will mend | `fail` |
| running | queued | a failure worth another run; the pod is busy | `run_again`, `hand_back` |
| running | queued | the node knows the new pod's vmid or address for somebody else's, and it has another now | `begin_anew` |
| running | queued, lost | a failure that left nobody knows what | `look_first` |
| running | queued, lost | the lease ran out | `collect_lost` |
| queued | failed | the job that it comes after failed | `fail_unbegun` |
| queued | cancelled | the clock ordered it, and its pod is to be destroyed | `cancel_scheduled` |
| queued, running | cancelled | a look at a node that is to be deleted; a run ends when it finds that out | `cancel_looks` |
"""

import random
from typing import Any

from shim import db
from shim.errors import CloudPodsError
from shim.jobs.catalog import ACTIONS
from shim.jobs.models import CloudPodJob
from shim.quotas import ledger

BACKOFF_MAX_S = 60.0
LOOK_PAUSE_S = 2.0

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


class LostLease(CloudPodsError):
    """The job is no longer this attempt's; nothing may be written in its name."""

    code = "lost_lease"


def begin(job: CloudPodJob) -> None:
    """Count a run of the action's playbook."""
    _write(job, "tries = tries + 1", ())
    job.tries += 1


def succeed(job: CloudPodJob, result: dict[str, Any]) -> None:
    """End the job well. Call in one transaction with what the result means."""
    _end(job, "success", result=result)


def keep(job: CloudPodJob, result: dict[str, Any]) -> None:
    """Store this as the result of a job that has just succeeded, in the place of what its playbook gave."""
    CloudPodJob.update(result=result).where(CloudPodJob.id == job.id, CloudPodJob.attempt == job.attempt).execute()


def forget_old(types: list[str], newest: int) -> int:
    """Drop the ended jobs of nodes as a whole, but for the newest of each type and node; return how many.

    One that an event refers to (written by an earlier release) stays: events do for good.
    """
    return len(db.rows(_FORGET, (types, newest)))


def fail(job: CloudPodJob, failure: dict[str, Any]) -> None:
    """End the job badly; `failure` has msg, retryable, left_behind."""
    _end(job, "failed", failure=failure)


def fail_unbegun(job: CloudPodJob, failure: dict[str, Any]) -> None:
    """End a job badly that nobody may begin any more."""
    ended = CloudPodJob.update(status="failed", failure=failure, error=failure["msg"], finished_at=db.now())
    ended.where(CloudPodJob.id == job.id, CloudPodJob.status == "queued").execute()
    job.status = "failed"


def run_again(job: CloudPodJob, failure: dict[str, Any]) -> float:
    """Put the job back for another run after a growing pause; return the pause in seconds."""
    pause_s = min(BACKOFF_MAX_S, 2.0 ** max(job.tries, 1)) * random.uniform(0.75, 1.25)
    _requeue(job, pause_s, failure)
    return pause_s


def hand_back(job: CloudPodJob, trouble: dict[str, Any] | None = None, *, counted: bool = False) -> float:
    """Put the job back as it is: it could not be begun, or (`counted`) only to find its pod busy; return the pause in seconds.

    The pause grows with each claim that came to nothing. `trouble` is the failure to show meanwhile.
    """
    if counted:
        _write(job, "tries = tries - 1", ())
        job.tries -= 1
    pause_s = min(BACKOFF_MAX_S, float(max(job.attempt - job.tries, 1)))
    _requeue(job, pause_s, trouble, lost=job.lost)
    return pause_s


def begin_anew(job: CloudPodJob, payload: dict[str, Any], failure: dict[str, Any]) -> None:
    """Put the job back to be run at once with another payload; the run that came to nothing is no try."""
    CloudPodJob.update(payload=payload, tries=CloudPodJob.tries - 1).where(_fence(job)).execute()
    _requeue(job, 0.0, failure)


def look_first(job: CloudPodJob, failure: dict[str, Any]) -> None:
    """Put the job back to be settled by a look at the node: its run ended badly and nobody knows what it left there."""
    _requeue(job, LOOK_PAUSE_S, failure, lost=True)


def collect_lost() -> list[tuple[str, str]]:
    """Put jobs whose lease ran out back, marked as lost; return (id, type) of each."""
    return [
        (row[0], row[1])
        for row in db.rows(
            "UPDATE cloud_pod_jobs SET status = 'queued', lost = true, lease_until = NULL, woken_at = NULL,"
            # A worker that dies before it begins a run, again and again, must not spin.
            " run_after = now() + make_interval(secs => LEAST(60, GREATEST(0, attempt - tries)))"
            " WHERE status = 'running' AND lease_until < now() RETURNING id, type"
        )
    ]


def let_the_oldest_go_first(types: list[str], after_s: float) -> None:
    """Give queued jobs of these types that are this old the best priority among the types: then the older goes first."""
    best = min(ACTIONS[type].priority for type in types)
    db.database.execute_sql(
        "UPDATE cloud_pod_jobs SET priority = %s WHERE status = 'queued' AND type = ANY(%s) AND priority > %s"
        " AND created_at < now() - make_interval(secs => %s)",
        (best, types, best, after_s),
    )


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


def _end(job: CloudPodJob, status: str, *, result: dict[str, Any] | None = None, failure: dict[str, Any] | None = None) -> None:
    # On success the traces of earlier tries go: `error` is why a job failed, not how often it stumbled.
    columns = CloudPodJob.update(
        status=status,
        result=result,
        failure=failure,
        error=failure["msg"] if failure else None,
        lease_until=None,
        lost=False,
        finished_at=db.now(),
    ).where(_fence(job))
    if columns.execute() != 1:
        raise LostLease(f"job {job.id} is no longer attempt {job.attempt}'s")
    job.status = status


def _requeue(job: CloudPodJob, after_s: float, failure: dict[str, Any] | None, *, lost: bool = False) -> None:
    keep = {"failure": failure, "error": failure["msg"]} if failure else {}
    columns = CloudPodJob.update(
        status="queued", lease_until=None, lost=lost, run_after=db.now(plus_s=after_s), woken_at=None, **keep
    ).where(_fence(job))
    if columns.execute() != 1:
        raise LostLease(f"job {job.id} is no longer attempt {job.attempt}'s")
    job.status = "queued"


def _write(job: CloudPodJob, assignment: str, values: tuple[Any, ...]) -> None:
    if not db.rows(
        f"UPDATE cloud_pod_jobs SET {assignment} WHERE id = %s AND attempt = %s AND status = 'running' RETURNING id",
        (*values, job.id, job.attempt),
    ):
        raise LostLease(f"job {job.id} is no longer attempt {job.attempt}'s")


def _fence(job: CloudPodJob) -> Any:
    return (CloudPodJob.id == job.id) & (CloudPodJob.attempt == job.attempt) & (CloudPodJob.status == "running")
