"""The API's own description over HTTP: the OpenAPI document, and Swagger UI and ReDoc over it. No other host is asked."""

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import falcon

from shim.web import openapi
from shim.web.operation import operation
from shim.web.schema import Query

# Swagger UI's and ReDoc's scripts and styles, as their makers published them; docs/dependencies.md says which.
ASSETS = Path(__file__).with_name("docs")
# ReDoc writes its styles into the page, and searches in a worker made of a blob.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:;"
    " connect-src 'self'; worker-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class OpenApi:
    """`GET /openapi.json`."""

    public = offline = True

    def __init__(self, routes: Mapping[str, object]) -> None:
        self._routes = routes

    @cached_property
    def _text(self) -> str:
        return json.dumps(openapi.build(self._routes))

    @operation(permission=None, query=Query, answer=dict[str, Any])
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Answer with this document."""
        response.content_type = falcon.MEDIA_JSON
        response.text = self._text


class Page:
    """`GET /docs` and `GET /redoc`."""

    public = offline = True

    def __init__(self, name: str) -> None:
        self._html = (ASSETS / name).read_text()

    @operation(permission=None, query=Query, answer=str, media_type=falcon.MEDIA_HTML)
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Answer with a page that shows this document to a person."""
        response.content_type = falcon.MEDIA_HTML
        response.set_header("Content-Security-Policy", _POLICY)
        response.text = self._html
