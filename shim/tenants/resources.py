"""Users over HTTP. Tenants and plans are above (`cloudpods/tenant_resources.py`, `quotas/resources.py`): they touch more."""

from functools import partial

import falcon

from shim.tenants import users
from shim.tenants.models import User
from shim.tenants.schemas import ChangeUser, CreateUser
from shim.web import body, etag, paging, rows
from shim.web.operation import operation


class Users:
    """`/internal/users`."""

    @operation(permission="manage")
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Answer with a page of users, newest first."""
        rows.page(request, response, User.listed(rows.filters(request, "email", "role")), User)

    @operation(permission="manage", body=CreateUser, status=201)
    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Make a user."""
        paging.known_only(request)
        rows.created(request, response, users.create(body.read(request, CreateUser)))


class OneUser:
    """`/internal/users/{id}`."""

    @operation(permission="manage")
    def on_get(self, request: falcon.Request, response: falcon.Response, user_id: str) -> None:
        """Answer with the user."""
        paging.known_only(request)
        rows.show(response, User.find(user_id))

    @operation(permission="manage", body=ChangeUser)
    def on_put(self, request: falcon.Request, response: falcon.Response, user_id: str) -> None:
        """Change the fields that are named."""
        paging.known_only(request)
        rows.show(response, users.change(user_id, body.read(request, ChangeUser), partial(etag.check, request)))

    @operation(permission="manage", status=204)
    def on_delete(self, request: falcon.Request, response: falcon.Response, user_id: str) -> None:
        """Delete a user who owns no tenant."""
        paging.known_only(request)
        users.delete(user_id, partial(etag.check, request))
        response.status = falcon.HTTP_204
