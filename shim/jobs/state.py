"""A job's way: queued → running → success | failed | cancelled, running → queued to run again. Every write is fenced by the
attempt.

| from | to | when | function |
|---|---|---|---|
| running | success | the playbook's result is in | `succeed` |
| running | failed | a failure that no further run will mend | `fail` |
| running | queued | a failure worth another run; the pod is busy | `run_again`, `hand_back` |
| running | queued | the node knows the new pod's vmid or address for somebody else's, and it has another now | `begin_anew` |
| running | queued, lost | a failure that left nobody knows what | `look_first` |
| running | queued, lost | its run was ended from outside, in the middle | `leave` |
| running | queued, lost | its run has died, its lease ran out (`reap.py`) | `give_up`, `put_back`, `collect_lost` |
| running | running, nobody's | its lost run is alive and cannot be ended | `withhold` |
| running | cancelled | it was to be ended, and what its runs left is known | `cancel` |
| queued | failed, cancelled | the job that it comes after failed; somebody cancels what nobody began | `end_unbegun` |
| queued, running | the same, to be ended | somebody cancels what was begun; its next claim only looks | `ask_to_end` |
| queued | cancelled | the clock ordered it, and its pod is to be destroyed | `cancel_scheduled` |
| queued, running | cancelled | a look at a node that is to be deleted; a run ends when it finds that out | `cancel_looks` |
"""

import random
from dataclasses import asdict
from typing import Any

import peewee

from shim import db
from shim.errors import CloudPodsError
from shim.jobs.models import CloudPodJob
from shim.old_run import Run

BACKOFF_MAX_S = 60.0
LOOK_PAUSE_S = 2.0
# So long a job is kept from others whose lost run cannot be ended: for longer when somebody on its host still sees that.
KEEP_S = 600.0
# So often is tried again to end such a run.
_END_AGAIN_S = 60.0
# So long after its lease a run has ended itself, though its own host alone can see that: it notices within a second, and what
# it started has ten to end; where it hangs, its worker ends it (`worker/watch.py`).
RUN_ENDS_S = 20.0

_ENDED: dict[str, Any] = {"run_host": None, "run_pid": None, "run_started": None, "run_attempt": None}
_NO_RUN = "".join(f", {name} = NULL" for name in _ENDED)
# A worker's run may have died before it made sure of the end of a lost one before it.
_NO_RUN_OF_ITS_OWN = "".join(f", {name} = CASE WHEN run_attempt <> attempt THEN {name} END" for name in _ENDED)


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


def fail(job: CloudPodJob, failure: dict[str, Any]) -> None:
    """End the job badly; `failure` has msg, retryable, left_behind."""
    _end(job, "failed", failure=failure)


def cancel(job: CloudPodJob, failure: dict[str, Any]) -> None:
    """End a job that was asked to end; `failure` says what its runs left."""
    _end(job, "cancelled", failure=failure)


def end_unbegun(job: CloudPodJob, status: str, failure: dict[str, Any], **columns: Any) -> bool:
    """End a queued job that nobody may begin any more; False when somebody else ended it just now."""
    ended = CloudPodJob.update(
        status=status, failure=failure, error=failure["msg"], lost=False, finished_at=db.now(), **_ENDED, **columns
    )
    if ended.where(CloudPodJob.id == job.id, CloudPodJob.status == "queued").execute() != 1:
        return False
    job.status = status
    return True


def hold_unbegun(job: CloudPodJob) -> bool:
    """Lock the row of a queued job of which no run was begun, if it is that and nobody else has it; return whether it is."""
    unbegun = "SELECT 1 FROM cloud_pod_jobs WHERE id = %s AND status = 'queued' AND tries = 0 AND NOT lost"
    return bool(db.rows(f"{unbegun} FOR UPDATE SKIP LOCKED", (job.id,)))


def ask_to_end(job: CloudPodJob, who: str) -> bool:
    """Note that the job is to be ended, and let it be claimed at once; False when that is noted already, or it is over."""
    asked = db.rows(
        "UPDATE cloud_pod_jobs SET cancel_requested_at = now(), cancel_requested_by = %s, priority = 0, turn = 0,"
        " run_after = now(), woken_at = now()"
        " WHERE id = %s AND status IN ('queued', 'running') AND cancel_requested_at IS NULL RETURNING id",
        (who, job.id),
    )
    return bool(asked)


def asked_to_end(job: CloudPodJob) -> bool:
    """Return whether the job, held to the end of the transaction, is to be ended. Raises LostLease."""
    found = db.rows(
        "SELECT cancel_requested_by FROM cloud_pod_jobs WHERE id = %s AND attempt = %s AND status = 'running' FOR UPDATE",
        (job.id, job.attempt),
    )
    if not found:
        raise LostLease(f"job {job.id} is no longer attempt {job.attempt}'s")
    ((job.cancel_requested_by,),) = found
    return job.cancel_requested_by is not None


def run_again(job: CloudPodJob, failure: dict[str, Any], *, unheard: bool = False) -> float:
    """Put the job back for another run after a growing pause; return the pause in seconds.

    After one that was ended the node may still be at work; one of which nobody heard the end (`unheard`) may have done all,
    and more than its repetition could tell, such as what a backup's retention took away: the next begins with a look.
    """
    pause_s = min(BACKOFF_MAX_S, 2.0 ** max(job.tries, 1)) * random.uniform(0.75, 1.25)
    _requeue(job, pause_s, failure, lost=unheard or bool(failure.get("stopped")))
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


