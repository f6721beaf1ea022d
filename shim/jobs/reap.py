"""Jobs whose run died: found, made sure of, and put back to be settled by a look at the node.

A run of this host is known to be dead when its process and all that it left are gone; where its lease ran out, they are ended
here. Where that fails, the job is kept from everybody for as long as somebody here sees it alive (`state.withhold`). Of a run
elsewhere it is known some time after its lease (`state.RUN_ENDS_S`). What a killed worker left on a host without scheduler,
be it one that waits for its turn, is ended by the next worker that begins there.
"""

import logging
import socket

from shim import old_run
from shim.jobs import state
from shim.jobs.models import CloudPodJob

log = logging.getLogger(__name__)


def collect_lost() -> list[tuple[str, str]]:
    """Put back the jobs whose runs are dead, after ending those of this host that should be; return (id, type) of each."""
    return [*collect_lost_here(), *state.collect_lost()]


def collect_lost_here() -> list[tuple[str, str]]:
    """Do so for the runs of this host only."""
    found = [(job, job.run) for job in state.runs_of(old_run.host())]
    lost = [(job, run) for job, run in found if run is not None and (job.lease_until is None or not _is_held(job, run))]
    for job, _ in lost:
        # First, since it takes a while to find out that a run cannot be ended, and others know of its lease alone.
        state.withhold(job)
    collected = []
    for job, run in lost:
        if old_run.end(run, job.id, job.attempt):
            collected += state.put_back(job)
        else:
            withhold(job, run)
    return collected


def withhold(job: CloudPodJob, run: old_run.Run) -> None:
    """Keep the job from everybody, since a lost run of it on this host cannot be ended; whoever reads the job is told."""
    msg = f"a lost run of this job cannot be ended: process {run.pid} on {socket.gethostname()}; end what it left by hand"
    state.withhold(job, {"msg": msg, "retryable": True, "left_behind": "unknown", "looking": True})
    log.error("job %s: %s; nothing is begun before it ends", job.id, msg)


def _is_held(job: CloudPodJob, run: old_run.Run) -> bool:
    """Return whether its run has the job; or somebody who settles a lost one, and makes sure of its end; or nobody may."""
    return job.run_attempt != job.attempt or state.is_kept(job) or old_run.lives(run)
