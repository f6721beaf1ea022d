"""What a look at a node may set right by itself: CLOUDPODS_RECONCILE_MENDS. Never is anything deleted.

| word | of a finding | what is done |
|---|---|---|
| `moved` | `moved` | the row follows the pod |
| `power` | `power` | a start, or a shutdown, is ordered as the last order wanted it |
| `size` | `size` of cores or memory | the table's size is ordered: swap and disk are no order's to change |

An order is an ordinary one, with quota and whatever else it must keep. A pod with an unfinished change is not judged, so that
nothing is ordered twice.
"""

from typing import Any

from shim.cloudpods import power, scale
from shim.cloudpods.compare import Finding, Pod
from shim.cloudpods.schemas import PowerPod, ScalePod
from shim.db import database
from shim.errors import CloudPodsError
from shim.events.models import CloudPodEvent
from shim.jobs.models import CloudPodJob

REASON = "drift"


def mend(finding: Finding, allowed: list[str]) -> None:
    """Order what sets a finding right, if that is allowed; what came of it is written to the finding."""
    order = {"power": _power, "size": _size}.get(finding.kind)
    if order is None or finding.pod is None or finding.kind not in allowed:
        return
    try:
        # A refusal leaves nothing of its order, and the report stands all the same.
        with database.atomic():
            job = order(finding.pod, finding)
    except CloudPodsError as error:
        finding.mend = {"error": error.message, "code": error.code}
        return
    if job is not None:
        finding.mend = {"jobId": job.id}
        _record(finding.pod, finding, job)


def _power(pod: Pod, finding: Finding) -> CloudPodJob:
    action = "start" if pod.wanted_power == "running" else "shutdown"
    return power.power(action, pod.id, PowerPod(tenantId=pod.tenant_id, reason=REASON))[0]


def _size(pod: Pod, finding: Finding) -> CloudPodJob | None:
    if not {"cores", "memory_mb"} & set(finding.table):
        return None
    size: dict[str, Any] = {"newCores": pod.cores, "newMemoryMb": pod.memory_mb}
    return scale.scale(pod.id, ScalePod(tenantId=pod.tenant_id, reason=REASON, **size))[0]


def _record(pod: Pod, finding: Finding, job: CloudPodJob) -> None:
    CloudPodEvent.record(
        "INFO",
        f"{job.type} ordered: the pod's {finding.kind} was not what the table says",
        tenant_id=pod.tenant_id,
        cloud_pod_id=pod.id,
        job_id=job.id,
        action="DRIFT_MENDED",
        kind=finding.kind,
        vmid=pod.vmid,
        table=finding.table,
        node=finding.node,
    )
