"""`cloudpods up`: everything in one terminal, until Ctrl-C."""

import fcntl
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TextIO

import click

from shim import config, db, migrations
from shim.config import Settings
from shim.embedded import account
from shim.embedded.postgres import Postgres
from shim.embedded.redis_server import RedisServer
from shim.embedded.supervisor import Service, Supervisor
from shim.errors import SettingsError
from shim.jobs.catalog import QUICK_QUEUES
from shim.log import configure
from shim.process import become_subreaper

log = logging.getLogger(__name__)

SERVERS_LOG = "servers.log"
_START_S = 60.0
# So long a stopping worker takes at most to end its run once its grace is over, also one that hangs.
_RUN_ENDS_S = 20.0


def main(state_dir: Path, *, workers: int, **overrides: object) -> None:
    """Run servers, API, workers and scheduler under a state folder until SIGINT or SIGTERM; then stop all of them."""
    # Not to be listed by others, but to be passed through: as root, the servers run as somebody else below it.
    state_dir.mkdir(parents=True, exist_ok=True, mode=0o711)
    lock = _only_one(state_dir)
    become_subreaper()
    supervisor = Supervisor()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: setattr(supervisor, "stopping", True))
    try:
        settings = _servers(supervisor, state_dir, overrides)
        if settings is not None:
            configure(settings.log_format, settings.log_level)
            _migrate(settings)
            _require_free(settings.host, settings.port)
            _processes(supervisor, settings, workers)
            click.echo(f"CloudPods is up at http://{settings.host}:{settings.port} (state in {state_dir}); Ctrl-C stops it")
        supervisor.watch()
        click.echo("stopping …")
    finally:
        supervisor.stop()
        lock.close()
    click.echo("stopped; nothing is left running, the data stays for the next `up`")


def _servers(supervisor: Supervisor, state_dir: Path, overrides: dict[str, object]) -> Settings | None:
    """Start the servers that no setting names, and return the settings with their URLs; None when told to stop meanwhile."""
    given = config.given()
    urls: dict[str, object] = {}
    who = account.choose(state_dir)
    # What the servers say at a start would drown what matters in the terminal.
    output = os.open(state_dir / SERVERS_LOG, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
    if "database_url" not in given:
        postgres = Postgres(who, state_dir)
        if not _start(supervisor, replace(postgres.service(), output=output), postgres.answers, state_dir):
            return None
        urls["database_url"] = postgres.url
    if "redis_url" not in given:
        server = RedisServer(who)
        if not _start(supervisor, replace(server.service(), output=output), server.answers, state_dir):
            return None
        urls["redis_url"] = server.url
    # What was given this time, and no more: a default that was remembered would outlive a move of the checkout.
    values = {**given, **urls, **overrides, "state_dir": str(state_dir)}
    settings = config.check(values)
    _remember(state_dir, values)
    return settings


def _start(supervisor: Supervisor, service: Service, answers: Callable[[], bool], state_dir: Path) -> bool:
    supervisor.start(service)
    try:
        return supervisor.wait_until(service, answers, _START_S)
    except SettingsError as error:
        raise SettingsError(f"{error.message}; {state_dir / SERVERS_LOG} says why") from None


def _require_free(host: str, port: int) -> None:
    """Raise SettingsError when somebody listens there already: the API would be started for ever in vain."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise SettingsError(f"cannot listen on {host}:{port}: {error.strerror}; choose another with --port") from None


def _remember(state_dir: Path, values: dict[str, object]) -> None:
    """Write the settings where `cloudpods --state-dir` and our own children find them: never into an environment or argv."""
    path = state_dir / config.REMEMBERED
    unfinished = path.with_suffix(".part")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(values, file, indent=1, default=str)
    unfinished.rename(path)


def _migrate(settings: Settings) -> None:
    db.connect(settings.database_url, pool_size=1)
    with db.session():
        for name in migrations.upgrade():
            log.info("applied %s", name)
    db.database.close_all()


def _processes(supervisor: Supervisor, settings: Settings, workers: int) -> None:
    command = [sys.executable, "-m", "shim.cli", "--state-dir", str(settings.state_dir)]
    # The children read the remembered settings; an environment that says otherwise would be a second truth.
    for name in config.names():
        del os.environ[name]
    supervisor.start(Service("scheduler", [*command, "scheduler"]))
    for number in range(workers):
        worker = [*command, "worker", *_queues(number, workers)]
        supervisor.start(Service(f"worker {number + 1}", worker, stop_s=settings.stop_grace_s + _RUN_ENDS_S))
    supervisor.start(Service("api", [*command, "api"]))


def _queues(number: int, workers: int) -> list[str]:
    """Return a worker's options: of several, the first takes no job that may take hours, so that the others always go on."""
    return ["--queues", ",".join(QUICK_QUEUES)] if number == 0 and workers > 1 else []


def _only_one(state_dir: Path) -> TextIO:
    lock = (state_dir / "up.lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise SettingsError(f"another `cloudpods up` runs with the state folder {state_dir}") from None
    return lock
