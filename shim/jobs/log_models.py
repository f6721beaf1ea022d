"""The table of what jobs' runs printed, piece by piece."""

from typing import Any

import peewee

from shim import db
from shim.db import Model
from shim.jobs.models import CloudPodJob

# Removed at a time, so that neither the scheduler nor anybody who writes waits for long.
FORGOTTEN_AT_ONCE = 5000

# Whoever has the job now may write in any case. An older attempt's last words are kept while the job is under way: they may say
# why it was lost. Once it is over, its readers were told so, and nothing comes after that.
_APPEND = """
INSERT INTO cloud_pod_job_logs (job_id, attempt, seq, text)
SELECT j.id, %s, coalesce((SELECT max(seq) FROM cloud_pod_job_logs WHERE job_id = j.id), 0) + piece.place, piece.text
FROM cloud_pod_jobs j CROSS JOIN unnest(%s::text[]) WITH ORDINALITY AS piece (text, place)
WHERE j.id = %s AND (j.attempt = %s OR j.status IN ('queued', 'running'))
RETURNING seq
"""
# By their places, which stay what they are, since no piece is ever changed: a join may read the whole table.
_FORGET = """
DELETE FROM cloud_pod_job_logs WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM cloud_pod_job_logs WHERE created_at < now() - make_interval(days => %s) ORDER BY created_at LIMIT %s
)) RETURNING 1
"""


class CloudPodJobLog(Model):
    """A piece of what a job's runs printed; `seq` orders a job's pieces over all of its attempts."""

    job = peewee.ForeignKeyField(CloudPodJob, column_name="job_id")
    job_id: str
    seq = peewee.BigIntegerField()
    attempt = peewee.IntegerField()
    text = peewee.TextField()
    created_at = peewee.DateTimeField()

    class Meta:
        table_name = "cloud_pod_job_logs"
        primary_key = peewee.CompositeKey("job", "seq")

    @classmethod
    def append(cls, job: CloudPodJob, texts: list[str]) -> int | None:
        """Append pieces in the name of the job's attempt, all or none; return the last one's number.

        None: the job is over, and was another attempt's. Raises peewee.IntegrityError when another attempt wrote at the same
        moment: try again.
        """
        return max((row[0] for row in db.rows(_APPEND, (job.attempt, texts, job.id, job.attempt))), default=None)

    @classmethod
    def last_of(cls, job: CloudPodJob) -> int:
        """Return the number of this attempt's last piece, 0 if it has none."""
        return int(cls.select(peewee.fn.max(cls.seq)).where(cls.job == job.id, cls.attempt == job.attempt).scalar() or 0)

    @classmethod
    def size_of(cls, job_id: str) -> int:
        """Return how many characters a job's log has."""
        return int(cls.select(peewee.fn.sum(peewee.fn.length(cls.text))).where(cls.job == job_id).scalar() or 0)

    @classmethod
    def page(cls, job_id: str, *, after: int, limit: int) -> list["CloudPodJobLog"]:
        """Return a job's pieces behind `after`."""
        return list(cls.select().where(cls.job == job_id, cls.seq > after).order_by(cls.seq).limit(limit))

    @classmethod
    def forget_old(cls, days: int) -> int:
        """Remove some of the pieces that are older than so many days, the oldest first; return how many."""
        return len(db.rows(_FORGET, (days, FORGOTTEN_AT_ONCE)))

    def as_json(self) -> dict[str, Any]:
        """Return the piece as clients see it."""
        return {"seq": self.seq, "attempt": self.attempt, "text": self.text, "createdAt": db.iso(self.created_at)}