def look_first(job: CloudPodJob, failure: dict[str, Any], pause_s: float = LOOK_PAUSE_S) -> None:
    """Put the job back to be settled by a look at the node: its run ended badly and nobody knows what it left there."""
    _requeue(job, pause_s, failure, lost=True)


def take_over(job: CloudPodJob, run: Run) -> None:
    """Note that this run has the job now, and that the lost one before it has ended."""
    of_run = {f"run_{name}": value for name, value in {**asdict(run), "attempt": job.attempt}.items()}
    if CloudPodJob.update(**of_run).where(_fence(job)).execute() != 1:
        raise LostLease(f"job {job.id} is no longer attempt {job.attempt}'s")
    for name, value in of_run.items():
        setattr(job, name, value)


def runs_of(host: str) -> list[CloudPodJob]:
    """Return the running jobs whose process is, or was, on this host; `lease_until` is None where it is time to end it."""
    kept = CloudPodJob.worker.is_null() & (CloudPodJob.lease_until < db.now(plus_s=KEEP_S - _END_AGAIN_S))
    over = peewee.Case(None, [((CloudPodJob.lease_until < db.now()) | kept, None)], CloudPodJob.lease_until)
    of_run = [getattr(CloudPodJob, name) for name in ("worker", *_ENDED)]
    found = CloudPodJob.select(CloudPodJob.id, CloudPodJob.attempt, *of_run, over.alias("lease_until"))
    return list(found.where(CloudPodJob.status == "running", CloudPodJob.run_host == host))


def withhold(job: CloudPodJob, failure: dict[str, Any] | None = None) -> None:
    """Leave the job running, in nobody's hands, so that nobody begins it: a lost run of it on this host may still be alive."""
    said = {"failure": failure, "error": failure["msg"]} if failure else {}
    CloudPodJob.update(worker=None, lease_until=db.now(plus_s=KEEP_S), **said).where(_fence(job)).execute()


def is_kept(job: CloudPodJob) -> bool:
    """Return whether the running job is in nobody's hands (`withhold`)."""
    return job.worker is None


def give_up(worker: str, *, no_try: bool = False) -> list[tuple[str, str]]:
    """Put back, as lost, what a worker held whose runs have ended, all of them; return (id, type) of each.

    They are `no_try` where the worker ended them because it is to stop.
    """
    uncounted = ", tries = greatest(tries - 1, 0)" if no_try else ""
    return _lose("worker = %s", (worker,), also=_NO_RUN_OF_ITS_OWN + uncounted)


def put_back(job: CloudPodJob) -> list[tuple[str, str]]:
    """Put back, as lost, a job of another process whose run has ended; return its (id, type) unless it is another's by now."""
    return _lose("id = %s AND attempt = %s", (job.id, job.attempt), also=_NO_RUN)


def leave(job: CloudPodJob, failure: dict[str, Any], *, no_try: bool) -> None:
    """Put the job back, as lost: its run was ended from outside, in the middle; as `no_try` where it had begun one."""
    if no_try:
        _write(job, "tries = tries - 1", ())
        job.tries -= 1
    _requeue(job, 0.0, failure, lost=True)


def collect_lost() -> list[tuple[str, str]]:
    """Put jobs back, as lost, whose lease ran out so long ago that their run has ended itself; return (id, type) of each."""
    # Where no run is noted, nothing has begun.
    return _lose("lease_until < now() - make_interval(secs => CASE WHEN run_host IS NULL THEN 0 ELSE %s END)", (RUN_ENDS_S,))


def _lose(which: str, parameters: tuple[Any, ...], *, also: str = "") -> list[tuple[str, str]]:
    return [
        (row[0], row[1])
        for row in db.rows(
            "UPDATE cloud_pod_jobs SET status = 'queued', lost = true, lease_until = NULL, woken_at = NULL,"
            # A worker that dies before it begins a run, again and again, must not spin.
            f" run_after = now() + make_interval(secs => LEAST(60, GREATEST(0, attempt - tries))){also}"
            f" WHERE status = 'running' AND {which} RETURNING id, type",
            parameters,
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
        **_ENDED,
    ).where(_fence(job))
    ended = list(columns.returning(CloudPodJob.cancel_requested_by).tuples().execute())
    if not ended:
        raise LostLease(f"job {job.id} is no longer attempt {job.attempt}'s")
    ((job.cancel_requested_by,),) = ended
    job.status = status


def _requeue(job: CloudPodJob, after_s: float, failure: dict[str, Any] | None, *, lost: bool = False) -> None:
    keep = {"failure": failure, "error": failure["msg"]} if failure else {}
    if job.cancel_requested_at is None:
        # Asked to end since it was claimed: that waits for nothing.
        asked = CloudPodJob.cancel_requested_at.is_null(False)
        run_after = peewee.Case(None, [(asked, db.now())], db.now(plus_s=after_s))
    else:
        run_after = db.now(plus_s=after_s)
    columns = CloudPodJob.update(
        status="queued", lease_until=None, lost=lost, run_after=run_after, woken_at=None, **_ENDED, **keep
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
