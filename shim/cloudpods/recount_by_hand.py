"""Recounting at a terminal: tenant after tenant, online; what differs is printed, and mended unless it is a dry run."""

import json
from collections.abc import Iterator
from typing import Any

from shim import db
from shim.cloudpods import recount, recount_nodes
from shim.cloudpods.recount import Difference
from shim.errors import CloudPodsError
from shim.jobs.queue import Wakeups
from shim.tenants.models import Tenant

SAID = {
    "reservation": "a reservation of a job that is over",
    "pod": "by the ledger",
    "share": "by its share of the node",
    "used": "used by the quota",
}


def run(
    wakeups: Wakeups | None, *, tenant: str | None, nodes: bool, dry_run: bool, as_json: bool, wait_s: float
) -> Iterator[str]:
    """Yield the lines that are to be printed. Raises CloudPodsError when a dry run found something, for scripts to see."""
    if tenant is not None:
        with db.session():
            Tenant.known(tenant)
    real = list(_real(wakeups, tenant, dry_run, wait_s)) if nodes and wakeups else []
    counted, found = 0, []
    with db.session():
        for tenant_id in [tenant] if tenant is not None else recount.tenants():
            differences = recount.recount(tenant_id, mend=not dry_run)
            counted += 1
            found += differences
            if not as_json:
                yield from (_line(difference, dry_run) for difference in differences)
    if as_json:
        listed = [difference.as_json() for difference in found]
        yield json.dumps({"tenants": counted, "mended": not dry_run, "differences": listed, "nodes": real}, indent=2)
    else:
        yield from (_node_line(item) for item in real)
        yield f"{_count(counted, 'tenant')} counted, {_count(len(found) + len(real), 'difference')}"
    if dry_run and (found or real):
        raise CloudPodsError(f"{_count(len(found) + len(real), 'difference')}; without --dry-run they are mended")


def _real(wakeups: Wakeups, tenant: str | None, dry_run: bool, wait_s: float) -> Iterator[dict[str, Any]]:
    with db.session():
        names = recount_nodes.names()
    for name in names:
        report = recount_nodes.look(wakeups, name, wait_s)
        with db.session():
            for item in recount_nodes.items(report, tenant):
                mended = not dry_run and recount_nodes.take_over(report, item)
                yield {"lookedAt": name, **item, "mended": mended}


def _line(difference: Difference, dry_run: bool) -> str:
    of = f"pod {difference.vmid or difference.cloud_pod_id}" if difference.cloud_pod_id else "quota"
    said = f"{difference.found} {SAID[difference.kind]}, {difference.expected} expected"
    return f"{difference.tenant_id}: {of}: {said}{'' if dry_run else '; mended'}"


def _node_line(item: dict[str, Any]) -> str:
    said = f"table {json.dumps(item['table'])}, node {json.dumps(item['node'])}"
    mended = "; mended" if item["mended"] else "; left as it is"
    return f"{item['tenantId'] or '-'}: container {item['vmid']} on {item['lookedAt']}: {item['kind']}: {said}{mended}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
