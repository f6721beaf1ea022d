"""Whose run holds a pod's lock on its node, by what `cloudpod_info` says of it, and for how long.

A lost run that is within its time is left to finish: it may be a backup of hours that outlived a restart of its worker.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from shim.jobs.catalog import ACTIONS
from shim.jobs.models import CloudPodJob

# By so much a node's clock may be behind without the runs there being ended too early.
CLOCKS_DIFFER = timedelta(minutes=5)


def is_overdue(job: CloudPodJob, seen: dict[str, Any]) -> bool:
    """Return whether a run of this very job is at work, for longer than one may be."""
    busy = seen.get("busy")
    if not isinstance(busy, dict) or str(busy.get("run")).partition(".")[0] != job.id:
        return False
    return datetime.now(UTC) - _since(job, busy) > timedelta(seconds=ACTIONS[job.type].timeout_s) + CLOCKS_DIFFER


def _since(job: CloudPodJob, busy: dict[str, Any]) -> datetime:
    """Return since when the run is at work: the node says so, by its clock; but not since before its job's first run."""
    first: datetime = job.started_at or job.created_at
    try:
        since = datetime.fromisoformat(str(busy.get("since")))
    except ValueError:
        return first
    return max(first, since if since.tzinfo else since.replace(tzinfo=UTC))
