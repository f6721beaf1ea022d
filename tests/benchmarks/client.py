"""A client that costs next to nothing, so that the server is what is measured: sockets that stay open, bytes made before."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable


class Connection:
    """An open connection to a server on loopback."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._open()

    def send(self, request: bytes) -> int:
        """Return the status of the answer, which is read whole."""
        return self.ask(request)[0]

    def ask(self, request: bytes) -> tuple[int, bytes]:
        """Return the status and the body of the answer."""
        self._socket.sendall(request)
        buffer = b""
        while (end := buffer.find(b"\r\n\r\n")) < 0:
            buffer += self._receive()
        head = buffer[:end].lower()
        length = int(head.split(b"content-length: ", 1)[1].split(b"\r\n", 1)[0])
        while len(buffer) < end + 4 + length:
            buffer += self._receive()
        if b"connection: close" in head:
            self._open()
        return int(head.split(b" ", 2)[1]), buffer[end + 4 :]

    def _open(self) -> None:
        self._socket = socket.create_connection(("127.0.0.1", self._port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _receive(self) -> bytes:
        received = self._socket.recv(65536)
        assert received, "the server closed the connection before it answered"
        return received


def at_rate(
    port: int, make: Callable[[int], bytes], *, per_s: float, seconds: float, clients: int, expected: int
) -> list[float]:
    """Return the time from when each request was due to its answer, in seconds.

    Requests have their time to start, so a slow answer does not slow the asking down. Each must be answered as `expected`.
    """
    began = time.monotonic() + 0.2
    taken: list[float] = []
    faults: list[object] = []

    def ask(client: int) -> None:
        connection = Connection(port)
        for number in range(client, int(per_s * seconds), clients):
            due = began + number / per_s
            time.sleep(max(0.0, due - time.monotonic()))
            status, body = connection.ask(make(number))
            taken.append(time.monotonic() - due)
            if status != expected:
                faults.append((status, body[:300]))

    _together(ask, clients)
    assert not faults, f"{len(faults)} answers were not {expected}: {faults[0]}"
    assert len(taken) == int(per_s * seconds), "a client ended early"
    return taken


def throughput(port: int, request: bytes, *, seconds: float, clients: int) -> float:
    """Return how many of these requests are answered with 200 in a second when each client asks again at once."""
    done = [0] * clients
    end = time.monotonic() + seconds

    def ask(client: int) -> None:
        connection = Connection(port)
        while time.monotonic() < end:
            assert connection.send(request) == 200
            done[client] += 1

    _together(ask, clients)
    assert all(done), "a client was never answered"
    return sum(done) / seconds


def get(path: str, token: str) -> bytes:
    """Return the bytes of a GET."""
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n".encode()


def post(path: str, token: str, body: bytes) -> bytes:
    """Return the bytes of a POST of JSON."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def _together(ask: Callable[[int], None], clients: int) -> None:
    threads = [threading.Thread(target=ask, args=(client,)) for client in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
