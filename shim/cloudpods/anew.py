"""A job's order read back out of its payload, by the model that checked it as it came (`shim/jobs/retry.py`)."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from shim import caller, faults
from shim.cloudpods.models import CloudPod
from shim.cloudpods.schemas import ChangePod
from shim.errors import Conflict
from shim.jobs.again import Again
from shim.jobs.models import CloudPodJob
from shim.nodes.models import Allocation
from shim.web import body
from shim.web.schema import Request

Asked = TypeVar("Asked", bound=Request)


def asked(model: type[Asked], payload: Mapping[str, Any]) -> Asked:
    """Return what was asked for: of the payload what clients say, without what its order added. Raises Invalid.

    Who asked is not among it: the order wrote there who that was, by a name that a body may not say.
    """
    names = {field.serialization_alias for field in model.model_fields.values()} - {"requestedBy"}
    return body.parse(model, {name: value for name, value in payload.items() if name in names})


def change(job: CloudPodJob, model: type[ChangePod], order: Callable[..., Any]) -> Again:
    """Return the order of a pod's change: `order` takes the pod's reference and the request."""
    # The pod's id: its vmid may be another pod's by now.
    pod_id = str(job.cloud_pod_id)
    return Again(asked=asked(model, job.payload), give=partial(order, pod_id), reference=pod_id)


def without_chosen(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return a new pod's payload without the vmid and address that nobody asked for: they are chosen anew."""
    chosen = {name for name, auto in (("vmid", "autoVmid"), ("ip", "autoIp")) if payload.get(auto)}
    return {name: value for name, value in payload.items() if name not in chosen}


def require_of_no_deployment(job: CloudPodJob) -> None:
    """Raise Conflict for a part of a stack: its deployment is to be tried again, which knows from where."""
    if job.deployment_id is not None:
        raise Conflict(
            f"this job is a part of deployment {job.deployment_id}: retry that",
            code="part_of_deployment",
            deploymentId=job.deployment_id,
        )


def require_nothing_left(job: CloudPodJob) -> None:
    """Raise Conflict when the pod that the job was to make stands, or something of it is left on its node."""
    if job.dry_run:
        return
    pod = CloudPod.find(str(job.cloud_pod_id))
    if pod.status == "active":
        raise Conflict(f"pod {pod.vmid} stands after all", code="nothing_to_retry", cloudPodId=pod.id)
    if pod.status != "deleted" and Allocation.of_pod(pod.id) is not None:
        left = str((job.failure or {}).get("left_behind", "something"))
        left = left if caller.only_tenant() is None else faults.left(left)
        going = CloudPodJob.pending(pod.id, "DESTROY")
        what = f"retry when job {going.id} has destroyed it" if going else "destroy that pod first, then retry"
        raise Conflict(
            f"of the pod that it did not make, {pod.vmid} with the id {pod.id}, node {pod.node.name} still has: {left}; {what}",
            code="left_behind",
            cloudPodId=pod.id,
            leftBehind=left,
        )
