"""Server-sent events over HTTP (WHATWG HTML, 9.2): what a client asks by, and how its stream is written."""

import json
import select
import socket
from collections.abc import Callable, Iterator
from typing import Any

import falcon

from shim.errors import Invalid

TYPE = "text/event-stream"
LAST_EVENT_ID = "Last-Event-ID"


def asked(request: falcon.Request) -> bool:
    """Return whether the client wants a stream: it says so in `Accept`, which `*/*` does not."""
    return TYPE in (request.accept or "").lower()


def last_event_id(request: falcon.Request) -> int | None:
    """Return the number of the last event that the client had, None when it had none. Raises Invalid."""
    said = request.get_header(LAST_EVENT_ID)
    if not said:
        return None
    if not (said.isascii() and said.isdigit() and len(said) < 19):
        raise Invalid.field(LAST_EVENT_ID, "must be an event's number, as the stream gave it")
    return int(said)


def answer(response: falcon.Response, stream: Iterator[bytes]) -> None:
    """Answer with a stream; it is read after the request's own connection to the database was given back."""
    response.content_type = TYPE
    response.set_headers({"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
    response.stream = stream


def opening(last: int, retry_ms: int) -> bytes:
    """Return how a stream begins: when to come back, and from where, even if nothing happens meanwhile."""
    return f"retry: {retry_ms}\nid: {last}\n\n".encode()


def message(id: int, event: str, data: dict[str, Any]) -> bytes:
    """Return one event."""
    # JSON has no line end of its own, so it is one line of data.
    return f"id: {id}\nevent: {event}\ndata: {json.dumps(data, default=str)}\n\n".encode()


def departure(request: falcon.Request) -> Callable[[], bool]:
    """Return a look whether the client has gone, without waiting for a write to fail."""
    connection = request.env.get("gunicorn.socket")
    if type(connection) is not socket.socket:
        return lambda: False
    # The socket has a timeout (`server.py`), for which a `recv` alone would wait.
    readable = select.poll()
    readable.register(connection, select.POLLIN)

    def gone() -> bool:
        try:
            return bool(readable.poll(0)) and connection.recv(1, socket.MSG_PEEK) == b""
        except OSError:
            return True

    return gone
