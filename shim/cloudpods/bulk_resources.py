"""Many orders at once over HTTP."""

from typing import Any

import falcon

from shim.cloudpods import bulk
from shim.cloudpods.accepting import prefix
from shim.cloudpods.answer_schemas import BulkAnswer
from shim.cloudpods.schemas import BulkOrder, OrderQuery
from shim.config import Settings
from shim.jobs.queue import Wakeups
from shim.web import body
from shim.web.operation import operation
from shim.web.rate_limit import RateLimits


class Bulk:
    """`POST /internal/cloudpods/bulk`."""

    max_bytes = 1024 * 1024

    def __init__(self, changes: bulk.Changes, settings: Settings, wakeups: Wakeups, rates: RateLimits) -> None:
        self._changes, self._settings = changes, settings
        self._wakeups, self._rates = wakeups, rates

    @operation(permission="pods:change", query=OrderQuery, body=BulkOrder, answer=BulkAnswer, status=202, problems=(429,))
    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Take up to 500 orders of one tenant, all of them or none."""
        asked = body.read(request, BulkOrder, max_bytes=self.max_bytes)
        items = bulk.parse(asked, self._changes, self._settings)
        rehearsed = request.context.query.dry_run
        # Before: what was counted cannot be given back.
        bulk.require_room(asked.tenant_id, items)
        self._rates.take(asked.tenant_id, {"order": len(items)} if rehearsed else bulk.counted(items))
        batch, became, plan = bulk.give(asked, items, self._settings, dry_run=rehearsed)
        self._wakeups.announce([_awake(each) for each in became])
        response.status = falcon.HTTP_202
        response.location = f"{prefix(request)}/batches/{batch.id}"
        response.media = {"batch": batch.as_json(), "items": became, **plan}


def _awake(became: dict[str, Any]) -> tuple[str, str]:
    if "backupJobId" in became:
        return became["backupJobId"], "BACKUP"
    return became["jobId"], became["type"]
