"""A job's log as it is written: what `events/stream.py` needs to know of it."""

from dataclasses import dataclass

from shim.events.stream import Look
from shim.jobs.log_models import CloudPodJobLog
from shim.jobs.models import OVER, CloudPodJob
from shim.web import sse

# Of 8,000 characters each.
BATCH = 50


@dataclass(frozen=True)
class JobLog:
    """One job's log, for services alone. It ends with the job."""

    job_id: str
    by_tenant: str | None = None

    def look(self, after: int) -> Look:
        """Return what is behind `after`."""
        # Asked first: what is written before a job's end is there when the end is.
        status = CloudPodJob.status_of(self.job_id)
        found = CloudPodJobLog.page(self.job_id, after=after, limit=BATCH)
        last = found[-1].seq if found else after
        written = b"".join(sse.message(piece.seq, "log", piece.as_json()) for piece in found)
        more = len(found) == BATCH
        over = (status is None or status in OVER) and not more
        if over:
            written += sse.message(last, "end", {"status": status})
        return Look(written, last, more=more, over=over)
