"""The errors of the control plane. Raised low, translated once: to HTTP in `web/problems.py`, to an exit code in `cli.py`.

Each class has a `code` that never changes (clients switch on it); an instance may name a finer one.
"""

from collections.abc import Sequence
from typing import Any, TypedDict


class FieldError(TypedDict):
    """One field of a request that broke a rule: `field` as the client wrote it, `rule` in words."""

    field: str
    rule: str


class CloudPodsError(Exception):
    """Anything that went wrong and has a reason a person can act on."""

    code = "error"

    def __init__(self, message: str, *, code: str | None = None, fields: Sequence[FieldError] = (), **extra: Any) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.fields = list(fields)
        self.extra = extra


class Invalid(CloudPodsError):
    """The request breaks a rule; `fields` says which and where."""

    code = "invalid_request"

    @classmethod
    def field(cls, field: str, rule: str, *, code: str | None = None) -> "Invalid":
        """Return the error for one bad field."""
        return cls(f"{field}: {rule}", code=code, fields=[{"field": field, "rule": rule}])


class Unauthenticated(CloudPodsError):
    """No credential, or none we know."""

    code = "unauthenticated"


class Forbidden(CloudPodsError):
    """Known, but not allowed to do this."""

    code = "forbidden"


class NotFound(CloudPodsError):
    """No such thing, or none this caller may know of."""

    code = "not_found"


class Conflict(CloudPodsError):
    """The request is right but the present state does not allow it."""

    code = "conflict"


class PreconditionFailed(CloudPodsError):
    """The thing is no longer in the state that the client said it knows."""

    code = "precondition_failed"


class QuotaExceeded(Conflict):
    """The tenant has used up what it may have; `limit`, `used`, `reserved` and `asked` say of what, and how much."""

    code = "quota_exceeded"


class RateLimited(CloudPodsError):
    """Too many of these in a short time; asking again after `retry_after_s` is right."""

    code = "rate_limited"

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message, retryAfterS=retry_after_s)
        self.retry_after_s = retry_after_s


class Unavailable(CloudPodsError):
    """Something we need (database, node) does not answer just now; asking again later is right."""

    code = "unavailable"


class SettingsError(CloudPodsError):
    """The settings are wrong; `message` says which, why and what to write instead."""

    code = "bad_settings"
