"""API tokens over HTTP."""

import falcon

from shim.tenants import grant
from shim.tenants.token_schemas import CreateToken, NewTokenAnswer, TokenAnswer, TokensQuery
from shim.tenants.tokens import ApiToken
from shim.web import body, paging
from shim.web.operation import operation
from shim.web.schema import PageAnswer, Query


class Tokens:
    """`/internal/tokens`."""

    # An Idempotency-Key keeps answers; this one is not to be kept.
    answers_secret = True

    @operation(permission="manage", query=TokensQuery, answer=PageAnswer[TokenAnswer])
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Answer with a page of the tokens, newest first, also of expired and revoked ones."""
        asked: TokensQuery = request.context.query
        rows, cursor = paging.newest_first(ApiToken.listed(asked.tenant_id), ApiToken, asked.page(keys=2))
        response.media = {"items": [row.as_json() for row in rows], "next": cursor}

    @operation(permission="manage", query=Query, body=CreateToken, answer=NewTokenAnswer, status=201, problems=(404,))
    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Make a token; its secret stands in this answer and nowhere else."""
        token, secret = grant.grant(body.read(request, CreateToken))
        response.status = falcon.HTTP_201
        response.location = f"{request.path}/{token.id}"
        response.set_header("Cache-Control", "no-store")
        response.media = {**token.as_json(), "secret": secret}


class OneToken:
    """`/internal/tokens/{id}`."""

    @operation(permission="manage", query=Query, answer=TokenAnswer)
    def on_get(self, request: falcon.Request, response: falcon.Response, token_id: str) -> None:
        """Answer with the token, without its secret."""
        response.media = ApiToken.named(token_id).as_json()

    @operation(permission="manage", query=Query, status=204)
    def on_delete(self, request: falcon.Request, response: falcon.Response, token_id: str) -> None:
        """Revoke the token; its row stays, so that events can be read."""
        grant.revoke(token_id)
        response.status = falcon.HTTP_204
