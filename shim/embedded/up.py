"""`cloudpods up`: everything in one terminal, until Ctrl-C."""

import fcntl
import logging
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import TextIO

import click

from shim import config, db, migrations
from shim.config import PREFIX, Settings
from shim.embedded import account
from shim.embedded.postgres import Postgres
from shim.embedded.redis_server import RedisServer
from shim.embedded.supervisor import Service, Supervisor
from shim.errors import SettingsError
from shim.process import become_subreaper

log = logging.getLogger(__name__)


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
        _migrate(settings)
        if not supervisor.stopping:
            _processes(supervisor, settings, workers)
            click.echo(f"CloudPods is up at http://{settings.host}:{settings.port} (state in {state_dir}); Ctrl-C stops it")
        supervisor.watch()
        click.echo("stopping …")
    finally:
        supervisor.stop()
        lock.close()
    click.echo("stopped; nothing is left running, the data stays for the next `up`")


def _servers(supervisor: Supervisor, state_dir: Path, overrides: dict[str, object]) -> Settings:
    """Start the servers that no setting names, and return the settings with their URLs, which are kept for other commands."""
    given = config.given()
    urls: dict[str, object] = {}
    who = account.choose(state_dir)
    # What the servers say at a start would drown what matters in the terminal.
    output = os.open(state_dir / "servers.log", os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
    if "database_url" not in given:
        postgres = Postgres(who, state_dir)
        supervisor.start(replace(postgres.service(), output=output))
        postgres.wait()
        urls["database_url"] = postgres.url
    if "redis_url" not in given:
        server = RedisServer(who)
        supervisor.start(replace(server.service(), output=output))
        server.wait()
        urls["redis_url"] = server.url
    settings = config.load(state_dir=state_dir, **urls, **overrides)
    _remember(state_dir, settings)
    return settings


def _remember(state_dir: Path, settings: Settings) -> None:
    """Write the settings where `cloudpods --state-dir` and our own children find them: never into an environment or argv."""
    path = state_dir / config.REMEMBERED
    unfinished = path.with_suffix(".part")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(settings.model_dump_json(indent=1))
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
    for name in [name for name in os.environ if name.startswith(PREFIX) and name != f"{PREFIX}LAB_DIR"]:
        del os.environ[name]
    supervisor.start(Service("scheduler", [*command, "scheduler"]))
    for number in range(workers):
        supervisor.start(Service(f"worker {number + 1}", [*command, "worker"], stop_s=settings.stop_grace_s + 15))
    supervisor.start(Service("api", [*command, "api"]))


def _only_one(state_dir: Path) -> TextIO:
    lock = (state_dir / "up.lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise SettingsError(f"another `cloudpods up` runs with the state folder {state_dir}") from None
    return lock
