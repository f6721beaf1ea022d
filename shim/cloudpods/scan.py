"""POD_SCAN: which containers of a node's pool are none of our pods, from the request to its outcome."""

from typing import Any

from shim.cloudpods import change
from shim.cloudpods.models import CloudPod
from shim.config import DRILL_VMIDS, Settings
from shim.errors import CloudPodsError, NotFound
from shim.jobs import looks, state
from shim.jobs.again import Again
from shim.jobs.models import CloudPodJob
from shim.nodes.models import CloudPodNode

TYPE = "POD_SCAN"
# What is kept of a container that is not ours: what an adoption needs, and a person to know it by. Under clients' names.
NAMES = {
    "vmid": "vmid",
    "status": "status",
    "hostname": "hostname",
    "ip": "ip",
    "cores": "cores",
    "memory_mb": "memoryMb",
    "swap_mb": "swapMb",
    "disk_gb": "diskGb",
    "storage": "storage",
    "bridge": "bridge",
    "unfinished": "unfinished",
    "owner": "owner",
    "host_key": "hostKey",
}


def order(node_name: str) -> CloudPodJob:
    """Queue a look at all containers of a node's pool, or return the one that is already queued."""
    return looks.order(TYPE, node_name, {})


def foreign(node_name: str) -> tuple[CloudPodJob | None, list[dict[str, Any]]]:
    """Return the last look at a node and the containers it showed that are no live pod of ours by now, by vmid."""
    last = CloudPodJob.last_of_node(CloudPodNode.named(node_name).id, TYPE)
    rows: list[dict[str, Any]] = (last.result or {}).get("foreign", []) if last else []
    live = CloudPod.live_vmids([row["vmid"] for row in rows])
    return last, [row for row in rows if row["vmid"] not in live and not is_drill(row)]


def container(node_name: str, vmid: int) -> dict[str, Any]:
    """Return what the last look showed of a container that is not ours. Raises NotFound."""
    found = next((row for row in foreign(node_name)[1] if row["vmid"] == vmid), None)
    if found is None:
        raise NotFound(
            f"the last look at {node_name} showed no container {vmid} in the pool that is not ours already;"
            " put it into the pool and look again",
            code="container_not_found",
        )
    return found


def is_drill(row: dict[str, Any]) -> bool:
    """Return whether a container is a restore drill's copy, which its drill or the next one removes: nobody's to adopt."""
    named = str((row.get("owner") or {}).get("pod") or "")
    return int(row["vmid"]) >= DRILL_VMIDS or named.startswith("drill.")


def variables(job: CloudPodJob) -> dict[str, Any]:
    """Return the playbook's extra vars: none means all pods."""
    return {}


def succeed(job: CloudPodJob, result: dict[str, Any]) -> None:
    """Keep the containers that are none of ours."""
    pods = (result.get(job.node_name) or {}).get("pods")
    if not isinstance(pods, list):
        raise CloudPodsError(f"the info playbook's result says nothing about node {job.node_name}", code="bad_result")
    live = CloudPod.live_vmids([int(row["vmid"]) for row in pods])
    rows = [row for row in pods if row.get("exists") and row.get("in_pool") and row["vmid"] not in live]
    kept = [{name: row.get(key) for key, name in NAMES.items()} for row in rows if not is_drill(row)]
    state.keep(job, {"node": job.node_name, "seen": len(pods), "foreign": kept})


def fail(job: CloudPodJob, failure: dict[str, Any]) -> None:
    """What was known of the node stays."""
    change.record("WARN", f"{job.node_name} not looked at: {failure['msg']}", job, action="POD_SCAN_FAILED", node=job.node_name)


def settle(job: CloudPodJob, seen: dict[str, Any]) -> dict[str, Any] | None:
    """A lost look is taken again."""
    return None


def again(job: CloudPodJob, settings: Settings) -> Again:
    """Return the order of a fresh look."""
    return looks.again(job)
