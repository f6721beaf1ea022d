"""Pods over HTTP: the master spec's section 5, and the panel's `actions`."""

from dataclasses import replace
from functools import partial, reduce
from operator import or_
from typing import Annotated, Any

import falcon
from pydantic import Field

from shim import caller
from shim.cloudpods import backup, create, destroy, edit, health, power, scale, snapshot
from shim.cloudpods.accepting import accept, take
from shim.cloudpods.answer_schemas import AcceptedAnswer, CloudPodAnswer, HealthAnswer, SnapshotAnswer
from shim.cloudpods.list_resources import AllPods
from shim.cloudpods.models import CloudPod, CloudPodSnapshot
from shim.cloudpods.schemas import (
    BackupPod,
    ChangePod,
    CreatePod,
    DestroyPod,
    EditPod,
    OrderQuery,
    PowerPod,
    RefreshQuery,
    ScalePod,
    SnapshotPod,
    WhoseQuery,
    as_action,
)
from shim.config import Settings
from shim.errors import Invalid
from shim.jobs.queue import Wakeups
from shim.web import body, etag, rows
from shim.web.operation import Operation, operation
from shim.web.rate_limit import RateLimits
from shim.web.schema import PageAnswer, Query

CHANGES: dict[str, tuple[type[ChangePod], Any]] = {
    "destroy": (DestroyPod, destroy.destroy),
    "backup": (BackupPod, backup.backup),
    "scale": (ScalePod, scale.scale),
}
ACTIONS: dict[str, tuple[type[ChangePod], Any]] = {
    **CHANGES,
    **{action: (PowerPod, order) for action, order in power.ORDERS.items()},
}
# What `?dryRun=1` can be asked of, besides a new pod.
REHEARSED = (DestroyPod, BackupPod, ScalePod, PowerPod)


class CloudPods(AllPods):
    """`/internal/cloudpods`."""

    def __init__(self, settings: Settings, wakeups: Wakeups, rates: RateLimits) -> None:
        self._settings = settings
        self._wakeups, self._rates = wakeups, rates

    @operation(permission="pods:change", query=OrderQuery, body=CreatePod, answer=AcceptedAnswer, status=202, problems=(429,))
    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Take the order for a new pod."""
        asked = body.read(request, CreatePod)
        order = partial(create.create, asked, self._settings)
        take(request, response, self._wakeups, self._rates, asked, order)


class OnePod:
    """`GET /internal/cloudpods/{vmid or id}`."""

    @operation(permission="pods:read", query=Query, answer=CloudPodAnswer, etag=True)
    def on_get(self, request: falcon.Request, response: falcon.Response, reference: str) -> None:
        """Answer with the pod: what the database knows, with its last health and backup."""
        rows.show(response, CloudPod.find(reference))

    @operation(permission="pods:change", query=Query, body=EditPod, answer=CloudPodAnswer, etag=True)
    def on_put(self, request: falcon.Request, response: falcon.Response, reference: str) -> None:
        """Protect the pod from being destroyed, or do so no longer."""
        rows.show(response, edit.edit(reference, body.read(request, EditPod), partial(etag.check, request)))


class Change:
    """`POST /internal/cloudpods/{vmid or id}/destroy`, `/backup`, `/scale` and their like."""

    def __init__(self, model: type[ChangePod], change: Any, wakeups: Wakeups, rates: RateLimits) -> None:
        self._model, self._change = model, change
        self._wakeups, self._rates = wakeups, rates

    def declare(self, declared: Operation) -> Operation:
        """Return the declaration with what this instance takes and does."""
        said = str(getattr(self._change, "func", self._change).__doc__).split("\n", 1)[0]
        query = OrderQuery if self._model in REHEARSED else Query
        return replace(declared, body=self._model, query=query, summary=said)

    @operation(permission="pods:change", query=Query, answer=AcceptedAnswer, status=202, problems=(412, 429))
    def on_post(self, request: falcon.Request, response: falcon.Response, reference: str) -> None:
        """Take the order."""
        asked = body.read(request, self._model)
        order = partial(self._change, reference, asked)
        take(request, response, self._wakeups, self._rates, asked, order, reference=reference)


class Actions:
    """`POST /api/cloudpods/{vmid or id}/actions`: `{"action": "backup", …}` with the fields of that change."""

    def __init__(self, actions: dict[str, tuple[type[ChangePod], Any]], wakeups: Wakeups, rates: RateLimits) -> None:
        self._actions = actions
        self._wakeups, self._rates = wakeups, rates

    def declare(self, declared: Operation) -> Operation:
        """Return the declaration with the body of each action."""
        models: Any = [as_action(name, model) for name, (model, _) in self._actions.items()]
        return replace(declared, body=Annotated[reduce(or_, models), Field(discriminator="action")])

    @operation(permission="pods:change", query=OrderQuery, answer=AcceptedAnswer, status=202, problems=(412, 429))
    def on_post(self, request: falcon.Request, response: falcon.Response, reference: str) -> None:
        """Take the order. Without `tenantId` it is the pod's own: the panel addresses the pod, not the tenant, here."""
        document = body.read_json(request)
        action = document.pop("action", None)
        if not isinstance(action, str) or action not in self._actions:
            raise Invalid.field("action", "must be one of: " + ", ".join(self._actions))
        if document.get("tenantId") is None:
            document["tenantId"] = CloudPod.find(reference).tenant_id
        model, change = self._actions[action]
        if request.context.query.dry_run and model not in REHEARSED:
            raise Invalid.field("dryRun", f"{action} cannot be rehearsed")
        asked = body.parse(model, document)
        order = partial(change, reference, asked)
        take(request, response, self._wakeups, self._rates, asked, order, reference=reference)


