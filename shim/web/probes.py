"""The two resources that need no token: what this is, and whether it works."""

from collections.abc import Callable
from importlib.metadata import version
from typing import Literal

import falcon

from shim import db
from shim.errors import Unavailable
from shim.web.operation import operation
from shim.web.schema import Answer, Query


class RootAnswer(Answer):
    """What this is, and where to go on."""

    name: str
    version: str
    links: dict[str, str]


class HealthzAnswer(Answer):
    """Whether the parts answer."""

    status: Literal["ok", "degraded", "down"]
    database: bool
    redis: bool


class Root:
    """`GET /`."""

    public = offline = True

    @operation(permission=None, query=Query, answer=RootAnswer)
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Say what this is and where to go on."""
        response.media = {
            "name": "CloudPods",
            "version": version("migra-cloudpods"),
            "links": {"health": "/healthz", "cloudpods": "/internal/cloudpods", "docs": "/docs", "openapi": "/openapi.json"},
        }


class Healthz:
    """`GET /healthz`."""

    public = offline = True

    def __init__(self, redis_answers: Callable[[], bool]) -> None:
        self._redis_answers = redis_answers

    @operation(permission=None, query=Query, answer=HealthzAnswer, statuses=(503,))
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Say whether the parts answer. Without Redis orders are still taken, so only the database's absence is a 503."""
        database, redis = _database_answers(), self._redis_answers()
        response.status = falcon.HTTP_200 if database else falcon.HTTP_503
        status = "ok" if database and redis else "degraded" if database else "down"
        response.media = {"status": status, "database": database, "redis": redis}


def _database_answers() -> bool:
    try:
        with db.session():
            return bool(db.rows("SELECT 1"))
    except Unavailable:
        return False
