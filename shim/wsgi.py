"""What gunicorn loads: `shim.wsgi:application()`."""

from typing import Any

import falcon

from shim import app, config


def application() -> falcon.App[Any, Any]:
    """Return the application with this process's settings."""
    return app.create(config.load())
