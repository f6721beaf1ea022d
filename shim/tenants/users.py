"""Users made, changed and deleted. Their names and addresses are in the table, not in events, which nobody can erase."""

from collections.abc import Callable
from datetime import datetime

from shim import db
from shim.db import database, new_id
from shim.events.models import CloudPodEvent
from shim.tenants import grant
from shim.tenants.models import User
from shim.tenants.refusals import in_use, taken
from shim.tenants.schemas import ChangeUser, CreateUser

Check = Callable[[datetime], None]


def create(request: CreateUser) -> User:
    """Write the user and an event. Raises Conflict for an id or address that another has."""
    with database.atomic():
        columns = {**request.model_dump(), "id": request.id or new_id()}
        with taken("user"):
            User.insert(columns).execute()
        CloudPodEvent.record("INFO", "user created", action="USER_CREATED", userId=columns["id"], role=request.role)
        return User.find(columns["id"])


def change(user_id: str, request: ChangeUser, check: Check) -> User:
    """Write what the request names and an event; `check` raises when the row is not as the client knows it."""
    with database.atomic():
        user = User.hold(user_id)
        check(user.updated_at)
        columns = {name: value for name, value in request.columns().items() if value != getattr(user, name)}
        if columns:
            with taken("user"):
                User.update(updated_at=db.now(), **columns).where(User.id == user_id).execute()
            CloudPodEvent.record("INFO", "user changed", action="USER_CHANGED", userId=user_id, changed=sorted(columns))
            if "role" in columns:
                grant.revoke_beyond(user_id, columns["role"])
        return User.find(user_id)


def delete(user_id: str, check: Check) -> None:
    """Delete the user, revoke its tokens and write an event. Raises Conflict for one who owns a tenant."""
    with database.atomic():
        check(User.hold(user_id).updated_at)
        with in_use("user", user_id):
            User.delete().where(User.id == user_id).execute()
        grant.revoke_all(user_id)
        CloudPodEvent.record("INFO", "user deleted", action="USER_DELETED", userId=user_id)
