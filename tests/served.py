"""An API of real processes, for what no simulated request shows: sockets, threads, signals."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing

from shim import db
from shim.tenants.tokens import ApiToken


class Served:
    """An API in processes of its own, which can be stopped and started again at the same address."""

    def __init__(self, settings, **more):
        with closing(socket.socket()) as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        with db.session():
            self.token = ApiToken.issue("test").secret
        given = {
            "database_url": settings.database_url,
            "redis_url": settings.redis_url,
            "state_dir": settings.state_dir,
            "port": self.port,
            **more,
        }
        self._environment = {**os.environ, **{f"CLOUDPODS_{name.upper()}": str(value) for name, value in given.items()}}
        self._process = None

    def start(self):
        self._process = subprocess.Popen([sys.executable, "-m", "shim.cli", "api"], env=self._environment)
        deadline = time.monotonic() + 60
        while self.status() != 200:
            assert time.monotonic() < deadline, "the API did not start"
            time.sleep(0.05)

    def stop(self):
        """Stop it as an administrator does; return how long that took."""
        began = time.monotonic()
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(30)
        self._process = None
        return time.monotonic() - began

    def status(self):
        try:
            return self.read("/healthz")[0]
        except OSError:
            return None

    def get(self, path, **headers):
        """Return the answer, of which nothing but the head was read."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("GET", path, headers={"Authorization": f"Bearer {self.token}", **headers})
        return connection.getresponse()

    def read(self, path):
        """Return the status and the document of an answer."""
        with closing(self.get(path)) as answer:
            return answer.status, json.loads(answer.read())

    def stream(self, path="/internal/events", last=None):
        return self.get(path, Accept="text/event-stream", **({} if last is None else {"Last-Event-ID": str(last)}))
