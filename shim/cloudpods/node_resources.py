"""What concerns a node as a whole, over HTTP."""

import falcon

from shim import db
from shim.cloudpods import adopt, scan
from shim.cloudpods.accepting import accept
from shim.cloudpods.answer_schemas import AcceptedAnswer, ForeignAnswer
from shim.cloudpods.schemas import AdoptPod, RefreshQuery
from shim.jobs.queue import Wakeups
from shim.web import body
from shim.web.operation import operation
from shim.web.schema import Query


class Foreign:
    """`GET /internal/nodes/{node}/foreign`."""

    def __init__(self, wakeups: Wakeups) -> None:
        self._wakeups = wakeups

    @operation(permission="manage", query=RefreshQuery, answer=ForeignAnswer)
    def on_get(self, request: falcon.Request, response: falcon.Response, node: str) -> None:
        """Answer with the containers of the pool that are none of ours; `?refresh=1` also queues a look and names its job."""
        last, items = scan.foreign(node)
        response.media = {"node": node, "seenAt": db.iso(last.finished_at) if last else None, "items": items}
        if request.context.query.refresh:
            job = scan.order(node)
            self._wakeups.announce([(job.id, job.type)])
            response.media["job"] = job.as_json()


class Adopt:
    """`POST /internal/nodes/{node}/adopt`."""

    def __init__(self, wakeups: Wakeups) -> None:
        self._wakeups = wakeups

    @operation(permission="manage", query=Query, body=AdoptPod, answer=AcceptedAnswer, status=202)
    def on_post(self, request: falcon.Request, response: falcon.Response, node: str) -> None:
        """Take the order to make a container of the last look a pod."""
        job, pod = adopt.adopt(node, body.read(request, AdoptPod))
        accept(request, response, self._wakeups, job, pod)