class Snapshots:
    """`/internal/cloudpods/{vmid or id}/snapshots`."""

    def __init__(self, wakeups: Wakeups, rates: RateLimits) -> None:
        self._wakeups, self._rates = wakeups, rates

    @operation(permission="pods:read", query=Query, answer=PageAnswer[SnapshotAnswer])
    def on_get(self, request: falcon.Request, response: falcon.Response, reference: str) -> None:
        """Answer with the pod's snapshots, oldest first."""
        found = CloudPodSnapshot.of(CloudPod.find(reference))
        response.media = {"items": [row.as_json() for row in found], "next": None}

    @operation(permission="pods:change", query=Query, body=SnapshotPod, answer=AcceptedAnswer, status=202, problems=(429,))
    def on_post(self, request: falcon.Request, response: falcon.Response, reference: str) -> None:
        """Take the order for a snapshot."""
        job, pod = snapshot.create(reference, self._rates.admit(body.read(request, SnapshotPod)))
        accept(request, response, self._wakeups, job, pod)


class OneSnapshot:
    """`DELETE /internal/cloudpods/{vmid or id}/snapshots/{name}`."""

    def __init__(self, wakeups: Wakeups, rates: RateLimits) -> None:
        self._wakeups, self._rates = wakeups, rates

    @operation(permission="pods:change", query=WhoseQuery, answer=AcceptedAnswer, status=202, problems=(429,))
    def on_delete(self, request: falcon.Request, response: falcon.Response, reference: str, name: str) -> None:
        """Take the order to drop the snapshot; `tenantId` stands in the query, since a DELETE's body may be lost on its way."""
        asked: WhoseQuery = request.context.query
        job, pod = snapshot.delete(reference, name, self._rates.admit(ChangePod(tenantId=asked.tenant_id)))
        accept(request, response, self._wakeups, job, pod)


class Rollback:
    """`POST /internal/cloudpods/{vmid or id}/snapshots/{name}/rollback`."""

    def __init__(self, wakeups: Wakeups, rates: RateLimits) -> None:
        self._wakeups, self._rates = wakeups, rates

    @operation(permission="pods:change", query=Query, body=ChangePod, answer=AcceptedAnswer, status=202, problems=(429,))
    def on_post(self, request: falcon.Request, response: falcon.Response, reference: str, name: str) -> None:
        """Take the order to go back to the snapshot."""
        job, pod = snapshot.rollback(reference, name, self._rates.admit(body.read(request, ChangePod)))
        accept(request, response, self._wakeups, job, pod)


class Health:
    """`GET /internal/cloudpods/{vmid or id}/health`."""

    def __init__(self, wakeups: Wakeups) -> None:
        self._wakeups = wakeups

    @operation(permission="pods:read", query=RefreshQuery, answer=HealthAnswer, problems=(409,))
    def on_get(self, request: falcon.Request, response: falcon.Response, reference: str) -> None:
        """Answer with the latest stored health; `?refresh=1` also queues a check and names its job."""
        answer = health.as_json(CloudPod.find(reference))
        if request.context.query.refresh:
            caller.require("health:refresh")
            job, _ = health.check(reference)
            self._wakeups.announce([(job.id, job.type)])
            answer["job"] = job.as_json()
        response.media = answer
