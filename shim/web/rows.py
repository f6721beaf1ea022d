"""Answers that show rows of a table: one with its ETag, a new one with its place, a page of many."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Protocol

import falcon

from shim.web import etag
from shim.web.paging import PageQuery, newest_first


class Row(Protocol):
    """What these answers need of a row."""

    @property
    def updated_at(self) -> Any:
        """Return the state that the answer shows."""

    def as_json(self) -> dict[str, Any]:
        """Return the row as clients see it."""


class NewRow(Row, Protocol):
    """A row that has an id."""

    @property
    def id(self) -> Any:
        """Return what is unique to the row."""


View = Callable[[list[Any]], list[Any]]


def show(response: falcon.Response, row: Row) -> None:
    """Answer with the row and its ETag."""
    version: datetime = row.updated_at
    etag.write(response, version)
    response.media = row.as_json()


def created(request: falcon.Request, response: falcon.Response, row: NewRow, *, name: str | None = None) -> None:
    """Answer 201 with the new row and its place, by its id or this name, below the list that it was posted to."""
    show(response, row)
    response.status = falcon.HTTP_201
    response.location = f"{request.path}/{name or row.id}"


def page(response: falcon.Response, query: Any, model: Any, asked: PageQuery, *, view: View = list) -> None:
    """Answer with the page asked for of a query's rows of this model, newest first; `view` makes of them what is shown."""
    found, cursor = newest_first(query, model, asked.page(keys=2))
    response.media = {"items": [row.as_json() for row in view(found)], "next": cursor}


def filters(asked: PageQuery) -> dict[str, Any]:
    """Return the columns that a list's query names, with the values that they must have."""
    return asked.model_dump(exclude=set(PageQuery.model_fields), exclude_none=True)
