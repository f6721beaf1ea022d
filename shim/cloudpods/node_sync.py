"""NODE_SYNC: what a node has for pods, from the clock to its row.

The node is the truth of its hardware: totals that somebody wrote by hand are overwritten, and the event says what they were.
How much more than it has a node may be given is its over-commit, which nobody but the operator changes.
"""

from typing import Any

from shim import db
from shim.config import Settings
from shim.errors import CloudPodsError
from shim.events.models import CloudPodEvent
from shim.jobs import looks, state
from shim.jobs.again import Again
from shim.jobs.models import CloudPodJob
from shim.nodes.models import CloudPodNode

TYPE = "NODE_SYNC"
# PostgreSQL's integer.
_HIGHEST = 2**31 - 1


def variables(job: CloudPodJob) -> dict[str, Any]:
    """Return the playbook's extra vars."""
    return {}


def succeed(job: CloudPodJob, result: dict[str, Any]) -> None:
    """Write the totals. What the node does not tell stays as it was."""
    said = result.get(job.node_name) or {}
    facts = said.get("facts")
    if not isinstance(facts, dict):
        raise CloudPodsError(
            f"the scripts of {job.node_name} are too old to tell what it has; install them anew with playbooks/node.yml",
            code="bad_result",
        )
    found = _totals(facts)
    node = CloudPodNode.get_by_id(job.node_id)
    before = {name: getattr(node, name) for name in found}
    # Somebody may have said already what it is called in Proxmox.
    node_name = node.node_name or said.get("node")
    CloudPodNode.update(**found, node_name=node_name, synced_at=db.now()).where(CloudPodNode.id == node.id).execute()
    if before != found:
        _tell(job, before, found)
    looks.tell_success(job)
    state.keep(job, {"node": job.node_name, "version": said.get("version"), **found})


def fail(job: CloudPodJob, failure: dict[str, Any]) -> None:
    """What was known of the node stays."""
    looks.tell_failure(job, f"{job.node_name} not synced: {failure['msg']}", action="NODE_SYNC_FAILED")


def settle(job: CloudPodJob, seen: dict[str, Any]) -> dict[str, Any] | None:
    """A lost look is taken again."""
    return None


def again(job: CloudPodJob, settings: Settings) -> Again:
    """Return the order of a fresh look."""
    return looks.again(job)


def _totals(facts: dict[str, Any]) -> dict[str, Any]:
    """Return what a node's facts mean for its row: only what they tell."""
    rows = facts.get("storages")
    named = [row for row in rows if isinstance(row, dict) and row.get("name")] if isinstance(rows, list) else []
    # A row that does not say whose it is says nothing of the others.
    usable = [row for row in named if row.get("active")]
    disk = next((row.get("total_gb") for row in usable if row["name"] == facts.get("storage")), None)
    numbers = {"total_cpu_cores": facts.get("cores"), "total_memory_mb": facts.get("memory_mb"), "total_disk_gb": disk}
    told = {name: number for name, number in numbers.items() if isinstance(number, int) and 0 < number <= _HIGHEST}
    return {**told, **({"storages": sorted(str(row["name"]) for row in usable)} if usable else {})}


def _tell(job: CloudPodJob, before: dict[str, Any], after: dict[str, Any]) -> None:
    changed = [name for name in after if before[name] != after[name]]
    CloudPodEvent.record(
        "INFO",
        f"{job.node_name} has other totals",
        action="NODE_SYNCED",
        node=job.node_name,
        before={name: before[name] for name in changed},
        after={name: after[name] for name in changed},
    )
