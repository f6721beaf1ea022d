"""A pod's backups over HTTP."""

from functools import partial
from typing import Any

import falcon

from shim.cloudpods import restore, restore_drill
from shim.cloudpods.backup_models import CloudPodBackup
from shim.cloudpods.models import CloudPod
from shim.cloudpods.schemas import ChangePod, DrillPod, RestorePod
from shim.config import Settings
from shim.errors import Invalid
from shim.web import paging
from shim.web.operation import operation

STATUSES = ("ready", "removed")


def changes(settings: Settings) -> dict[str, tuple[type[ChangePod], Any]]:
    """Return what can be ordered of a pod's backups: the last part of the path, its body, its function."""
    return {
        "restore": (RestorePod, partial(restore.restore, settings=settings)),
        "restore-drill": (DrillPod, restore_drill.drill),
    }


class Backups:
    """`GET /internal/cloudpods/{vmid or id}/backups`."""

    @operation(permission="pods:read")
    def on_get(self, request: falcon.Request, response: falcon.Response, reference: str) -> None:
        """Answer with a page of the pod's backups, newest first, also of a deleted pod; removed ones only when asked for."""
        paging.known_only(request, "status", "limit", "cursor")
        status = request.get_param("status", default="ready")
        if status not in STATUSES:
            raise Invalid.field("status", "must be one of: " + ", ".join(STATUSES))
        query = CloudPodBackup.of_pod(CloudPod.find(reference), status)
        rows, cursor = paging.newest_first(query, CloudPodBackup, paging.read(request, keys=2))
        response.media = {"items": [row.as_json() for row in rows], "next": cursor}
