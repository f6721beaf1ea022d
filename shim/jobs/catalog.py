"""Every kind of job: its queue, playbook, limits, and the module that knows what it means.

The module is named by a string because it stands above this package (the pods' own folder); a test resolves each. It offers
the functions of `Handler`.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from shim.jobs.models import CloudPodJob


class Handler(Protocol):
    """What the module of an action offers. `succeed` and `fail` run inside the transaction that ends the job."""

    def variables(self, job: CloudPodJob) -> dict[str, Any]:
        """Return the playbook's extra vars for this job."""

    def succeed(self, job: CloudPodJob, result: dict[str, Any]) -> None:
        """Write what the playbook's `result` means for the pod, and the event."""

    def fail(self, job: CloudPodJob, failure: dict[str, Any]) -> None:
        """Write what a final failure means for the pod, and the event."""

    def settle(self, job: CloudPodJob, seen: dict[str, Any]) -> dict[str, Any] | None:
        """Given what `cloudpod_info` says of the pod after a run was lost, return the result if its work is done."""


class Clashes(Protocol):
    """What the module offers that knows how a new pod gets by when its node says that somebody has its vmid or address."""

    def avoid(self, job: CloudPodJob, failure: dict[str, Any]) -> dict[str, Any] | None:
        """Give the job's pod another one; return the payload to go on with, None when the failure stands."""


@dataclass(frozen=True, kw_only=True)
class Action:
    """One kind of job. Lower `priority` runs first; `timeout_s` bounds one run; `tries` bounds the runs.

    Of the jobs that are `one_per_node`, whatever their types, a node runs one at a time. `long` ones may take hours: they leave
    a node and, in `cloudpods up`, a worker to the others. `look` is what the look at the node
    that settles a lost run is given besides the vmid. Jobs that do not `keeps_events` come by the clock and are soon forgotten:
    no event may refer to them. Those that make a pod have a `clash_module`.
    """

    type: str
    queue: str
    playbook: str
    handler_module: str
    priority: int
    timeout_s: int
    tries: int = 3
    changes_pod: bool = True
    one_per_node: bool = False
    long: bool = False
    look: Mapping[str, Any] = field(default_factory=dict)
    keeps_events: bool = True
    clash_module: str | None = None

    @property
    def handler(self) -> Handler:
        """Return the module that knows what this action means."""
        return cast(Handler, importlib.import_module(self.handler_module))

    @property
    def clashes(self) -> Clashes | None:
        """Return the module that knows what to do when somebody has a new pod's vmid or address."""
        return cast(Clashes, importlib.import_module(self.clash_module)) if self.clash_module else None


ACTIONS: dict[str, Action] = {
    action.type: action
    for action in (
        Action(
            type="DESTROY",
            queue="cloudpods:destroy",
            playbook="cloudpod_destroy.yml",
            handler_module="shim.cloudpods.destroy",
            priority=10,
            timeout_s=300,
            tries=5,
        ),
        Action(
            type="CREATE",
            queue="cloudpods:create",
            playbook="cloudpod_create.yml",
            handler_module="shim.cloudpods.create",
            clash_module="shim.cloudpods.clash",
            priority=20,
            timeout_s=900,
            tries=5,
        ),
        Action(
            type="RESTORE",
            queue="cloudpods:restore",
            playbook="cloudpod_restore.yml",
            handler_module="shim.cloudpods.restore",
            clash_module="shim.cloudpods.clash",
            priority=22,
            timeout_s=6 * 3600,
            long=True,
        ),
        Action(
            type="POWER",
            queue="cloudpods:power",
            playbook="cloudpod_power.yml",
            handler_module="shim.cloudpods.power",
            priority=25,
            # A guest may take up to an hour to shut down when it is asked to.
            timeout_s=3900,
        ),
        Action(
            type="SCALE",
            queue="cloudpods:scale",
            playbook="cloudpod_scale.yml",
            handler_module="shim.cloudpods.scale",
            priority=30,
            timeout_s=120,
        ),
        Action(
            type="SNAPSHOT",
            queue="cloudpods:snapshot",
            playbook="cloudpod_snapshot.yml",
            handler_module="shim.cloudpods.snapshot",
            priority=35,
            timeout_s=900,
        ),
        Action(
            type="BACKUP",
            queue="cloudpods:backup",
            playbook="cloudpod_backup.yml",
            handler_module="shim.cloudpods.backup",
            priority=40,
            timeout_s=6 * 3600,
            # vzdump itself does no more, and two would wear the disks of everybody's pods.
            one_per_node=True,
            long=True,
            look={"backups": True},
        ),
        Action(
            type="ADOPT",
            queue="cloudpods:adopt",
            playbook="cloudpod_adopt.yml",
            handler_module="shim.cloudpods.adopt",
            priority=30,
            timeout_s=120,
        ),
        Action(
            type="POD_SCAN",
            queue="cloudpods:scan",
            playbook="cloudpod_info.yml",
            handler_module="shim.cloudpods.scan",
            priority=45,
            timeout_s=120,
            changes_pod=False,
            keeps_events=False,
        ),
        Action(
            type="HEALTH_CHECK",
            queue="cloudpods:health",
            playbook="cloudpod_health.yml",
            handler_module="shim.cloudpods.health",
            priority=50,
            timeout_s=120,
            changes_pod=False,
        ),
        Action(
            type="HEALTH_SWEEP",
            queue="cloudpods:health",
            playbook="cloudpod_health.yml",
            handler_module="shim.cloudpods.sweep",
            priority=60,
            timeout_s=120,
            # The next one comes by the clock.
            tries=2,
            changes_pod=False,
            keeps_events=False,
        ),
        Action(
            type="RECONCILE",
            queue="cloudpods:reconcile",
            playbook="cloudpod_info.yml",
            handler_module="shim.cloudpods.reconcile",
            priority=65,
            timeout_s=120,
            # The next one comes by the clock.
            tries=2,
            changes_pod=False,
            keeps_events=False,
        ),
        Action(
            type="NODE_SYNC",
            queue="cloudpods:sync",
            playbook="node_info.yml",
            handler_module="shim.cloudpods.node_sync",
            priority=65,
            timeout_s=120,
            tries=2,
            changes_pod=False,
            keeps_events=False,
        ),
        Action(
            type="RESTORE_DRILL",
            queue="cloudpods:drill",
            playbook="restore_drill.yml",
            handler_module="shim.cloudpods.restore_drill",
            priority=60,
            timeout_s=6 * 3600,
            changes_pod=False,
            # A backup's retention must not take the archive away under it.
            one_per_node=True,
            long=True,
        ),
    )
}

QUEUES: tuple[str, ...] = tuple(dict.fromkeys(action.queue for action in ACTIONS.values()))

ONE_PER_NODE: tuple[str, ...] = tuple(action.type for action in ACTIONS.values() if action.one_per_node)

LONG: tuple[str, ...] = tuple(action.type for action in ACTIONS.values() if action.long)

# Of these the newest rows are kept only (`state.forget_old`).
FORGOTTEN: tuple[str, ...] = tuple(action.type for action in ACTIONS.values() if not action.keeps_events)

# For a worker that is always soon free.
QUICK_QUEUES: tuple[str, ...] = tuple(queue for queue in QUEUES if queue not in {ACTIONS[type].queue for type in LONG})


def types_of(queues: tuple[str, ...]) -> list[str]:
    """Return the job types that these queues carry."""
    return [action.type for action in ACTIONS.values() if action.queue in queues]
