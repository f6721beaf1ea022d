"""One line per request: which route, how it ended, how long it took, and the id that everything it caused has too."""

import logging
import time
from contextlib import ExitStack
from typing import Any

import falcon

from shim import log

logger = logging.getLogger(__name__)


class AccessLog:
    """Stands behind `RequestMetrics`, which notes when a request began, and `RequestIds`, before everything that may refuse."""

    def process_request(self, request: falcon.Request, response: falcon.Response) -> None:
        """Bind the request's id to every line that it causes."""
        request.context.said = ExitStack()
        request.context.said.enter_context(log.bound(request_id=request.context.request_id))

    def process_response(self, request: falcon.Request, response: falcon.Response, resource: Any, req_succeeded: bool) -> None:
        """Write the line. Of a stream it tells how it began."""
        # Neither path nor query: a template groups, and they may hold what a client should not have put there.
        # Who asked is forgotten by now, but for this.
        asking = getattr(request.context, "caller", None)
        logger.info(
            "request",
            extra={
                "method": request.method,
                "route": request.uri_template,
                "status": falcon.http_status_to_code(response.status),
                "duration_ms": round((time.monotonic() - request.context.began) * 1000, 1),
                "token_id": asking.token_id if asking else None,
                "remote_addr": request.context.remote_addr,
            },
        )
        request.context.said.close()
