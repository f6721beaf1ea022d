"""Users over HTTP. Tenants and plans are above (`cloudpods/tenant_resources.py`, `quotas/resources.py`): they touch more."""

from functools import partial

import falcon

from shim.tenants import users
from shim.tenants.models import User
from shim.tenants.schemas import ChangeUser, CreateUser, UserAnswer, UsersQuery
from shim.web import body, etag, rows
from shim.web.operation import operation
from shim.web.schema import PageAnswer, Query


class Users:
    """`/internal/users`."""

    @operation(permission="manage", query=UsersQuery, answer=PageAnswer[UserAnswer])
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Answer with a page of users, newest first."""
        asked: UsersQuery = request.context.query
        rows.page(response, User.listed(**rows.filters(asked)), User, asked)

    @operation(permission="manage", query=Query, body=CreateUser, answer=UserAnswer, status=201, etag=True)
    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Make a user."""
        rows.created(request, response, users.create(body.read(request, CreateUser)))


class OneUser:
    """`/internal/users/{id}`."""

    @operation(permission="manage", query=Query, answer=UserAnswer, etag=True)
    def on_get(self, request: falcon.Request, response: falcon.Response, user_id: str) -> None:
        """Answer with the user."""
        rows.show(response, User.find(user_id))

    @operation(permission="manage", query=Query, body=ChangeUser, answer=UserAnswer, etag=True)
    def on_put(self, request: falcon.Request, response: falcon.Response, user_id: str) -> None:
        """Change the fields that are named."""
        rows.show(response, users.change(user_id, body.read(request, ChangeUser), partial(etag.check, request)))

    @operation(permission="manage", query=Query, status=204, etag=True)
    def on_delete(self, request: falcon.Request, response: falcon.Response, user_id: str) -> None:
        """Delete a user who owns no tenant."""
        users.delete(user_id, partial(etag.check, request))
        response.status = falcon.HTTP_204
