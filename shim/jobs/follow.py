"""Waiting for a job's end, for a person at a terminal."""

import time

from shim import db
from shim.errors import CloudPodsError, Unavailable
from shim.jobs.models import CloudPodJob

POLL_S = 0.3


def finished(job_id: str, within_s: float) -> CloudPodJob:
    """Return the job once it succeeded. Raises CloudPodsError when it failed, Unavailable when it takes longer."""
    deadline = time.monotonic() + within_s
    while True:
        with db.session():
            job = CloudPodJob.find(job_id)
        if job.status == "success":
            return job
        if job.status in ("failed", "cancelled"):
            raise CloudPodsError(f"{job.type} {job.status}: {job.error} (job {job.id})")
        if time.monotonic() > deadline:
            said = f"; it says: {job.error}" if job.error else "; is a worker running?"
            raise Unavailable(f"{job.type} is still {job.status} after {within_s:g} s{said} (job {job.id} goes on)")
        time.sleep(POLL_S)
