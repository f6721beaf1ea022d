"""A worker's turn: claim the best job, look at the node if its last run was lost, run the playbook, write the outcome."""

import logging
import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import peewee

from shim import caller, db, old_run
from shim.blueprints import saga
from shim.config import Settings
from shim.errors import CloudPodsError, Unavailable
from shim.jobs import cancel, reap, state, unblocked
from shim.jobs.catalog import ACTIONS, load, types_of
from shim.jobs.claim import claim
from shim.jobs.models import CloudPodJob
from shim.jobs.queue import Wakeups
from shim.log import bound
from shim.process import become_subreaper, clock
from shim.worker import on_node, outcome, playbook
from shim.worker.failure import NOTHING, UNKNOWN
from shim.worker.lease import Lease
from shim.worker.watch import Watch

log = logging.getLogger(__name__)

# So long after its run was ended, no call of that comes to the node any more: ssh's connections are closed, leases are over.
CALL_ARRIVES_S = 120.0
WRITE_PAUSE_S = 1.0


@dataclass
class Context:
    """What a worker process knows; made once before it forks."""

    settings: Settings
    name: str
    queues: tuple[str, ...]
    watch: Watch = field(default_factory=Watch)


# RQ calls `wake` by its name and hands it nothing of ours, so its context stands here, set once before any fork.
_prepared: list[Context] = []


def prepare(context: Context) -> None:
    """Set what `wake` works with, and import what the jobs mean: done in each fork, it would cost more than all else."""
    _prepared[:] = [context]
    load(types_of(context.queues))


def wake(job_id: str) -> None:
    """Claim and run the best job that may run now, which need not be the one in the message."""
    (context,) = _prepared
    settings = context.settings
    # What ansible-core leaves behind comes to this process, which ends it before it writes the run's outcome.
    become_subreaper()
    db.connect(settings.database_url, pool_size=4, patience=db.BACKGROUND)
    playbook.forget_own_settings()
    types = types_of(context.queues)
    since = clock()
    with db.session():
        job = claim(types, worker=context.name, lease_s=settings.lease_s, run=old_run.current())
    if job is None:
        log.debug("woken for %s, nothing may run now", job_id)
        return
    ordered = caller.Origin(actor=job.requested_by, request_id=job.request_id)
    with caller.on_behalf_of(ordered), bound(job_id=job.id, request_id=job.request_id, attempt=job.attempt):
        _run(job, settings, Lease(job, settings.lease_s, since=since, watch=context.watch), context.watch)
    wakeups = Wakeups(settings.redis_url)
    if job.deployment_id is not None:
        _go_on_with(job.deployment_id, wakeups)
    unblocked.wake(wakeups, job)


def _go_on_with(deployment_id: str, wakeups: Wakeups) -> None:
    """Order what comes next in a deployment whose job this was; where that fails, the scheduler does."""
    try:
        with db.session():
            wakeups.tell(saga.advance(deployment_id))
    except (CloudPodsError, peewee.DatabaseError, peewee.InterfaceError) as error:
        log.warning("deployment %s: the scheduler goes on with it: %s", deployment_id, db.first_line(error))


def _run(job: CloudPodJob, settings: Settings, held: Lease, watch: Watch) -> None:
    log.info("job %s: %s, attempt %d", job.id, job.type, job.attempt)
    begun = job.tries
    try:
        with held as lease:
            ending = _ending(job, settings, lease) if _old_run_is_dead(job) else None
            if ending is not None:
                if ending.failure and _leave(job, ending.failure, watch, begun=job.tries > begun):
                    return
                _write(job, ending, lease)
    except state.LostLease as error:
        # Whoever has the job now writes its end.
        log.warning("%s; leaving it", error)


def _old_run_is_dead(job: CloudPodJob) -> bool:
    """Make sure that the lost run before this one is dead; where that fails, see to it that nobody begins the job."""
    run, before = old_run.current(), job.run
    if before is None or before == run:
        return True
    # Of another host's run, time has told it (`state.collect_lost`).
    ended = before.host != run.host or old_run.end(before, job.id, job.attempt - 1)
    with db.session():
        if ended:
            state.take_over(job, run)
        else:
            reap.withhold(job, before)
    return ended


def _leave(job: CloudPodJob, failure: dict[str, Any], watch: Watch, *, begun: bool) -> bool:
    """Leave the job to others, who look at the node first, where its run ended because its worker does; return whether it was.

    While a worker stops, no failure is the job's own: who stops a service may have asked all of its processes to end.
    """
    told = watch.told_to_stop()
    if not told and watch.must_stop() is None:
        return False
    with db.session():
        state.leave(job, failure, no_try=told and begun)
    log.warning("job %s: left to others: %s", job.id, failure["msg"])
    return True


def _ending(job: CloudPodJob, settings: Settings, lease: Lease) -> playbook.Outcome | None:
    """Return the job's outcome; None when it was handed back."""
    if job.cancel_requested_at is not None:
        return _cancel(job, settings, lease)
    settled = _settle(job, settings, lease) if job.lost else None
    if settled is not None or job.status != "running":
        return settled
    return _execute(job, settings, lease)


