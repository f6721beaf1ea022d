"""A request's JSON to a checked object, its query to checked values."""

from typing import Any, TypeVar

import falcon
from pydantic import BaseModel, ValidationError

from shim.errors import FieldError, Invalid

MAX_BYTES = 64 * 1024
Body = TypeVar("Body", bound=BaseModel)

_TYPES = ("application/json", "application/problem+json")


def read(request: falcon.Request, model: type[Body]) -> Body:
    """Return the request's body as `model`. Raises Invalid naming every field that breaks a rule."""
    return parse(model, read_json(request))


def read_json(request: falcon.Request) -> dict[str, Any]:
    """Return the request's body, a JSON object; an absent body counts as an empty one."""
    if (request.content_length or 0) > MAX_BYTES:
        raise falcon.HTTPContentTooLarge(description=f"the body may be {MAX_BYTES} bytes at most")
    if not request.content_length and "chunked" not in (request.get_header("Transfer-Encoding") or ""):
        return {}
    if (request.content_type or "").split(";")[0].strip().lower() not in _TYPES:
        raise falcon.HTTPUnsupportedMediaType(description="send the body as `Content-Type: application/json`")
    document = request.get_media()
    if not isinstance(document, dict):
        raise Invalid("the body must be a JSON object", code="malformed_body")
    return document


def parse(model: type[Body], document: dict[str, Any]) -> Body:
    """Return the document as `model`. Raises Invalid naming every field that breaks a rule."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        fields = [_field(dict(e)) for e in error.errors(include_url=False, include_context=False)]
        named = "; ".join(f"{f['field']}: {f['rule']}" for f in fields[:5])
        raise Invalid(named, fields=fields) from None


def _field(error: dict[str, Any]) -> FieldError:
    rule = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        rule = "unknown field"
    return {"field": ".".join(str(part) for part in error["loc"]) or "body", "rule": rule}
