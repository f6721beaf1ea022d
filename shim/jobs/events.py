"""What happens to a job, told in events that name it.

Events stay for good, and so do the jobs that they refer to. The rows of looks at nodes by the clock do not
(`Action.keeps_events`): what is to be known of one of these is told in an event that only names it in its data.
"""

from typing import Any

from shim.events.models import CloudPodEvent
from shim.jobs.catalog import ACTIONS
from shim.jobs.models import CloudPodJob


def record(job: CloudPodJob, type: str, message: str, *, action: str, **data: Any) -> None:
    """Append an event about the job inside the transaction that is open."""
    about = {"job_id": job.id} if ACTIONS[job.type].keeps_events else {"job": job.id}
    CloudPodEvent.record(type, message, tenant_id=job.tenant_id, cloud_pod_id=job.cloud_pod_id, **about, action=action, **data)


def record_step(job: CloudPodJob, message: str, *, action: str, **data: Any) -> None:
    """Append an event about the job's way, unless nobody follows jobs of its kind."""
    if ACTIONS[job.type].keeps_events:
        record(job, "INFO", message, action=action, **data)