def _cancel(job: CloudPodJob, settings: Settings, lease: Lease) -> playbook.Outcome | None:
    """Return how a job ends that is to be: as cancelled, or as done where that happened; None when it was handed back.

    Its action is never run again.
    """
    if not cancel.may_have_left(job):
        return _cancelled(job, NOTHING, unbegun=True)
    hindered = on_node.end_runs(job, settings, lease, for_good=True)
    seen, trouble = on_node.look(job, settings, lease)
    trouble = trouble or hindered
    with db.session():
        if seen is None or seen.get("busy") or (hindered and not _is_late(job)):
            if outcome.is_older(job.cancel_requested_at or job.created_at):
                return _cancelled(job, f"{UNKNOWN}: {_never_said(job, trouble)}")
            state.hand_back(job, trouble)
            return None
        return _judged(job, seen)


def _is_late(job: CloudPodJob) -> bool:
    """Return whether a call on its way when the job was to end, which the node could not be told to refuse, has come by now."""
    asked = job.cancel_requested_at
    return asked is None or db.age(asked) > timedelta(seconds=CALL_ARRIVES_S)


def _judged(job: CloudPodJob, seen: dict[str, Any]) -> playbook.Outcome:
    """Return how a job that is to be cancelled ends, by what the node shows; with a result also how, if that is unusable."""
    kept = {name: seen.get(name) for name in ("exists", "status", "lock", "unfinished", "owner")}
    try:
        done = ACTIONS[job.type].handler.settle(job, seen)
        left = NOTHING if done is not None else ACTIONS[job.type].left(job, seen)
    except outcome.UNUSABLE as error:
        log.exception("job %s: unusable look", job.id)
        return _cancelled(job, f"{UNKNOWN}: what node {job.node_name} shows is unusable: {db.first_line(error)}", seen=kept)
    cancelled = _cancelled(job, left, seen=kept)
    return cancelled if done is None else playbook.Outcome({"node": job.node_name, **done}, cancelled.failure)


def _cancelled(job: CloudPodJob, left: str, **more: Any) -> playbook.Outcome:
    return playbook.Outcome(None, cancel.failure(job.cancel_requested_by, left, **more))


def _write(job: CloudPodJob, ending: playbook.Outcome, lease: Lease) -> None:
    """Write the outcome, again and again while the database is away and the job is still ours: it may have taken hours."""
    while True:
        # Whoever reads along is told of the end when everything before it is there.
        lease.flush()
        try:
            with db.session():
                return outcome.write(job, ending)
        except (Unavailable, peewee.OperationalError, peewee.InterfaceError) as error:
            if lease.lost() is not None:
                raise
            log.warning("job %s: cannot write its outcome yet: %s", job.id, db.first_line(error))
            time.sleep(WRITE_PAUSE_S)


def _settle(job: CloudPodJob, settings: Settings, lease: Lease) -> playbook.Outcome | None:
    """Look at the node after a lost run, and return the job's outcome if it is known now.

    None: run the action (again), or, where the pod is still busy or the node does not say, the job was handed back.
    """
    # A job of a node as a whole has no container to look at; it only reads and left nothing, as a dry run did.
    looked = "vmid" in job.payload and not job.dry_run
    seen, trouble = on_node.settled_look(job, settings, lease) if looked else ({}, None)
    with db.session():
        if seen is None or seen.get("busy"):
            if outcome.is_older(job.started_at or job.created_at):
                return _given_up(job, UNKNOWN, _never_said(job, trouble))
            # Whoever waits for the job sees in its error why nothing goes on, unless that tells already why it was lost.
            state.hand_back(job, None if _why_lost(job) else trouble)
            return None
        result, left = _understood(job, seen) if looked else (None, NOTHING)
        if result is not None:
            return playbook.Outcome({"node": job.node_name, **result}, None)
    # What stands there does so still if the next run cannot begin.
    job.failure = {**(job.failure or {}), "left_behind": left}
    if job.tries >= job.max_tries:
        return _given_up(job, left, f"the worker was lost in each of {job.tries} runs of this job")
    return None


def _understood(job: CloudPodJob, seen: dict[str, Any]) -> tuple[dict[str, Any] | None, str]:
    """Return the result if a lost job's work is done, and otherwise what its runs left, by what the node shows.

    Where nobody can use that, looking again would not help, but running again may: that is counted.
    """
    try:
        result = ACTIONS[job.type].handler.settle(job, seen)
        return result, NOTHING if result is not None else ACTIONS[job.type].left(job, seen)
    except outcome.UNUSABLE:
        log.exception("job %s: unusable look", job.id)
        return None, UNKNOWN


def _given_up(job: CloudPodJob, left: str, why: str) -> playbook.Outcome:
    msg = _why_lost(job) or f"{why}; it is not tried again"
    return playbook.Outcome(None, {"msg": msg, "retryable": False, "left_behind": left})


def _never_said(job: CloudPodJob, trouble: dict[str, Any] | None) -> str:
    said = trouble["msg"] if trouble else f"vmid {job.payload['vmid']} is busy all the time"
    return f"{said}, for longer than {outcome.WAIT_AT_MOST.total_seconds() / 3600:g} hours"


def _why_lost(job: CloudPodJob) -> str | None:
    """Return the error of the run that was lost, None when its worker took it along."""
    return job.error if job.failure and not job.failure.get("looking") else None


def _execute(job: CloudPodJob, settings: Settings, lease: Lease) -> playbook.Outcome:
    action = ACTIONS[job.type]
    with db.session():
        state.begin(job)
        variables = action.variables(job, settings)
    return on_node.play(job, settings, lease, action.playbook, variables, action.timeout_s)
