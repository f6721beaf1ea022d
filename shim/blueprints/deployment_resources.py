"""Deployments over HTTP."""

import logging

import falcon
import peewee

from shim.blueprints import changing, saga
from shim.blueprints.models import Deployment
from shim.blueprints.schemas import DeploymentAnswer, DeploymentsQuery, ListedDeploymentAnswer, RemoveQuery
from shim.cloudpods.accepting import prefix
from shim.config import Settings
from shim.db import database, first_line
from shim.errors import CloudPodsError
from shim.jobs.queue import Wakeups
from shim.tenants.models import Tenant
from shim.web import body, paging, rows
from shim.web.operation import operation
from shim.web.rate_limit import RateLimits
from shim.web.schema import Nothing, PageAnswer, Query

log = logging.getLogger(__name__)


class Deployments:
    """`GET /internal/deployments`."""

    @operation(permission="pods:read", query=DeploymentsQuery, answer=PageAnswer[ListedDeploymentAnswer])
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Answer with a page of deployments, newest first, those that are gone too."""
        asked: DeploymentsQuery = request.context.query
        if asked.tenant_id is not None:
            Tenant.known(asked.tenant_id)
        named = rows.filters(asked)
        if "tenant_id" in named:
            named["tenant"] = named.pop("tenant_id")
        found, cursor = paging.newest_first(Deployment.listed(**named), Deployment, asked.page(keys=2))
        response.media = {"items": [row.summary() for row in found], "next": cursor}


class OneDeployment:
    """`/internal/deployments/{id}`."""

    def __init__(self, wakeups: Wakeups, rates: RateLimits) -> None:
        self._wakeups, self._rates = wakeups, rates

    @operation(permission="pods:read", query=Query, answer=DeploymentAnswer)
    def on_get(self, request: falcon.Request, response: falcon.Response, deployment_id: str) -> None:
        """Answer with the deployment, its pods, its steps and what it gives."""
        response.media = Deployment.find(deployment_id).as_json()

    @operation(permission="pods:change", query=RemoveQuery, answer=DeploymentAnswer, status=202, problems=(409, 429))
    def on_delete(self, request: falcon.Request, response: falcon.Response, deployment_id: str) -> None:
        """Take the order to end what it does, to undo its steps and to destroy its pods, those last that others depend on.

        Where its steps cannot be undone, its pods stay; with `?force=1` they go, and its `error` tells what is left.
        """
        self._rates.take(Deployment.find(deployment_id).tenant_id, {"destroy": 1})
        asked: RemoveQuery = request.context.query
        changing.remove(deployment_id, force=asked.force)
        _go_on(deployment_id, self._wakeups)
        _accepted(request, response, deployment_id)


class RetryDeployment:
    """`POST /internal/deployments/{id}/retry`."""

    def __init__(self, settings: Settings, wakeups: Wakeups, rates: RateLimits) -> None:
        self._settings = settings
        self._wakeups, self._rates = wakeups, rates

    @operation(permission="pods:change", query=Query, body=Nothing, answer=DeploymentAnswer, status=202, problems=(429,))
    def on_post(self, request: falcon.Request, response: falcon.Response, deployment_id: str) -> None:
        """Take the order to go on from where it failed, be it with its making or with its end."""
        body.read(request, Nothing)
        self._rates.take(Deployment.find(deployment_id).tenant_id, {"order": 1})
        deployment, jobs = changing.retry(deployment_id, self._settings)
        self._wakeups.announce(jobs)
        if deployment.due:
            _go_on(deployment_id, self._wakeups)
        _accepted(request, response, deployment_id)


def _go_on(deployment_id: str, wakeups: Wakeups) -> None:
    """Order what is next at once; where others are in the way just now, the scheduler does."""
    try:
        with database.atomic():
            wakeups.announce(saga.advance(deployment_id))
    except (CloudPodsError, peewee.OperationalError) as error:
        log.warning("deployment %s: the scheduler goes on with it: %s", deployment_id, first_line(error))


def _accepted(request: falcon.Request, response: falcon.Response, deployment_id: str) -> None:
    response.status = falcon.HTTP_202
    response.location = f"{prefix(request)}/deployments/{deployment_id}"
    response.media = Deployment.find(deployment_id).as_json()
