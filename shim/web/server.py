"""gunicorn's worker of threads, which takes a thread for a request only once all of it came.

A thread that waits for a client is one that nobody else has: some clients that begin a request and stop would keep everybody
from the API. So the loop, which has time for thousands, waits for requests (`arriving.py`), for the next one of a kept
connection, and for clients to take their leave; a thread waits for nothing but a client that reads its answer slowly.

| what a client may take its time for | s |
|---|---|
| the whole of a request, from the connection or its first byte on | 15 |
| the next request of a kept connection | gunicorn's `keep-alive` |
| reading its answer, or one piece of a stream (`sse.py`) | 10 |
| closing the connection after us | 2 |
"""

import errno
import http
import json
import logging
import selectors
import socket
import time
from concurrent.futures import Future
from functools import partial
from typing import Any

from gunicorn.workers.gthread import STOP_KEEPALIVE_LINGER, TConn, ThreadWorker

from shim.web.arriving import Arriving, TooLarge

log = logging.getLogger(__name__)

REQUEST_S = 15.0
ANSWER_S = 10.0
LEAVE_S = 2.0
# Of requests that are not whole, together.
MAX_HELD = 64 * 1024 * 1024
# Of what a client still sends when it is to leave.
_PIECE = 64 * 1024
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_PASSING = (errno.EAGAIN, errno.EWOULDBLOCK, errno.ECONNABORTED)
_NO_ROOM = (errno.EMFILE, errno.ENFILE)


class _Client(TConn):  # type: ignore[misc]
    """A connection. `arriving` is None when no request is awaited any more."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.arriving: Arriving | None = Arriving()
        self.told_to_send = False


class Server(ThreadWorker):  # type: ignore[misc]
    """What `cloudpods api` gives gunicorn as `worker-class`. All but `handle_request` runs in the loop's thread."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        # In the order in which they began to wait.
        self._waiting: dict[int, _Client] = {}
        self._held_bytes = 0
        self._swept = 0.0
        self._stopping = False

    def accept(self, listener: socket.socket) -> None:
        """Begin to wait for a connection's request; when there are too many, for one less of the others."""
        try:
            accepted, address = listener.accept()
        except OSError as error:
            if error.errno in _NO_ROOM:
                self._drop_oldest()
            elif error.errno not in _PASSING:
                raise
            return
        self.nr_conns += 1
        client = _Client(self.cfg, accepted, address, listener.getsockname())
        client.init()
        self._wait(client, REQUEST_S)
        if self.nr_conns >= self.worker_connections:
            self._drop_oldest()
        # Mostly it is there already.
        self._read(client, accepted)

    def finish_request(self, client: _Client, done: "Future[bool]") -> None:
        """Wait for a connection's next request, or for its end."""
        if done.cancelled() or done.exception() is not None or not done.result():
            self._part(client)
            return
        client.arriving, client.told_to_send = Arriving(), False
        begun = client.parser.unreader.take_buffered()
        idle_s = float(self.cfg.keepalive) if self.alive else STOP_KEEPALIVE_LINGER
        self._wait(client, REQUEST_S if begun else idle_s)
        if begun:
            self._take(client, begun)

    def handle_request(self, request: Any, client: _Client) -> bool:
        """Answer, in a thread, a client that reads what it is answered."""
        client.sock.settimeout(ANSWER_S)
        try:
            return bool(super().handle_request(request, client))
        except TimeoutError:
            log.info("a client did not read its answer", extra={"remote_addr": client.client[0] if client.client else None})
            return False

    def murder_pending(self) -> None:
        """Drop whoever took too long; gunicorn asks at each turn of its loop."""
        now = time.monotonic()
        if not self.alive and not self._stopping:
            self._stopping = True
            for client in self._waiting.values():
                client.timeout = min(client.timeout, now + STOP_KEEPALIVE_LINGER)
        if now - self._swept < 0.5:
            return
        self._swept = now
        for client in [each for each in self._waiting.values() if each.timeout <= now]:
            self._late(client)

    def _wait(self, client: _Client, time_s: float) -> None:
        client.sock.setblocking(False)
        client.timeout = time.monotonic() + time_s
        self._waiting[id(client)] = client
        self.poller.register(client.sock, selectors.EVENT_READ, partial(self._read, client))

    def _wait_no_more(self, client: _Client) -> None:
        del self._waiting[id(client)]
        self._held_bytes -= len(client.arriving.octets) if client.arriving is not None else 0
        self.poller.unregister(client.sock)

    def _read(self, client: _Client, connection: socket.socket) -> None:
        if id(client) not in self._waiting:
            # Dropped by an event of the same turn.
            return
        try:
            octets = connection.recv(_PIECE)
        except BlockingIOError:
            return
        except OSError:
            octets = b""
        if not octets:
            self._drop(client)
        elif client.arriving is not None:
            self._take(client, octets)

    def _take(self, client: _Client, octets: bytes) -> None:
        assert client.arriving is not None
        if not client.arriving.octets:
            client.timeout = time.monotonic() + REQUEST_S
        self._held_bytes += len(octets)
        try:
            whole = client.arriving.add(octets)
        except TooLarge as error:
            self._refuse(client, error.status)
            return
        if whole:
            self._wait_no_more(client)
            client.parser.unreader.unread(bytes(client.arriving.octets))
            client.arriving = None
            self.enqueue_req(client)
        elif not client.told_to_send and client.arriving.expects():
            client.told_to_send = True
            self._say(client, _CONTINUE)
        if self._held_bytes > MAX_HELD:
            self._drop_oldest()

    def _late(self, client: _Client) -> None:
        if client.arriving is not None and client.arriving.octets:
            self._refuse(client, 408)
        else:
            self._drop(client)

    def _refuse(self, client: _Client, status: int) -> None:
        self._wait_no_more(client)
        self._say(client, _problem(status))
        self._part(client)

    def _say(self, client: _Client, octets: bytes) -> None:
        """Send some bytes, if there is room for them: the loop waits for nobody."""
        try:
            client.sock.send(octets)
        except OSError as error:
            log.debug("a client could not be told: %s", error)

    def _part(self, client: _Client) -> None:
        """Close, but read a while what still comes: what is not read would take the answer with it (RFC 9112, 9.6)."""
        client.arriving = None
        try:
            client.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._close(client)
            return
        self._wait(client, LEAVE_S)

    def _drop_oldest(self) -> None:
        oldest = next(iter(self._waiting.values()), None)
        if oldest is not None:
            self._drop(oldest)

    def _drop(self, client: _Client) -> None:
        self._wait_no_more(client)
        self._close(client)

    def _close(self, client: _Client) -> None:
        self.nr_conns -= 1
        client.close()


def _problem(status: int) -> bytes:
    """Return the answer to a request that no thread sees, in the shape of `problems.py`."""
    title = http.HTTPStatus(status).phrase
    code = {408: "request_timeout", 413: "content_too_large", 431: "request_header_fields_too_large"}[status]
    details = {
        408: f"the request was not whole after {REQUEST_S:g} s",
        413: "the body is larger than any route takes",
        431: "the request's head is too large",
    }
    problem = {"type": "about:blank", "title": title, "status": status, "code": code, "detail": details[status]}
    body = json.dumps(problem).encode()
    head = f"HTTP/1.1 {status} {title}\r\nContent-Type: application/problem+json\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Connection: close\r\n\r\n".encode() + body
