"""What gunicorn loads: `shim.wsgi:application()`."""

import signal
from types import FrameType
from typing import Any

import falcon

from shim import app, config
from shim.events.stream import Streams


def application() -> falcon.App[Any, Any]:
    """Return the application with this process's settings."""
    settings = config.load()
    streams = Streams(settings.api_streams, settings.stream_s)
    _end_first(streams)
    return app.create(settings, streams)


def _end_first(streams: Streams) -> None:
    """End the streams when the process is told to stop: it waits for its requests, and they would last."""
    stop = signal.getsignal(signal.SIGTERM)

    def handle(number: int, frame: FrameType | None) -> None:
        streams.end()
        if callable(stop):
            stop(number, frame)

    signal.signal(signal.SIGTERM, handle)
