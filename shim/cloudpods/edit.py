"""What may be said of a pod without an order to its node: whether it is protected."""

from collections.abc import Callable
from datetime import datetime

from shim.cloudpods.models import CloudPod
from shim.cloudpods.schemas import EditPod
from shim.db import database
from shim.errors import Conflict, NotFound
from shim.events.models import CloudPodEvent


def edit(reference: str, request: EditPod, check: Callable[[datetime], None]) -> CloudPod:
    """Write it, once `check` has nothing against the version of the pod; return the pod. Nothing new is no change."""
    with database.atomic():
        pod = CloudPod.hold(reference)
        if request.tenant_id not in (None, pod.tenant_id):
            raise NotFound(f"tenant {request.tenant_id} has no pod {reference}", code="cloudpod_not_found")
        check(pod.updated_at)
        if pod.status == "deleted":
            raise Conflict(f"pod {pod.vmid} is deleted", code="cloudpod_deleted")
        if pod.status == "deleting":
            # Its destruction is ordered, and would not heed it.
            raise Conflict(f"pod {pod.vmid} is being destroyed", code="cloudpod_not_active", cloudPodStatus=pod.status)
        if pod.protected != request.protected:
            pod.change(protected=request.protected)
            _record(pod)
        return CloudPod.find(pod.id)


def _record(pod: CloudPod) -> None:
    action = "PROTECTED" if pod.protected else "UNPROTECTED"
    about = {"tenant_id": pod.tenant_id, "cloud_pod_id": pod.id}
    CloudPodEvent.record("INFO", f"CloudPod {action.lower()}", **about, action=action, vmid=pod.vmid)
