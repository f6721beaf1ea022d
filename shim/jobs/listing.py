"""Lists of jobs, newest first."""

from typing import Any

from shim import caller
from shim.jobs.models import CloudPodJob
from shim.jobs.schemas import JobsQuery
from shim.nodes.models import CloudPodNode
from shim.tenants.models import Tenant
from shim.web import paging


def list_jobs(asked: JobsQuery) -> tuple[list[Any], str | None]:
    """Return a page of jobs, and the cursor of the next. Raises NotFound for no such tenant."""
    if asked.tenant_id is not None:
        Tenant.known(asked.tenant_id)
    query = CloudPodJob.select()
    for condition in _conditions(asked):
        query = query.where(condition)
    return paging.newest_first(query, CloudPodJob, asked.page(keys=2))


def of_batch(batch_id: str, page: paging.Page) -> tuple[list[Any], str | None]:
    """Return a page of a batch's jobs, and the cursor of the next."""
    return paging.newest_first(CloudPodJob.select().where(CloudPodJob.batch_id == batch_id), CloudPodJob, page)


def _conditions(asked: JobsQuery) -> list[Any]:
    tenant_id = asked.tenant_id or caller.only_tenant()
    columns = {
        CloudPodJob.tenant_id: tenant_id,
        CloudPodJob.cloud_pod_id: asked.cloud_pod_id,
        CloudPodJob.type: asked.type,
        CloudPodJob.status: asked.status,
    }
    found: list[Any] = [column == value for column, value in columns.items() if value is not None]
    if asked.node is not None:
        found.append(CloudPodJob.node == CloudPodNode.select(CloudPodNode.id).where(CloudPodNode.name == asked.node))
    return found
