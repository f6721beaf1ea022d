"""The whole route table, and what the resources are made of."""

from pathlib import Path
from typing import Any

import falcon

from shim import db
from shim.blueprints import deployment_resources as deployments
from shim.blueprints import resources as blueprints
from shim.blueprints.models import Deployment
from shim.cloudpods import backup_resources as backups
from shim.cloudpods import drift_resources as drift
from shim.cloudpods import event_resources as events
from shim.cloudpods import fleet_resources as fleet
from shim.cloudpods import list_resources as pod_lists
from shim.cloudpods import node_resources as nodes
from shim.cloudpods import resources as cloudpods
from shim.cloudpods import tenant_resources as tenants
from shim.cloudpods.bulk_resources import Bulk
from shim.cloudpods.metrics_resources import Metrics
from shim.cloudpods.retry_resources import Retry
from shim.config import Settings
from shim.events.stream import Streams
from shim.jobs import resources as jobs
from shim.jobs.log_resources import Log
from shim.jobs.models import CloudPodJob
from shim.jobs.queue import Wakeups
from shim.quotas import resources as quotas
from shim.tenants import resources as users
from shim.tenants import token_resources as tokens
from shim.tenants.callers import Callers
from shim.tenants.kept_answers import KeptAnswer
from shim.web import documents, openapi, operation, problems
from shim.web.access_log import AccessLog
from shim.web.auth import Authentication, Credentials, RequestIds
from shim.web.connection import Connection
from shim.web.idempotency import Idempotency
from shim.web.probes import Healthz, Root
from shim.web.rate_limit import RateLimits
from shim.web.request_metrics import RequestMetrics

# The master spec's prefix and the panel's: one resource under two names.
PREFIXES = ("/internal", "/api")


def create(settings: Settings, streams: Streams | None = None) -> falcon.App[Any, Any]:
    """Return the WSGI application. Opens no connection. `streams` is for whoever has to end them before the process stops."""
    pool_size = settings.api_threads + settings.api_streams + 1
    db.connect(settings.database_url, pool_size=pool_size, patience=db.REQUESTS)
    seen: Any = [RequestMetrics(), RequestIds(settings.trusted_proxies), AccessLog()]
    who: Any = [*seen, Credentials(), Connection(), Authentication(Callers(settings).find)]
    middleware: Any = [*who, operation.Queries(), Idempotency(KeptAnswer)]
    app: falcon.App[Any, Any] = falcon.App(middleware=middleware)
    problems.register(app)
    wakeups = Wakeups(settings.redis_url)
    for path, resource in routes(settings, wakeups, streams).items():
        app.add_route(path, resource)
    app.add_static_route("/docs/assets", documents.ASSETS)
    return app


