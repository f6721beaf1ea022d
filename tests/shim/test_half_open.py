"""Clients that begin something and stop keep nobody from the API, whoever they are."""

from __future__ import annotations

import json
import socket
import time
from contextlib import ExitStack, closing

import pytest

from shim.web import server

HEAD = b"POST /internal/cloudpods HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
HALF = {
    "nothing": b"",
    "half a head": b"GET /healthz HT",
    "half a body": HEAD + b'Content-Length: 1000\r\n\r\n{"a',
    "half a body in chunks": HEAD + b'Transfer-Encoding: chunked\r\n\r\n5\r\n{"a',
    "a chunk that looks like the end": HEAD + b"Transfer-Encoding: chunked\r\n\r\nff\r\n\r\n0\r\n\r\n",
    "no body though told to go on": HEAD + b"Content-Length: 10\r\nExpect: 100-continue\r\n\r\n",
    "more than is read": HEAD + b"Content-Length: 65537\r\n\r\n{",
    "much more than is taken": HEAD + b"Content-Length: 99999999\r\n\r\n{",
    "an answer but no farewell": b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
}
LONG = b"GET / HTTP/1.1\r\nX: " + b"x" * 70000


@pytest.fixture
def opened():
    """Return a way to open sockets that say something and stop."""
    with ExitStack() as stack:

        def open_(api, said, count=1):
            made = [stack.enter_context(socket.create_connection(("127.0.0.1", api.port), 10)) for _ in range(count)]
            for each in made:
                each.sendall(said)
            return made

        yield open_


def read_all(connection):
    connection.settimeout(30)
    return b"".join(iter(lambda: connection.recv(65536), b""))


def test_half_open_connections_keep_nobody_from_the_api(served, opened):
    api = served(api_processes=1)
    for said in HALF.values():
        opened(api, said, 60)
        began = time.monotonic()
        assert [api.status() for _ in range(3)] == [200] * 3, said
        assert time.monotonic() - began < server.REQUEST_S, said


def test_more_connections_than_there_is_room_for_push_each_other_out(served, opened):
    api = served(api_processes=1)
    opened(api, b"GET /healthz HT", 700)
    assert api.read("/healthz")[0] == 200


def test_a_request_that_does_not_end_is_answered_in_the_end(served, opened):
    api = served(api_processes=1)
    began = time.monotonic()
    (half,) = opened(api, b"GET /healthz HT")
    head, _, body = read_all(half).partition(b"\r\n\r\n")
    assert server.REQUEST_S - 1 < time.monotonic() - began < server.REQUEST_S + 30
    assert head.startswith(b"HTTP/1.1 408 ")
    assert json.loads(body)["code"] == "request_timeout"


@pytest.mark.parametrize(
    ("said", "status"), [(HALF["much more than is taken"], 413), (b"GET / HTTP/1.1\r\nX: " + b"x" * 70000, 431)]
)
def test_more_than_any_route_takes_is_refused_unread(served, opened, said, status):
    (sender,) = opened(served(api_processes=1), said)
    assert read_all(sender).startswith(f"HTTP/1.1 {status} ".encode())


def test_a_request_in_pieces_is_one(served, opened):
    api = served(api_processes=1)
    body = json.dumps({"email": "in-pieces@example.com"}).encode()
    head = (
        f"POST /internal/users HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.token}\r\nContent-Type: application/json\r\n"
    )
    (sender,) = opened(api, b"")
    for piece in (head.encode(), f"Content-Length: {len(body)}\r\n\r".encode(), b"\n" + body[:5], body[5:]):
        sender.sendall(piece)
        time.sleep(0.05)
    answer = b""
    while not answer.rstrip().endswith(b"}"):
        piece = sender.recv(65536)
        assert piece, answer
        answer += piece
    assert answer.startswith(b"HTTP/1.1 201 ")
    # The connection is kept, and the next one, in chunks, comes with the one after it.
    chunks = b"Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
    sender.sendall(head.encode() + chunks)
    assert sender.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
    sender.sendall(b"1;x=y\r\n{\r\n")
    sender.sendall(b"1\r\n}\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    answers = read_all(sender)
    assert b"HTTP/1.1 422 " in answers
    assert answers.count(b"HTTP/1.1 200 ") == 1


def test_a_client_that_does_not_read_its_answer_is_left(served, sql, eventually):
    api = served(api_processes=1, api_threads=1, api_streams=1)
    sql("INSERT INTO cloud_pod_events (type, message) SELECT 'INFO', repeat('x', 60000) FROM generate_series(1, 200)")
    with ExitStack() as stack:
        for _ in range(2):
            slow = stack.enter_context(closing(socket.socket()))
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.connect(("127.0.0.1", api.port))
            head = f"GET /internal/events?limit=200 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.token}\r\n\r\n"
            slow.sendall(head.encode())
        assert eventually(lambda: api.status() == 200, within_s=server.ANSWER_S + 10)
