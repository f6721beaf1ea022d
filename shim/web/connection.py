"""A database connection for the length of a request."""

from typing import Any

import falcon

from shim import db


class Connection:
    """Takes a connection from the pool for each request to a routed resource, and gives it back."""

    def process_resource(self, request: falcon.Request, response: falcon.Response, resource: Any, params: Any) -> None:
        """Open before the resource runs; those that say `offline = True` need none."""
        if not getattr(resource, "offline", False):
            request.context.session = db.session()
            request.context.session.__enter__()

    def process_response(self, request: falcon.Request, response: falcon.Response, resource: Any, req_succeeded: bool) -> None:
        """Close, however the request ended."""
        held = getattr(request.context, "session", None)
        if held is not None:
            request.context.session = None
            held.__exit__(None, None, None)
