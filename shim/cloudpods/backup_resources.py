"""A pod's backups over HTTP."""

from functools import partial
from typing import Any

import falcon

from shim.cloudpods import restore, restore_drill
from shim.cloudpods.answer_schemas import BackupAnswer
from shim.cloudpods.backup_models import CloudPodBackup
from shim.cloudpods.models import CloudPod
from shim.cloudpods.schemas import BackupsQuery, ChangePod, DrillPod, RestorePod
from shim.config import Settings
from shim.web import paging
from shim.web.operation import operation
from shim.web.schema import PageAnswer


def changes(settings: Settings) -> dict[str, tuple[type[ChangePod], Any]]:
    """Return what can be ordered of a pod's backups: the last part of the path, its body, its function."""
    return {
        "restore": (RestorePod, partial(restore.restore, settings=settings)),
        "restore-drill": (DrillPod, restore_drill.drill),
    }


class Backups:
    """`GET /internal/cloudpods/{vmid or id}/backups`."""

    @operation(permission="pods:read", query=BackupsQuery, answer=PageAnswer[BackupAnswer])
    def on_get(self, request: falcon.Request, response: falcon.Response, reference: str) -> None:
        """Answer with a page of the pod's backups, newest first, also of a deleted pod; removed ones only when asked for."""
        asked: BackupsQuery = request.context.query
        query = CloudPodBackup.of_pod(CloudPod.find(reference), asked.status)
        rows, cursor = paging.newest_first(query, CloudPodBackup, asked.page(keys=2))
        response.media = {"items": [row.as_json() for row in rows], "next": cursor}
