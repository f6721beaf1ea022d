"""A new pod whose vmid or address its node knows for somebody else's: it gets another one, if nobody asked for just this one.

The node says so by the word `taken` in the failure, `vmid` or `ip`, when it refused before it did anything
(docs/node-contract.md). The pod's share of node and quota stays what it is.
"""

from typing import Any

from shim.cloudpods import change, once
from shim.cloudpods.models import CloudPod
from shim.db import database, lock
from shim.errors import Conflict
from shim.jobs.models import CloudPodJob

# A site that filled more of the range by hand should give the region a range of its own.
AT_MOST = 20


def avoid(job: CloudPodJob, failure: dict[str, Any]) -> dict[str, Any] | None:
    """Give the job's pod another vmid or address; return the payload to go on with, None when the failure stands.

    Call inside the transaction that puts the job back.
    """
    clashes = job.payload.get("clashes", 0)
    # Only where nothing is left may the pod go elsewhere: it would be there twice.
    if failure["left_behind"] != "nothing" or clashes >= AT_MOST:
        return None
    pod = change.pod_of(job)
    try:
        # When none is left, the locks go again with what was tried: those that end the job come in another order.
        with database.atomic():
            changed = _another(job, pod, failure["taken"])
    except Conflict:
        # The node's refusal is the reason to tell.
        return None
    return None if changed is None else {**job.payload, **changed, "clashes": clashes + 1}


def _another(job: CloudPodJob, pod: CloudPod, taken: str) -> dict[str, Any] | None:
    if taken == "vmid" and job.payload.get("autoVmid"):
        return _another_vmid(job, pod)
    # Where the node chose it, it clashes with nobody's; one that the pod lost to another one meanwhile was the shim's choice.
    if taken == "ip" and job.payload.get("autoIp") and (pod.ip or once.chooses_address(pod.node)):
        return _another_address(job, pod)
    return None


def _another_vmid(job: CloudPodJob, pod: CloudPod) -> dict[str, Any]:
    lock("vmid")
    before = pod.vmid
    pod.change(vmid=once.next_vmid(pod.region, but=once.foreign()[0]))
    # A destroy that was ordered meanwhile is to look at the pod and at nobody else's container.
    CloudPodJob.follow_vmid(pod.id, pod.vmid)
    change.record("WARN", f"vmid {before} is somebody else's", job, action="VMID_CHANGED", before=before, after=pod.vmid)
    return {"vmid": pod.vmid}


def _another_address(job: CloudPodJob, pod: CloudPod) -> dict[str, Any]:
    lock("vmid")
    before = pod.ip
    pod.change(ip=once.address(pod.node, None, but=[before]))
    change.record(
        "WARN", f"address {before or 'asked for'} is somebody else's", job, action="IP_CHANGED", before=before, after=pod.ip
    )
    return {}
