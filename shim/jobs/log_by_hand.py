"""`cloudpods jobs tail`: what a job's runs printed, and print, at a terminal."""

import time
from collections.abc import Iterator

from shim import db
from shim.jobs.follow import POLL_S
from shim.jobs.log_models import CloudPodJobLog
from shim.jobs.log_stream import BATCH
from shim.jobs.models import OVER, CloudPodJob


def tailed(job_id: str, *, follow: bool) -> Iterator[str]:
    """Yield a job's log in pieces, which have their line ends; with `follow` up to the job's end. Raises NotFound."""
    after = 0
    while True:
        with db.session():
            # The job before its log: what was printed up to its end is there then.
            over = CloudPodJob.find(job_id).status in OVER
            found = CloudPodJobLog.page(job_id, after=after, limit=BATCH)
        for piece in found:
            yield piece.text
            after = piece.seq
        if len(found) < BATCH:
            if over or not follow:
                return
            time.sleep(POLL_S)
