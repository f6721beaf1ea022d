"""What a single read is compared with: Falcon on the same gunicorn settings, alone, and with one token and one pod query.

Loaded by gunicorn with the very command line of the API, but for its address and this application.
"""

from __future__ import annotations

import hashlib
import json

import falcon

from shim import config, db

_TOKEN = "SELECT id, name FROM api_tokens WHERE token_hash = %s"
_POD = "SELECT * FROM cloud_pods WHERE vmid = %s"


class Bare:
    """Answers with a constant."""

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        response.media = {"status": "ok"}


class TwoQueries:
    """Answers with one token and one pod query and nothing else."""

    def on_get(self, request: falcon.Request, response: falcon.Response, vmid: str) -> None:
        secret = (request.auth or "").removeprefix("Bearer ")
        with db.session():
            assert db.rows(_TOKEN, (hashlib.sha256(secret.encode()).hexdigest(),))
            (row,) = db.rows(_POD, (int(vmid),))
        response.text = json.dumps(row, default=str)


def application() -> falcon.App:
    """Return what gunicorn loads."""
    settings = config.load()
    db.connect(settings.database_url, pool_size=settings.api_threads + 1)
    app = falcon.App()
    app.add_route("/", Bare())
    app.add_route("/pods/{vmid}", TwoQueries())
    return app
