"""What a job's end, or its being put back, lets others do: they are woken at once, whatever their type and whoever's they are.

| what goes on | where it is seen |
|---|---|
| the pod's next change | it may run now, on the job's node |
| whatever waited for the place on the node, or for the one place of its kind | it may run now, on the job's node |
| what comes after the job's success, or waited for what failed with it | it may run now, on the followers' nodes |

Losing such a wake-up loses nothing; the scheduler announces again.
"""

import logging
from functools import partial

import peewee

from shim import db
from shim.db import database
from shim.errors import Unavailable
from shim.jobs.claim import may_run
from shim.jobs.models import CloudPodJob
from shim.jobs.queue import Wakeups

log = logging.getLogger(__name__)

# So many are looked at of each type: the next of the job's pod, the next of its place, and what came after it.
EACH = 3

_NODES = "SELECT DISTINCT node_id FROM cloud_pod_jobs WHERE node_id IS NOT NULL AND (id = %s OR after_job_id = %s)"


def wake(wakeups: Wakeups, job: CloudPodJob) -> None:
    """Wake workers for what may run now that this job is over or put back. Call after the transaction that wrote so."""
    with db.session():
        found = may_run([row[0] for row in db.rows(_NODES, (job.id, job.id))], EACH)
    for places, jobs in found:
        wakeups.nudge(jobs, places)


def wake_after_cancel(wakeups: Wakeups, job: CloudPodJob) -> None:
    """Wake workers for a job that is to be ended, or for what a cancelled one kept waiting, once that is committed."""
    if job.status == "queued":
        wakeups.announce([(job.id, job.type)])
    elif job.status == "cancelled":
        database.after_commit(partial(_try_to_wake, wakeups, job))


def _try_to_wake(wakeups: Wakeups, job: CloudPodJob) -> None:
    # The job is cancelled, and whoever asked for that is told so.
    try:
        wake(wakeups, job)
    except (Unavailable, peewee.DatabaseError, peewee.InterfaceError) as error:
        log.warning("cannot see whom the end of job %s lets go on, the scheduler will: %s", job.id, db.first_line(error))
