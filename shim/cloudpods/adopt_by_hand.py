"""Adopting at a terminal: look at the node, list what is there or take one container over, and wait for the end."""

import json
from collections.abc import Iterator
from typing import Any

from shim import db
from shim.cloudpods import adopt, scan
from shim.cloudpods.models import CloudPod
from shim.cloudpods.schemas import AdoptPod
from shim.jobs import tables
from shim.jobs.follow import finished
from shim.jobs.queue import Wakeups
from shim.web import body

COLUMNS = ("vmid", "status", "hostname", "ip", "cores", "memoryMb", "diskGb", "storage", "unfinished", "owner")


def run(
    wakeups: Wakeups, *, node: str, vmid: int | None, tenant: str | None, dry_run: bool, as_json: bool, wait_s: float
) -> Iterator[str]:
    """Yield the lines that are to be printed. Raises CloudPodsError for what cannot be done."""
    _look(wakeups, node, wait_s)
    if vmid is None:
        with db.session():
            rows = scan.foreign(node)[1]
        yield from [json.dumps(rows, indent=2)] if as_json else _table(rows)
        return
    request = body.parse(AdoptPod, {"tenantId": tenant, "vmid": vmid})
    if dry_run:
        yield json.dumps(_planned(node, request), indent=2)
        return
    with db.session():
        job, pod = adopt.adopt(node, request)
    wakeups.announce([(job.id, job.type)])
    finished(job.id, wait_s)
    with db.session():
        pod = CloudPod.find(pod.id)
    said = f"container {vmid} on {node} is pod {pod.id} of {pod.tenant_id}: {pod.hostname} at {pod.ip or 'no fixed address'}"
    yield json.dumps(pod.as_json(), indent=2) if as_json else said


def _look(wakeups: Wakeups, node: str, wait_s: float) -> None:
    with db.session():
        job = scan.order(node)
    wakeups.announce([(job.id, job.type)])
    finished(job.id, wait_s)


def _planned(node: str, request: AdoptPod) -> dict[str, Any]:
    with db.session(), db.database.atomic():
        planned = adopt.plan(node, request)
    return {"node": node, "vmid": request.vmid, "tenantId": request.tenant_id, "podId": planned.pod_id, **planned.columns}


def _table(rows: list[dict[str, Any]]) -> Iterator[str]:
    if not rows:
        yield "no container in the pool that is not a pod already"
        return
    cells = [COLUMNS, *([_cell(row.get(name)) for name in COLUMNS] for row in rows)]
    yield from tables.lines(cells)


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return "/".join(str(part) for part in value.values() if part)
    return "-" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
