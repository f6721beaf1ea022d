"""The parent of what clients send: camelCase outside, snake_case inside."""

from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class Request(BaseModel):
    """The parent of every request: strict types, no unknown field."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", alias_generator=to_camel)

    def payload(self) -> dict[str, Any]:
        """Return the request as the job keeps it: the client's names, without what it left out."""
        return self.model_dump(by_alias=True, exclude_none=True)
