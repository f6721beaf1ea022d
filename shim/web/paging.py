"""Lists by keyset: a page's cursor names the last row seen, so page 500 costs what page 1 costs."""

import base64
import binascii
import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import falcon
import peewee

from shim.errors import Invalid
from shim.web.schema import Query, whole

DEFAULT_LIMIT, MAX_LIMIT = 50, 200


@dataclass(frozen=True)
class Page:
    """How many rows, and after which key (as `encode` made it)."""

    limit: int
    after: list[str] | None


class PageQuery(Query):
    """The parent of every list's query parameters."""

    limit: whole(DEFAULT_LIMIT, 1, MAX_LIMIT) = DEFAULT_LIMIT  # type: ignore[valid-type]
    cursor: str | None = None

    def page(self, *, keys: int) -> Page:
        """Return the page asked for, whose cursor has `keys` parts. Raises Invalid for a cursor that is none of ours."""
        return Page(self.limit, decode(self.cursor, keys) if self.cursor else None)


def read(request: falcon.Request, *, keys: int) -> Page:
    """Return the page a request asks for by `limit` and `cursor`, whose cursor has `keys` parts."""
    limit = number(request, "limit", DEFAULT_LIMIT, 1, MAX_LIMIT)
    cursor = request.get_param("cursor")
    return Page(limit, decode(cursor, keys) if cursor else None)


def number(request: falcon.Request, name: str, default: int, low: int, high: int) -> int:
    """Return a whole number from the query. Raises Invalid when it is none or out of bounds."""
    text = request.get_param(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 19 and low <= int(text) <= high):
        raise Invalid.field(name, f"must be a whole number from {low} to {high}")
    return int(text)


def known_only(request: falcon.Request, *names: str) -> None:
    """Raise Invalid for a query parameter that the route does not know; for routes that declare no `query` yet."""
    unknown = sorted(set(request.params) - set(names))
    if unknown:
        raise Invalid.field(unknown[0], "unknown query parameter; known are: " + (", ".join(names) or "none"))
    for name, value in request.params.items():
        if isinstance(value, list):
            raise Invalid.field(name, "given more than once")
        if "\x00" in value:
            raise Invalid.field(name, "must not contain NUL")


def encode(*parts: object) -> str:
    """Return an opaque cursor for a row's key."""
    return base64.urlsafe_b64encode(json.dumps([str(part) for part in parts]).encode()).decode().rstrip("=")


def decode(cursor: str, keys: int) -> list[str]:
    """Return the key that `encode` was given. Raises Invalid for anything else."""
    try:
        parts = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        parts = None
    if not isinstance(parts, list) or len(parts) != keys or not all(isinstance(p, str) and _storable(p) for p in parts):
        raise bad_cursor()
    return parts


def bad_cursor() -> Invalid:
    """Return the refusal of a cursor that we did not make."""
    return Invalid.field("cursor", "not a cursor of this list; take it from `next` of the page before")


def number_after(page: Page, first: int) -> int:
    """Return behind which number a page begins whose cursor is one, `first` without a cursor. Raises Invalid."""
    if page.after is None:
        return first
    text = page.after[0]
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise bad_cursor()
    return int(text)


def newest_first(query: Any, model: Any, page: Page) -> tuple[list[Any], str | None]:
    """Return a page of a query's rows of this model, by `created_at` and `id`, and the cursor of the next."""
    if page.after is not None:
        query = query.where(peewee.Tuple(model.created_at, model.id) < peewee.Tuple(*_key(page.after)))
    found = list(query.order_by(model.created_at.desc(), model.id.desc()).limit(page.limit + 1))
    shown = found[: page.limit]
    more = len(found) > page.limit
    return shown, encode(shown[-1].created_at.isoformat(), shown[-1].id) if more else None


def _key(after: list[str]) -> tuple[datetime, str]:
    try:
        moment = datetime.fromisoformat(after[0])
    except ValueError:
        raise bad_cursor() from None
    # Ours are in UTC; PostgreSQL refuses some of the offsets that Python reads.
    if moment.utcoffset() != timedelta(0):
        raise bad_cursor()
    return moment, after[1]


def _storable(text: str) -> bool:
    return "\x00" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)
