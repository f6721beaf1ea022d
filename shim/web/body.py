"""A request's JSON to a checked object, its query to checked values."""

import json
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any, TypeVar

import falcon
from pydantic import BaseModel, ValidationError

from shim.errors import FieldError, Invalid

MAX_BYTES = 64 * 1024
Body = TypeVar("Body", bound=BaseModel)

_TYPE = "application/json"


def read(request: falcon.Request, model: type[Body], *, max_bytes: int = MAX_BYTES) -> Body:
    """Return the request's body as `model`. Raises Invalid naming every field that breaks a rule."""
    return parse(model, read_json(request, max_bytes=max_bytes))


def read_json(request: falcon.Request, *, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """Return the request's body, a JSON object; an absent body counts as an empty one."""
    _check_length(request, max_bytes)
    if _is_absent(request):
        return {}
    if (request.content_type or "").split(";")[0].strip().lower() != _TYPE:
        raise falcon.HTTPUnsupportedMediaType(description="send the body as `Content-Type: application/json`")
    document = _document(octets(request, max_bytes))
    if not isinstance(document, dict):
        raise Invalid("the body must be a JSON object", code="malformed_body")
    return document


def octets(request: falcon.Request, max_bytes: int) -> bytes:
    """Return the request's body as it came, however often it is asked for. Raises HTTPContentTooLarge."""
    if not hasattr(request.context, "octets"):
        _check_length(request, max_bytes)
        request.context.octets = b"" if _is_absent(request) else _read(request, max_bytes)
    return request.context.octets  # type: ignore[no-any-return]


def _is_absent(request: falcon.Request) -> bool:
    return not request.content_length and "chunked" not in (request.get_header("Transfer-Encoding") or "")


def _check_length(request: falcon.Request, max_bytes: int) -> None:
    if (request.content_length or 0) > max_bytes:
        raise _too_large(max_bytes)


def _too_large(max_bytes: int) -> falcon.HTTPContentTooLarge:
    return falcon.HTTPContentTooLarge(description=f"the body may be {max_bytes} bytes at most")


def _read(request: falcon.Request, max_bytes: int) -> bytes:
    # A body in chunks has no length: gunicorn ends the stream where the body ends. Read no more than is allowed.
    stream = request.stream if request.content_length is None else request.bounded_stream
    found: bytes = stream.read(max_bytes + 1)
    if len(found) > max_bytes:
        raise _too_large(max_bytes)
    return found


def _document(octets: bytes) -> Any:
    try:
        return json.loads(octets.decode(), object_pairs_hook=_object, parse_float=_number)
    except RecursionError:
        raise falcon.HTTPBadRequest(title="Invalid JSON", description="the body is nested too deeply") from None
    except ValueError as error:
        raise falcon.HTTPBadRequest(title="Invalid JSON", description=f"the body is not JSON: {error}") from None


def _number(text: str) -> float | int:
    value = float(text)
    # JSON, and so the OpenAPI document, knows no difference between 2 and 2.0; beyond 2^53 there is one.
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        # Whoever checked the request before us may have read the other one.
        raise Invalid.field(Counter(name for name, _ in pairs).most_common(1)[0][0], "given more than once")
    return made


def parse(model: type[Body], document: Mapping[str, Any]) -> Body:
    """Return the document as `model`. Raises Invalid naming every field that breaks a rule."""
    try:
        made = model.model_validate(document)
    except ValidationError as error:
        fields = [_field(dict(e)) for e in error.errors(include_url=False)]
        named = "; ".join(f"{f['field']}: {f['rule']}" for f in fields[:5])
        raise Invalid(named, fields=fields) from None
    _require_storable(document)
    return made


def _require_storable(document: Mapping[str, Any]) -> None:
    """Raise Invalid for what a field that takes any JSON would hand on to PostgreSQL, which cannot keep it."""
    left: list[tuple[str, Any]] = list(document.items())
    while left:
        field, value = left.pop()
        if isinstance(value, Mapping):
            left += [(field, inner) for pair in value.items() for inner in pair]
        elif isinstance(value, list):
            left += [(field, inner) for inner in value]
        elif isinstance(value, float) and not math.isfinite(value):
            raise Invalid.field(field, "must be a number that JSON has")
        elif isinstance(value, str) and "\x00" in value:
            raise Invalid.field(field, "must not contain NUL")
        elif isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
            raise Invalid.field(field, "must not contain half of a surrogate pair")


def _field(error: dict[str, Any]) -> FieldError:
    return {"field": ".".join(str(part) for part in error["loc"]) or "body", "rule": rule(error)}


def rule(error: Mapping[str, Any]) -> str:
    """Return in words the rule that one of pydantic's errors is about."""
    if error["type"] == "extra_forbidden":
        return "unknown field"
    if error["type"] == "literal_error":
        return f"must be one of: {error['ctx']['expected']}"
    return str(error["msg"]).removeprefix("Value error, ")
