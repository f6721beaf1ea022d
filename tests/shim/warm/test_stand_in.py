"""The stand-in: becomes the plain command unless a warm process takes the run; after its `go` never."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from shim.warm import stand_in

Server = Callable[[socket.socket], None]


def closes(_: socket.socket) -> None:
    pass


def says(text: bytes) -> Server:
    def serve(connection: socket.socket) -> None:
        _request(connection)
        connection.sendall(text)

    return serve


def hangs(connection: socket.socket) -> None:
    connection.settimeout(30)
    connection.recv(1)  # until the stand-in has gone


def hangs_later(connection: socket.socket) -> None:
    connection.settimeout(30)
    _request(connection)
    connection.recv(1)


def greets_wrongly(connection: socket.socket) -> None:
    connection.sendall(b"good day\n")


def ends_with(text: bytes) -> Server:
    def serve(connection: socket.socket) -> None:
        _request(connection)
        connection.sendall(b"ready\n")
        assert connection.recv(1) == stand_in.GO
        connection.sendall(text)

    return serve


def _request(connection: socket.socket) -> None:
    connection.sendall(b"hello\n")
    head, descriptors, _, _ = socket.recv_fds(connection, 4, 3)
    for each in descriptors:
        os.close(each)
    left = int.from_bytes(head, "big")
    while left:
        left -= len(connection.recv(left))


class Stood:
    """A stand-in before a server that does as it is told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.plain = folder / "plain-command"
        self.plain.write_text(f'#!/bin/sh\necho "plain $*"; echo "$PATH" > {folder}/path; exit 7\n')
        self.plain.chmod(0o755)

    def run(self, serve: Server | None) -> subprocess.CompletedProcess[str]:
        path = self.folder / "socket"
        listener = socket.socket(socket.AF_UNIX)
        if serve is not None:
            listener.bind(str(path))
            listener.listen()
            threading.Thread(target=self._serve, args=(listener, serve), daemon=True).start()
        try:
            words = [sys.executable, "-IS", stand_in.__file__, str(path), str(self.plain), str(self.folder), "a", "b c"]
            found = os.pathsep.join([str(self.folder / "bin"), "/usr/bin", "/bin"])
            return subprocess.run(words, env={"PATH": found}, capture_output=True, text=True, timeout=60, check=False)
        finally:
            listener.close()

    @staticmethod
    def _serve(listener: socket.socket, serve: Server) -> None:
        connection, _ = listener.accept()
        with connection:
            serve(connection)

    def noted(self) -> list[str]:
        noted = self.folder / "plain"
        return noted.read_text().split() if noted.exists() else []


@pytest.fixture
def stood(tmp_path: Path) -> Stood:
    return Stood(tmp_path)


@pytest.mark.parametrize(
    ("serve", "reason"),
    [
        (None, "absent"),
        (closes, "broken"),
        (says(b""), "broken"),
        (says(b"settings\n"), "settings"),
        (says(b"changed\n"), "changed"),
        (says(b"big\n"), "big"),
        (says(b"\xff\x00" * 500), "broken"),
        (greets_wrongly, "broken"),
        (hangs, "late"),
        (hangs_later, "late"),
    ],
)
def test_it_becomes_the_plain_command(stood: Stood, serve: Server | None, reason: str) -> None:
    done = stood.run(serve)
    assert (done.returncode, done.stdout) == (7, "plain a b c\n")
    # Which does not find the stand-in again.
    assert (stood.folder / "path").read_text() == "/usr/bin:/bin\n"
    assert stood.noted() == [reason]


@pytest.mark.parametrize(
    ("said", "rc"),
    [
        (b"0\n", 0),
        (b"512\n", 2),
        (b"64000\n", 250),
        (b"2\n", -signal.SIGINT),
        (b"15\n", -signal.SIGTERM),
        (b"9\n", -signal.SIGKILL),
        # Nobody knows how the run ended: never begin it again.
        (b"", -signal.SIGKILL),
        (b"what\n", -signal.SIGKILL),
    ],
)
def test_it_ends_as_the_run_did(stood: Stood, said: bytes, rc: int) -> None:
    done = stood.run(ends_with(said))
    assert (done.returncode, done.stdout) == (rc, "")
    assert stood.noted() == []
