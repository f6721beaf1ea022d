"""The parent of what clients send: camelCase outside, snake_case inside."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError("must be 1 to 64 letters, digits, or . _ : - and begin with a letter or digit")
    return value


Name = Annotated[str, AfterValidator(_name)]


class Request(BaseModel):
    """The parent of every request: strict types, no unknown field."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", alias_generator=to_camel)

    def payload(self) -> dict[str, Any]:
        """Return the request as the job keeps it: the client's names, without what it left out."""
        return self.model_dump(by_alias=True, exclude_none=True)
