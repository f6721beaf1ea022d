"""The parents of what clients send and get: camelCase outside, snake_case inside; all three are in the OpenAPI document."""

import ipaddress
import re
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
_FLAGS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError("must be 1 to 64 letters, digits, or . _ : - and begin with a letter or digit")
    return value


def _ipv4(value: str) -> str:
    try:
        return str(ipaddress.IPv4Address(value))
    except ValueError:
        raise ValueError("must be an IPv4 address such as 10.1.10.91") from None


def described(pattern: re.Pattern[str], **more: Any) -> Any:
    """Return what the OpenAPI document says of a text that a validator of ours checks."""
    return Field(json_schema_extra={"pattern": f"^(?:{pattern.pattern})$", **more})


Name = Annotated[str, AfterValidator(_name), described(_NAME)]
IPv4 = Annotated[str, AfterValidator(_ipv4), Field(json_schema_extra={"format": "ipv4"})]


class Request(BaseModel):
    """The parent of every request: strict types, no unknown field."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", alias_generator=to_camel)

    def payload(self) -> dict[str, Any]:
        """Return the request as the job keeps it: the client's names, without what it left out."""
        return self.model_dump(by_alias=True, exclude_none=True)


class Nothing(Request):
    """The body of a route that needs none: absent, or an object without fields."""


class Query(BaseModel):
    """The parent of every set of query parameters, and itself the empty one: each is text, at most once, none is unknown."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel)


class Answer(BaseModel):
    """The parent of every answer's description: exactly these fields, all of them always there unless they have a default."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel)


Item = TypeVar("Item", bound=Answer)


class PageAnswer(Answer, Generic[Item]):
    """A page of a list; `next` is the `cursor` of the following page, null on the last one."""

    items: list[Item]
    next: str | None


def _flag(text: object) -> object:
    if text not in _FLAGS:
        raise ValueError("must be one of: " + ", ".join(_FLAGS))
    return _FLAGS[str(text)]


def _moment(text: object) -> datetime:
    try:
        moment = datetime.fromisoformat(str(text))
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise ValueError("must be a moment with its zone, such as 2026-01-31T00:00:00Z (a + is written %2B)")


def whole(default: int, low: int, high: int) -> Any:
    """Return a query parameter's type: a whole number in decimal digits, from `low` to `high`."""

    def read(text: object) -> object:
        if isinstance(text, str) and text.isascii() and text.isdigit() and len(text) < 19 and low <= int(text) <= high:
            return int(text)
        raise ValueError(f"must be a whole number from {low} to {high}")

    described = {"type": "integer", "minimum": low, "maximum": high, "default": default}
    return Annotated[int, BeforeValidator(read), WithJsonSchema(described)]


Flag = Annotated[bool, BeforeValidator(_flag), WithJsonSchema({"type": "string", "enum": list(_FLAGS)})]
MomentText = Annotated[datetime, BeforeValidator(_moment)]
# What the database keeps as JSON, whatever it is.
Json = Annotated[Any, Field(description="Any JSON.")]
Moment = Annotated[datetime, Field(description="ISO 8601, in UTC.")]
