"""Blueprints over HTTP."""

from functools import partial

import falcon

from shim.blueprints import deploy, edit, roles
from shim.blueprints.models import Blueprint
from shim.blueprints.schemas import BlueprintAnswer, ChangeBlueprint, CreateBlueprint, DeployAnswer, DeployBlueprint
from shim.cloudpods.accepting import prefix
from shim.cloudpods.schemas import OrderQuery
from shim.config import Settings
from shim.jobs.queue import Wakeups
from shim.web import body, etag, rows
from shim.web.operation import operation
from shim.web.paging import PageQuery
from shim.web.rate_limit import RateLimits
from shim.web.schema import PageAnswer, Query


class Blueprints:
    """`/internal/blueprints`."""

    def __init__(self, settings: Settings) -> None:
        self._roles = roles.of(settings)

    @operation(permission="pods:read", query=PageQuery, answer=PageAnswer[BlueprintAnswer])
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Answer with a page of blueprints, newest first; they are everybody's."""
        rows.page(response, Blueprint.listed(), Blueprint, request.context.query)

    @operation(permission="manage", query=Query, body=CreateBlueprint, answer=BlueprintAnswer, status=201, etag=True)
    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Write a blueprint; what its document breaks is told by JSON pointers into it."""
        made = edit.create(body.read(request, CreateBlueprint), self._roles)
        rows.created(request, response, made, name=made.slug)


class OneBlueprint:
    """`/internal/blueprints/{slug}`."""

    def __init__(self, settings: Settings) -> None:
        self._roles = roles.of(settings)

    @operation(permission="pods:read", query=Query, answer=BlueprintAnswer, etag=True)
    def on_get(self, request: falcon.Request, response: falcon.Response, slug: str) -> None:
        """Answer with the blueprint."""
        rows.show(response, Blueprint.find(slug))

    @operation(permission="manage", query=Query, body=ChangeBlueprint, answer=BlueprintAnswer, etag=True)
    def on_put(self, request: falcon.Request, response: falcon.Response, slug: str) -> None:
        """Write the blueprint anew; what was deployed stays as it is."""
        asked = body.read(request, ChangeBlueprint)
        rows.show(response, edit.change(slug, asked, self._roles, partial(etag.check, request)))

    @operation(permission="manage", query=Query, status=204, etag=True)
    def on_delete(self, request: falcon.Request, response: falcon.Response, slug: str) -> None:
        """Delete a blueprint of which no deployment is there."""
        edit.delete(slug, partial(etag.check, request))
        response.status = falcon.HTTP_204


class Deploy:
    """`POST /internal/blueprints/{slug}/deploy`."""

    def __init__(self, settings: Settings, wakeups: Wakeups, rates: RateLimits) -> None:
        self._settings = settings
        self._wakeups, self._rates = wakeups, rates

    @operation(
        permission="pods:change",
        query=OrderQuery,
        body=DeployBlueprint,
        answer=DeployAnswer,
        status=202,
        statuses=(200,),
        problems=(429,),
    )
    def on_post(self, request: falcon.Request, response: falcon.Response, slug: str) -> None:
        """Make a stack after the blueprint, or with `?dryRun=1` say what it would come to and write nothing."""
        asked = body.read(request, DeployBlueprint)
        _, planned = deploy.planned(slug, asked, self._settings)
        if request.context.query.dry_run:
            self._rates.take(asked.tenant_id, {"order": len(planned.pods)})
            response.media = {"deployment": None, "plan": deploy.rehearse(slug, asked, self._settings)}
            return
        self._rates.take(asked.tenant_id, {"create": len(planned.pods)})
        made = deploy.deploy(slug, asked, self._settings)
        self._wakeups.announce(deploy.to_announce(made))
        response.status = falcon.HTTP_202
        response.location = f"{prefix(request)}/deployments/{made.id}"
        response.media = {"deployment": made.as_json(), "plan": None}
