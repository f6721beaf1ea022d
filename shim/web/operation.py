"""What each responder declares beside its code: who may call it, what it takes and answers. Without it a route is closed.

Authorization (`web/auth.py`), the OpenAPI document and the tests read the same declaration.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel

from shim.caller import Permission

Responder = TypeVar("Responder", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One method of one route. `permission` None: any known caller may."""

    permission: Permission | None
    query: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    answer: type[BaseModel] | None = None
    status: int = 200


def operation(**declared: Any) -> Callable[[Responder], Responder]:
    """Return a decorator that declares a responder's operation."""
    made = Operation(**declared)

    def mark(responder: Responder) -> Responder:
        responder.operation = made  # type: ignore[attr-defined]
        return responder

    return mark


def of(resource: object, method: str) -> Operation | None:
    """Return what a resource declares for an HTTP method, None when it has none or declares nothing."""
    return getattr(getattr(resource, f"on_{method.lower()}", None), "operation", None)
