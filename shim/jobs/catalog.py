"""Every kind of job: its queue, playbook, limits, and the module that knows what it means.

The module is named by a string because it stands above this package (the pods' own folder); a test resolves each. It offers
the functions of `Handler`.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from shim.caller import Permission
from shim.config import Settings
from shim.jobs.again import Again
from shim.jobs.models import CloudPodJob


class Handler(Protocol):
    """What the module of an action offers. `succeed` and `fail` run inside the transaction that ends the job.

    A module may offer more, which stands in for what is done without it:

    | function | when | without it |
    |---|---|---|
    | `left(job, seen)` | a look showed that ended runs did not do their work: return what they left | nothing, it only looks |
    | `cancelled(job, failure)` | in the transaction that cancels the job | `fail` |
    | `vmid(job)` | its runs work at, and lock, another container than its pod's | the payload's |
    | `at_home(variables, settings)` | its playbook needs settings of the house: return its variables with those | these |
    | `secrets(variables)` | among these are secrets: return them, so that they are hidden in whatever its runs say | none |
    """

    def variables(self, job: CloudPodJob) -> dict[str, Any]:
        """Return the playbook's extra vars for this job."""

    def succeed(self, job: CloudPodJob, result: dict[str, Any]) -> None:
        """Write what the playbook's `result` means for the pod, and the event."""

    def fail(self, job: CloudPodJob, failure: dict[str, Any]) -> None:
        """Write what a final failure means for the pod, and the event."""

    def settle(self, job: CloudPodJob, seen: dict[str, Any]) -> dict[str, Any] | None:
        """Given what `cloudpod_info` says of the pod after a run was lost, return the result if its work is done."""

    def again(self, job: CloudPodJob, settings: Settings) -> Again:
        """Return the order that this job came of, read back out of its payload, for it to be given anew.

        Called inside the transaction that gives it. Raises Conflict when what the job left must go first.
        """


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
    `permission` is what whoever orders it needs, and whoever orders it anew or ends it. Whose playbook is not `on_node` begins
    on the worker's host and goes from there to the pods; it takes a place of its node all the same.
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
    permission: Permission = "pods:change"
    on_node: bool = True

    @property
    def handler(self) -> Handler:
        """Return the module that knows what this action means."""
        return cast(Handler, importlib.import_module(self.handler_module))

    @property
    def leaves_traces(self) -> bool:
        """Return whether a run of it that was ended may leave something on its node."""
        return hasattr(self.handler, "left")

    def left(self, job: CloudPodJob, seen: dict[str, Any]) -> str:
        """Given what a look at the job's node saw after its runs were ended, return what they left there."""
        left: Callable[[CloudPodJob, dict[str, Any]], str] | None = getattr(self.handler, "left", None)
        return left(job, seen) if left else "nothing"

    def cancelled(self, job: CloudPodJob, failure: dict[str, Any]) -> None:
        """Write what a cancelled job means for its pod, and the event."""
        meant: Callable[[CloudPodJob, dict[str, Any]], None] = getattr(self.handler, "cancelled", self.handler.fail)
        meant(job, failure)

    def vmid(self, job: CloudPodJob) -> int:
        """Return the vmid of the container that the job's runs work at."""
        vmid: Callable[[CloudPodJob], int] | None = getattr(self.handler, "vmid", None)
        return vmid(job) if vmid else int(job.payload["vmid"])

    def variables(self, job: CloudPodJob, settings: Settings) -> dict[str, Any]:
        """Return the extra vars of its playbook for this job, with what that needs of the house's settings."""
        at_home: Callable[[dict[str, Any], Settings], dict[str, Any]] | None = getattr(self.handler, "at_home", None)
        variables = self.handler.variables(job)
        return at_home(variables, settings) if at_home else variables

    def secrets(self, variables: dict[str, Any]) -> list[str]:
        """Return what nobody may read of what a run says that is given these variables."""
        secrets: Callable[[dict[str, Any]], list[str]] | None = getattr(self.handler, "secrets", None)
        return secrets(variables) if secrets else []

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
            permission="manage",
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
            permission="manage",
        ),
        Action(
            type="BLUEPRINT",
            queue="cloudpods:blueprint",
            playbook="blueprint_configure.yml",
            handler_module="shim.blueprints.configure",
            priority=28,
            timeout_s=2 * 3600,
            # Of no one pod: its deployment sees to it that nothing else is done to its pods meanwhile.
            changes_pod=False,
            long=True,
            on_node=False,
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
            permission="manage",
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
            permission="manage",
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
            permission="manage",
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

# Of these the newest rows are kept only (`many.forget_old`).
FORGOTTEN: tuple[str, ...] = tuple(action.type for action in ACTIONS.values() if not action.keeps_events)

# For a worker that is always soon free.
QUICK_QUEUES: tuple[str, ...] = tuple(queue for queue in QUEUES if queue not in {ACTIONS[type].queue for type in LONG})


def types_of(queues: tuple[str, ...]) -> list[str]:
    """Return the job types that these queues carry."""
    return [action.type for action in ACTIONS.values() if action.queue in queues]


def load(types: list[str]) -> None:
    """Import the modules of these actions now, so that a process that forks for each job has them already."""
    for action in map(ACTIONS.__getitem__, types):
        for name in filter(None, (action.handler_module, action.clash_module)):
            importlib.import_module(name)
