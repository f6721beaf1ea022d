"""The two resources that need no token: what this is, and whether it works."""

from collections.abc import Callable
from importlib.metadata import version

import falcon

from shim import db
from shim.errors import Unavailable


class Root:
    """`GET /`."""

    public = offline = True

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Say what this is and where to go on."""
        response.media = {
            "name": "CloudPods",
            "version": version("migra-cloudpods"),
            "links": {"health": "/healthz", "cloudpods": "/internal/cloudpods"},
        }


class Healthz:
    """`GET /healthz`."""

    public = offline = True

    def __init__(self, redis_answers: Callable[[], bool]) -> None:
        self._redis_answers = redis_answers

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
