"""Answers that show rows of a table: one with its ETag, a new one with its place, a page of many."""

from datetime import datetime
from typing import Any, Protocol

import falcon

from shim.web import etag, paging


class Row(Protocol):
    """What these answers need of a row."""

    id: Any
    updated_at: Any

    def as_json(self) -> dict[str, Any]:
        """Return the row as clients see it."""


def show(response: falcon.Response, row: Row) -> None:
    """Answer with the row and its ETag."""
    version: datetime = row.updated_at
    etag.write(response, version)
    response.media = row.as_json()


def created(request: falcon.Request, response: falcon.Response, row: Row) -> None:
    """Answer 201 with the new row and its place below the list that it was posted to."""
    show(response, row)
    response.status = falcon.HTTP_201
    response.location = f"{request.path}/{row.id}"


def page(request: falcon.Request, response: falcon.Response, query: Any, model: Any) -> None:
    """Answer with a page of a query's rows of this model, newest first."""
    found, cursor = paging.newest_first(query, model, paging.read(request, keys=2))
    response.media = {"items": [row.as_json() for row in found], "next": cursor}


def filters(request: falcon.Request, *names: str, further: tuple[str, ...] = ()) -> dict[str, str]:
    """Return those of these filters that a query names. Raises Invalid for what is no filter, nor `further`, nor paging."""
    paging.known_only(request, *names, *further, "limit", "cursor")
    return {name: value for name in names if (value := request.get_param(name)) is not None}
