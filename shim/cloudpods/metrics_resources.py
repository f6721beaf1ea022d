"""`GET /metrics`."""

import falcon

from shim import db
from shim.cloudpods.metrics import Figures
from shim.web.operation import operation
from shim.web.request_metrics import CONTENT_TYPE, exposition
from shim.web.schema import Query


class Metrics:
    """The figures for Prometheus; open to everybody who reaches the API only where a setting says so."""

    def __init__(self, *, public: bool) -> None:
        self.public = public
        self._figures = Figures()

    @operation(permission="metrics:read", query=Query, answer=str, media_type=falcon.MEDIA_TEXT)
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Answer with the figures in Prometheus's text format."""
        with db.session():
            response.data = exposition([self._figures])
        response.content_type = CONTENT_TYPE
