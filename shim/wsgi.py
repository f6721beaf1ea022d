"""What gunicorn loads: `shim.wsgi:application()`."""

import gc
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
    served = app.create(settings, streams)
    # What was made and imported until here lasts as long as the process. To go through all of it again and again, looking
    # for what is no longer used, makes whoever asks at that moment wait for tens of milliseconds.
    gc.collect()
    gc.freeze()
    return served


def _end_first(streams: Streams) -> None:
    """End the streams when the process is told to stop: it waits for its requests, and they would last."""
    stop = signal.getsignal(signal.SIGTERM)

    def handle(number: int, frame: FrameType | None) -> None:
        streams.end()
        if callable(stop):
            stop(number, frame)

    signal.signal(signal.SIGTERM, handle)
