"""Who asks: known for the length of a request, read by whatever writes in its name or must not show another tenant's things.

Outside a request (worker, scheduler, terminal) there is no caller: the house itself may do and see everything.

| role | may |
|---|---|
| service | everything: the panel, which names the acting user in the header `X-Acting-User` |
| metrics | read the figures for Prometheus (`CLOUDPODS_METRICS_TOKEN`) |
| owner, admin | read and change the pods of their tenant, read its quota |
| dev | read the pods of their tenant, refresh their health, read its quota |
| billing | read the quota and usage of their tenant |
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

from shim.errors import Forbidden

UserRole = Literal["owner", "admin", "dev", "billing"]
Role = Literal["service", "metrics", UserRole]
Permission = Literal["pods:read", "pods:change", "health:refresh", "quota:read", "metrics:read", "manage"]

# What a user's id, the panel's own string, may be: it stands in events and jobs.
USER_ID = r"[A-Za-z0-9][A-Za-z0-9._:@+-]{0,127}"

_CHANGE: frozenset[Permission] = frozenset({"pods:read", "pods:change", "health:refresh", "quota:read"})
PERMISSIONS: dict[Role, frozenset[Permission]] = {
    "service": _CHANGE | {"metrics:read", "manage"},
    "metrics": frozenset({"metrics:read"}),
    "owner": _CHANGE,
    "admin": _CHANGE,
    "dev": frozenset({"pods:read", "health:refresh", "quota:read"}),
    "billing": frozenset({"quota:read"}),
}


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who a request comes from. `tenant_id` is the one tenant that it may know of, None for a service."""

    name: str
    role: Role
    tenant_id: str | None = None
    user_id: str | None = None
    token_id: str | None = None
    remote_addr: str | None = None
    request_id: str | None = None

    def may(self, permission: Permission) -> bool:
        """Return whether its role has this permission."""
        return permission in PERMISSIONS[self.role]

    def require(self, permission: Permission) -> None:
        """Raise Forbidden without this permission."""
        if not self.may(permission):
            raise Forbidden(f"the role {self.role} may not do this; it needs the permission {permission}")


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where something that is done comes from, for events and jobs to tell. It says who, and gives nobody a right."""

    actor: str | None = None
    token_id: str | None = None
    remote_addr: str | None = None
    request_id: str | None = None


_current: ContextVar[Caller | None] = ContextVar("caller", default=None)
_on_behalf: ContextVar[Origin | None] = ContextVar("on_behalf", default=None)


def current() -> Caller | None:
    """Return who asks, None outside a request."""
    return _current.get()


@contextmanager
def asking(caller: Caller | None) -> Iterator[None]:
    """Be asked by this caller for the length of the block."""
    token = _current.set(caller)
    try:
        yield
    finally:
        _current.reset(token)


@contextmanager
def on_behalf_of(origin: Origin) -> Iterator[None]:
    """Do what the block does for whoever ordered it earlier: nobody asks now, so nothing is hidden."""
    token = _on_behalf.set(origin)
    try:
        yield
    finally:
        _on_behalf.reset(token)


def origin() -> Origin:
    """Return where what is done now comes from: the caller, else the one on whose behalf a job runs."""
    asking = _current.get()
    if asking is None:
        return _on_behalf.get() or Origin()
    return Origin(
        actor=asking.user_id or f"{asking.role}:{asking.name}",
        token_id=asking.token_id,
        remote_addr=asking.remote_addr,
        request_id=asking.request_id,
    )


def only_tenant() -> str | None:
    """Return the one tenant whose things may be shown, None when all may."""
    caller = current()
    return caller.tenant_id if caller else None


def sees(tenant_id: str | None) -> bool:
    """Return whether whoever asks may know of this tenant's things."""
    only = only_tenant()
    return only is None or only == tenant_id


def require(permission: Permission) -> None:
    """Raise Forbidden when whoever asks has not this permission beside the route's own; the house has every one."""
    caller = current()
    if caller is not None:
        caller.require(permission)


def requested_by(said: str | None) -> str | None:
    """Return the user in whose name a change is ordered: the caller's, or for a service without one, who its body says."""
    caller = current()
    return caller.user_id if caller and caller.user_id else said
