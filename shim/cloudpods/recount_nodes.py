"""What pods really are by their nodes: a new look at each node, whose findings about sizes the pods' rows take over.

What is missing, or is no pod of ours, nobody can decide here: it is told and left.
"""

from typing import Any

from shim import db
from shim.cloudpods import reconcile
from shim.cloudpods.compare import SIZES
from shim.cloudpods.drift_models import DriftReport
from shim.cloudpods.models import CloudPod
from shim.db import database
from shim.errors import CloudPodsError
from shim.events.models import CloudPodEvent
from shim.jobs import looks
from shim.jobs.follow import finished
from shim.jobs.queue import Wakeups
from shim.nodes.models import CloudPodNode

KINDS = ("size", "missing", "moved", "moved_to_unknown_node", "duplicate", "unfinished", "owner", "foreign")


def names() -> list[str]:
    """Return the names of the nodes that can be asked."""
    return [row[0] for row in db.rows("SELECT name FROM cloud_pod_nodes WHERE status <> 'offline' ORDER BY name")]


def look(wakeups: Wakeups, node: str, wait_s: float) -> DriftReport:
    """Look at a node and return the report. Raises CloudPodsError when the look does not succeed in time."""
    with db.session():
        # Nothing is ordered to be set right: the recount takes what is.
        job = looks.order(reconcile.TYPE, node, {"mends": []})
    wakeups.announce([(job.id, job.type)])
    finished(job.id, wait_s)
    with db.session():
        report = DriftReport.newest(CloudPodNode.named(node).id)
    if report is None:
        raise CloudPodsError(f"the look at {node} left no report", code="bad_result")
    return report


def items(report: DriftReport, tenant_id: str | None) -> list[dict[str, Any]]:
    """Return the findings that a quota depends on, of one tenant's pods if given."""
    return [item for item in report.items if item["kind"] in KINDS and tenant_id in (None, item["tenantId"])]


def take_over(report: DriftReport, item: dict[str, Any]) -> bool:
    """Write a pod's real size to its row; share and quota follow when its tenant is recounted. False if it changed since."""
    if item["kind"] != "size":
        return False
    with database.atomic():
        pod = CloudPod.hold(item["cloudPodId"])
        if pod.status != "active" or pod.updated_at >= report.looked_at:
            return False
        # A container without a limit says nothing of its cores.
        real = {name: value for name, value in item["node"].items() if name in SIZES and value}
        before = {name: getattr(pod, name) for name in real}
        pod.change(**real)
        about = {"tenant_id": pod.tenant_id, "cloud_pod_id": pod.id}
        CloudPodEvent.record(
            "WARN", "Size of the pod recounted", **about, action="SIZE_RECOUNTED", vmid=pod.vmid, before=before, after=real
        )
        return True
