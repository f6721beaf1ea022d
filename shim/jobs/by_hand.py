"""`cloudpods jobs`: jobs at a terminal, listed, shown and followed."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from shim import db
from shim.errors import CloudPodsError, Unavailable
from shim.events.models import CloudPodEvent, Filters
from shim.jobs import listing, log_text, tables
from shim.jobs.catalog import ACTIONS
from shim.jobs.follow import POLL_S
from shim.jobs.models import OVER, CloudPodJob
from shim.jobs.schemas import JobsQuery
from shim.nodes.models import CloudPodNode

# A terminal may be wider; what is pasted into a ticket is not.
WIDTH = 100
HEAD = ("JOB", "TYPE", "STATUS", "NODE", "TENANT", "VMID", "AGE")
# Node and tenant: names that people gave.
_SHRINK = (3, 4)
_AT_ONCE = 200
_WORD, _MORE = 9, "… (--json)"


def listed(asked: JobsQuery, *, as_json: bool) -> Iterator[str]:
    """Yield the lines of a list of jobs, newest first. Raises NotFound for no such tenant."""
    with db.session():
        found, more = listing.list_jobs(asked)
        jobs: list[CloudPodJob] = list(found)
        nodes = CloudPodNode.names({job.node_id for job in jobs if job.node_id})
    if as_json:
        yield json.dumps([job.as_json() for job in jobs], indent=2)
        return
    if not jobs:
        yield "no such job"
        return
    yield from tables.lines([HEAD, *(_row(job, nodes.get(str(job.node_id), "-")) for job in jobs)], width=WIDTH, shrink=_SHRINK)
    if more:
        yield f"only the newest {len(jobs)}; more with --limit, fewer with --status, --type, --node, --tenant or --pod"


def shown(job_id: str, *, as_json: bool) -> Iterator[str]:
    """Yield the lines that tell of a job. Raises NotFound."""
    with db.session():
        job = CloudPodJob.find(job_id)
    if as_json:
        yield json.dumps(job.as_json(), indent=2)
        return
    for name, text in _told(job).items():
        if text:
            yield f"{name:<{_WORD}}{_plain(text)}"


def followed(job_id: str, within_s: float) -> Iterator[str]:
    """Yield a line for each event of a job, as it comes, up to the job's end. Raises NotFound, and Unavailable in the end when
    it takes longer."""
    deadline, seen = time.monotonic() + within_s, 0
    while True:
        with db.session():
            # The job before its events: what it told up to its end is with them.
            job = CloudPodJob.find(job_id)
            told = CloudPodEvent.page(Filters(job_id=job_id), after=seen, limit=_AT_ONCE)
        for event in told:
            seen = event.seq
            yield f"{event.created_at:%H:%M:%S}  {_plain(event.message)}"
        if len(told) < _AT_ONCE:
            if job.status in OVER:
                return
            if time.monotonic() > deadline:
                raise Unavailable(f"{job.type} is still {job.status} after {within_s:g} s; job {job.id} goes on")
            time.sleep(POLL_S)


def require(job_id: str, status: str) -> None:
    """Raise CloudPodsError, which says why, unless this is how the job ended."""
    with db.session():
        job = CloudPodJob.find(job_id)
    if job.status != status:
        why = f": {_plain(job.error)}" if job.error else ""
        raise CloudPodsError(f"{job.type} ended as {job.status}{why} (job {job.id})")


def known_type(name: str | None) -> str | None:
    """Return the type as the catalog writes it, None for None. Raises CloudPodsError for an unknown one."""
    if name is None:
        return None
    written = name.upper().replace("-", "_")
    if written not in ACTIONS:
        raise CloudPodsError(f"there is no type {name!r}; known are {', '.join(ACTIONS)}")
    return written


def _plain(text: str) -> str:
    """Return what somebody said as no terminal takes it for orders, and nobody for a line of ours."""
    return log_text.shown(text).replace("\n", "\n" + " " * _WORD)


def _row(job: CloudPodJob, node: str) -> list[str]:
    vmid = str(job.payload.get("vmid", "-"))
    return [job.id, job.type, _status(job), node, job.tenant_id or "-", vmid, _age(datetime.now(UTC) - job.created_at)]


def _status(job: CloudPodJob) -> str:
    return "stopping" if job.cancel_requested_at and job.status not in OVER else job.status


def _age(span: timedelta) -> str:
    """Return a span in three letters."""
    seconds = max(int(span.total_seconds()), 0)
    for unit, size, most in (("s", 1, 60), ("m", 60, 60), ("h", 3600, 48), ("d", 86400, 99)):
        if seconds < size * most:
            return f"{seconds // size}{unit}"
    return f"{seconds // (7 * 86400)}w"


def _told(job: CloudPodJob) -> dict[str, str]:
    """Return what there is to say of a job, by the word before it."""
    failed = job.failure or {}
    return {
        "job": job.id,
        "type": job.type + (" (dry run)" if job.dry_run else ""),
        "status": f"{_status(job)}, {job.tries} of {job.max_tries} tries",
        "pod": " ".join(str(word) for word in (job.payload.get("vmid"), job.cloud_pod_id) if word),
        "node": job.node.name if job.node else "",
        "tenant": job.tenant_id or "",
        "ordered": _at(job.created_at) + (f" by {job.requested_by}" if job.requested_by else ""),
        "after": job.after_job_id or "",
        "retry of": job.retry_of or "",
        "began": _at(job.started_at),
        "ended": _at(job.finished_at) + _took(job),
        "stopping": f"since {_at(job.cancel_requested_at)}" if _status(job) == "stopping" else "",
        "error": job.error or "",
        "left": str(failed.get("left_behind") or ""),
        "payload": _short(job.payload),
        "result": _short(job.result) if job.result is not None else "",
        "next": _next(job),
    }


def _next(job: CloudPodJob) -> str:
    """Return what a person may do with the job."""
    if job.status == "success":
        return ""
    return f"cloudpods jobs {'retry' if job.status in OVER else 'cancel'} {job.id}"


def _short(document: dict[str, Any]) -> str:
    """Return a document as far as it fits into a line; what a node tells of a pod fills pages."""
    text, room = json.dumps(document), WIDTH - _WORD
    return text if len(text) <= room else text[: room - len(_MORE)] + _MORE


def _at(moment: Any) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC" if moment else ""


def _took(job: CloudPodJob) -> str:
    if not job.started_at or not job.finished_at:
        return ""
    return f", after {(job.finished_at - job.started_at).total_seconds():.1f} s"
