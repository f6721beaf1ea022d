"""A control plane as large as a hosting panel makes it, without workers: PostgreSQL, Redis and the API, filled by plain SQL."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import psycopg2
import requests

from shim import db, migrations
from shim.embedded import account
from shim.embedded.postgres import Postgres
from shim.embedded.redis_server import RedisServer
from shim.embedded.supervisor import Supervisor
from shim.process import end_with_parent
from shim.tenants.tokens import ApiToken
from tests.stack import REPOSITORY, wait_until

TENANTS, PODS, JOBS, EVENTS, NODES = 1_000, 10_000, 100_000, 1_000_000, 4
FILL = (Path(__file__).parent / "fill.sql").read_text()


@dataclass(frozen=True)
class Server:
    """A gunicorn of ours: where it answers, and its first process."""

    port: int
    process: psutil.Process

    def memory_mb(self) -> float:
        """Return the resident memory of the largest process that answers requests."""
        return max(child.memory_info().rss for child in self.process.children()) / 1e6


@dataclass(frozen=True)
class Filled:
    """The API over full tables, a token for it, and the environment that leads to its servers."""

    api: Server
    token: str
    database_url: str
    environment: dict[str, str]

    @contextmanager
    def bare(self) -> Iterator[Server]:
        """Serve `bare.py` by the API's own command line."""
        words = [word for word in self.api.process.cmdline() if not word.startswith(("--bind=", "shim.wsgi:"))]
        port = _free_port()
        with serving([*words, f"--bind=127.0.0.1:{port}", "tests.benchmarks.bare:application()"], port, self.environment) as it:
            yield it


@contextmanager
def filled() -> Iterator[Filled]:
    """Start the servers, fill them, serve the API; end and remove everything afterwards."""
    home = Path(tempfile.mkdtemp(prefix="cloudpods-filled-"))
    home.chmod(0o711)
    supervisor = Supervisor()
    try:
        postgres, server = _servers(supervisor, home)
        token = _fill(postgres.url)
        port = _free_port()
        urls = {"CLOUDPODS_DATABASE_URL": postgres.url, "CLOUDPODS_REDIS_URL": server.url}
        environment = {**os.environ, **urls, "CLOUDPODS_STATE_DIR": str(home / "state"), "CLOUDPODS_PORT": str(port)}
        with serving([sys.executable, "-m", "shim.cli", "api"], port, environment) as api:
            yield Filled(api, token, postgres.url, environment)
    finally:
        supervisor.stop()
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def serving(command: list[str], port: int, environment: dict[str, str]) -> Iterator[Server]:
    """Run a server that answers on this port until the block ends."""
    # A line for each request would drown the figures; to write them is part of what they measure.
    with tempfile.TemporaryFile() as said:
        program = subprocess.Popen(
            command, cwd=REPOSITORY, env=environment, stdout=said, stderr=said, preexec_fn=end_with_parent(signal.SIGTERM)
        )
    try:
        wait_until(lambda: _answers(port), "the server answers")
        yield Server(port, psutil.Process(program.pid))
    finally:
        program.terminate()
        program.wait(30)


def _servers(supervisor: Supervisor, home: Path) -> tuple[Postgres, RedisServer]:
    who = account.choose(home)
    postgres, server = Postgres(who, home), RedisServer(who)
    # Their words would drown the figures.
    output = os.open(home / "servers.log", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    for service, answers in ((postgres.service(), postgres.answers), (server.service(), server.answers)):
        quiet = replace(service, output=output)
        supervisor.start(quiet)
        assert supervisor.wait_until(quiet, answers, 60)
    return postgres, server


def _fill(url: str) -> str:
    db.connect(url, pool_size=1)
    with db.session():
        migrations.upgrade()
        token = ApiToken.issue("benchmark").secret
    db.database.close_all()
    connection = psycopg2.connect(url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        sizes = {"tenants": TENANTS, "pods": PODS, "jobs": JOBS, "events": EVENTS, "nodes": NODES}
        cursor.execute(FILL, sizes)
        cursor.execute("VACUUM ANALYZE")
        # What the filling left to be written would be written while others are measured.
        cursor.execute("CHECKPOINT")
    connection.close()
    return token


def _answers(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/", timeout=2).ok
    except requests.RequestException:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