def routes(settings: Settings, wakeups: Wakeups, streams: Streams | None = None) -> dict[str, object]:
    """Return every route with its resource: long, since whoever seeks one is to look in one place."""
    rates = RateLimits(settings, CloudPodJob.unfinished_of_tenant)
    streams = streams or Streams(settings.api_streams, settings.stream_s)
    changes = {**cloudpods.CHANGES, **backups.changes(settings)}
    table: dict[str, object] = {
        "/cloudpods": cloudpods.CloudPods(settings, wakeups, rates),
        "/cloudpods/bulk": Bulk(cloudpods.ACTIONS, settings, wakeups, rates),
        "/cloudpods/{reference}": cloudpods.OnePod(),
        "/cloudpods/{reference}/actions": cloudpods.Actions(
            {**cloudpods.ACTIONS, "restore": changes["restore"]}, wakeups, rates
        ),
        "/cloudpods/{reference}/backups": backups.Backups(),
        "/cloudpods/{reference}/health": cloudpods.Health(wakeups),
        "/cloudpods/{reference}/snapshots": cloudpods.Snapshots(wakeups, rates),
        "/cloudpods/{reference}/snapshots/{name}": cloudpods.OneSnapshot(wakeups, rates),
        "/cloudpods/{reference}/snapshots/{name}/rollback": cloudpods.Rollback(wakeups, rates),
        "/nodes": fleet.Nodes(settings),
        "/nodes/{node}": fleet.OneNode(settings),
        "/nodes/{node}/cordon": fleet.NodeStatus("cordoned"),
        "/nodes/{node}/uncordon": fleet.NodeStatus("active"),
        "/nodes/{node}/drain": fleet.NodeStatus("draining"),
        "/address-pools": fleet.Pools(),
        "/address-pools/{pool}": fleet.OnePool(),
        "/regions": fleet.Regions(settings),
        "/regions/{region}": fleet.OneRegion(settings),
        "/nodes/{node}/foreign": nodes.Foreign(wakeups),
        "/drift": drift.Drift(),
        "/nodes/{node}/reconcile": drift.reconcile_now(settings.reconcile_mends, wakeups),
        "/nodes/{node}/sync": drift.sync_now(wakeups),
        "/nodes/{node}/adopt": nodes.Adopt(wakeups),
        "/tenants/{tenant_id}/cloudpods": pod_lists.TenantPods(),
        "/tenants": tenants.Tenants(settings),
        "/tenants/{tenant_id}": tenants.OneTenant(Deployment.alive_of_tenant),
        "/tenants/{tenant_id}/quota": quotas.Quota(),
        "/tenants/{tenant_id}/usage": tenants.Usage(),
        "/users": users.Users(),
        "/users/{user_id}": users.OneUser(),
        "/plans": quotas.Plans(),
        "/plans/{plan_id}": quotas.OnePlan(),
        "/tokens": tokens.Tokens(),
        "/tokens/{token_id}": tokens.OneToken(),
        "/blueprints": blueprints.Blueprints(settings),
        "/blueprints/{slug}": blueprints.OneBlueprint(settings),
        "/blueprints/{slug}/deploy": blueprints.Deploy(settings, wakeups, rates),
        "/deployments": deployments.Deployments(),
        "/deployments/{deployment_id}": deployments.OneDeployment(wakeups, rates),
        "/deployments/{deployment_id}/retry": deployments.RetryDeployment(settings, wakeups, rates),
        "/jobs": jobs.Jobs(),
        "/jobs/{job_id}": jobs.Job(),
        "/jobs/{job_id}/retry": Retry(settings, wakeups, rates),
        "/jobs/{job_id}/cancel": jobs.Cancel(wakeups),
        "/batches/{batch_id}": jobs.Batch(),
        "/batches/{batch_id}/jobs": jobs.BatchJobs(),
        "/jobs/{job_id}/events": events.JobEvents(streams),
        "/jobs/{job_id}/log": Log(streams),
        "/cloudpods/{reference}/events": events.PodEvents(streams),
        "/tenants/{tenant_id}/events": events.TenantEvents(streams),
        "/events": events.Events(streams),
        **{f"/cloudpods/{{reference}}/{verb}": cloudpods.Change(*how, wakeups, rates) for verb, how in changes.items()},
    }
    prefixed = {prefix + path: resource for prefix in PREFIXES for path, resource in table.items()}
    public: dict[str, object] = {
        "/": Root(),
        "/healthz": Healthz(wakeups.answers),
        "/metrics": Metrics(public=settings.metrics_open),
        "/docs": documents.Page("swagger.html"),
        "/redoc": documents.Page("redoc.html"),
    }
    every = {**public, **prefixed}
    every["/openapi.json"] = documents.OpenApi(every)
    return every


def document() -> dict[str, Any]:
    """Return the OpenAPI document, which is the same whatever the settings are."""
    settings = Settings(database_url="postgresql://", redis_url="redis://localhost", state_dir=Path("/"))
    return openapi.build(routes(settings, Wakeups(settings.redis_url)))
