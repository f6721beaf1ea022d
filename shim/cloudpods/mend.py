"""What a look at a node may set right by itself: CLOUDPODS_RECONCILE_MENDS. Never is anything deleted.

| word | of a finding | what is done |
|---|---|---|
| `moved` | `moved` | the row follows the pod, with the report |
| `power` | `power` | a start, or a shutdown, is ordered as the last order wanted it |
| `size` | `size` of cores or memory | the table's size is ordered: swap and disk are no order's to change |

An order is an ordinary one, with quota and whatever else it must keep. Orders come after the report, from the clock, each in
a transaction of its own, and MAX_ORDERS per report: the next look finds the rest. A pod that was changed since, or is about to
be, is left to the next look, so that nothing is ordered twice. An order that failed is not tried again before PAUSE, and one
that came to nothing MAX_TRIES times in a day is told as given up.
"""

from typing import Any

from shim import db
from shim.cloudpods import power, scale
from shim.cloudpods.backup_schedule import POD_PAUSE as PAUSE
from shim.cloudpods.drift_models import DriftReport
from shim.cloudpods.models import CloudPod
from shim.cloudpods.schemas import PowerPod, ScalePod
from shim.db import database
from shim.errors import CloudPodsError, Conflict
from shim.events.models import CloudPodEvent
from shim.jobs.models import CloudPodJob

REASON = "drift"
MAX_ORDERS, MAX_TRIES = 50, 5

# How often a pod was mended in this way within a day, whether that failed lately, whether it was given up.
_EARLIER = """
SELECT count(*) FILTER (WHERE e.data ->> 'action' = 'DRIFT_MENDED'),
       coalesce(bool_or(j.status IN ('failed', 'cancelled') AND j.finished_at > now() - %s), false),
       coalesce(bool_or(e.data ->> 'action' = 'DRIFT_MEND_GIVEN_UP'), false)
FROM cloud_pod_events e LEFT JOIN cloud_pod_jobs j ON j.id = e.job_id
WHERE e.cloud_pod_id = %s AND e.created_at > now() - interval '1 day' AND e.data ->> 'kind' = %s
  AND e.data ->> 'action' IN ('DRIFT_MENDED', 'DRIFT_MEND_GIVEN_UP')
"""


def mend_due() -> list[tuple[str, str]]:
    """Order what the looks found and may mend; return (id, type) of each job, which is to be announced."""
    return [job for report in DriftReport.to_mend() for job in _mend(report)]


def _mend(report: DriftReport) -> list[tuple[str, str]]:
    given: list[tuple[str, str]] = []
    for item in report.items:
        if item["kind"] in report.mends and item["kind"] in _ORDERS and len(given) < MAX_ORDERS:
            job = _try(item, report.node_id)
            given += [(job.id, job.type)] if job else []
    report.mended()
    return given


def _try(item: dict[str, Any], node_id: str) -> CloudPodJob | None:
    """Return the order that sets a finding right; what came of it is written to the finding."""
    try:
        # A refusal leaves nothing of its order.
        with database.atomic():
            pod = CloudPod.hold(item["cloudPodId"])
            if not _is_still_so(pod, item, node_id) or _is_given_up(pod, item):
                return None
            job = _ORDERS[item["kind"]](pod, item)
            if job is not None:
                _record("INFO", f"{job.type} ordered: the pod's {item['kind']} was not what the table says", item, job)
    except CloudPodsError as error:
        item["mend"] = {"error": error.message, "code": error.code}
        return None
    item["mend"] = {"jobId": job.id} if job else None
    return job


def _is_still_so(pod: CloudPod, item: dict[str, Any], node_id: str) -> bool:
    """Return whether the table says of the pod what it said at the look, and nothing changes it."""
    table = {"power": pod.wanted_power} if item["kind"] == "power" else {name: getattr(pod, name) for name in item["table"]}
    same = pod.status == "active" and pod.node_id == node_id and table == item["table"]
    return same and not CloudPodJob.changing(pod.id)


def _is_given_up(pod: CloudPod, item: dict[str, Any]) -> bool:
    """Return whether the pod was mended too often. Raises Conflict when that failed just now."""
    ((tries, failed, told),) = db.rows(_EARLIER, (PAUSE, pod.id, item["kind"]))
    if failed:
        raise Conflict("the order before failed; the next one comes later", code="mend_paused")
    if tries < MAX_TRIES:
        return False
    if not told:
        said = f"{tries} orders within a day did not set the pod's {item['kind']} right; no more are given until tomorrow"
        _record("WARN", said, item, None)
    item["mend"] = {"error": "orders did not set it right", "code": "mend_given_up"}
    return True


def _power(pod: CloudPod, item: dict[str, Any]) -> CloudPodJob:
    action = "start" if pod.wanted_power == "running" else "shutdown"
    return power.power(action, pod.id, PowerPod(tenantId=pod.tenant_id, reason=REASON))[0]


def _size(pod: CloudPod, item: dict[str, Any]) -> CloudPodJob | None:
    if not {"cores", "memory_mb"} & set(item["table"]):
        return None
    size: dict[str, Any] = {"newCores": pod.cores, "newMemoryMb": pod.memory_mb}
    return scale.scale(pod.id, ScalePod(tenantId=pod.tenant_id, reason=REASON, **size))[0]


_ORDERS = {"power": _power, "size": _size}
# The kinds that orders mend.
KINDS = tuple(_ORDERS)


def _record(type: str, message: str, item: dict[str, Any], job: CloudPodJob | None) -> None:
    CloudPodEvent.record(
        type,
        message,
        tenant_id=item["tenantId"],
        cloud_pod_id=item["cloudPodId"],
        job_id=job.id if job else None,
        action="DRIFT_MENDED" if job else "DRIFT_MEND_GIVEN_UP",
        **{name: item[name] for name in ("kind", "vmid", "table", "node")},
    )
