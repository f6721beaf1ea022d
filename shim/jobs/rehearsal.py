"""The end of a dry run, whatever its action: nothing of the pod changes, and it is told what would have come of it."""

from typing import Any

from shim.jobs import events
from shim.jobs.models import CloudPodJob


def succeed(job: CloudPodJob, result: dict[str, Any]) -> None:
    """The node would do it."""
    events.record(job, "INFO", f"{job.type} would be done", action="DRY_RUN", changed=result.get("changed"))


def fail(job: CloudPodJob, failure: dict[str, Any]) -> None:
    """The node would refuse, or does not answer."""
    events.record(job, "WARN", f"{job.type} would not be done: {failure['msg']}", action="DRY_RUN_FAILED")
