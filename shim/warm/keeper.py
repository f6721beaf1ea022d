"""The worker's side: keeps a warm process, and has its runs find the stand-in as `ansible-playbook`."""

import contextlib
import fcntl
import logging
import os
import secrets
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psutil

from shim import folder_lock
from shim.old_run import MARK
from shim.process import end_with_parent

log = logging.getLogger(__name__)

HERE = Path(__file__).parent
SERVE = HERE / "serve.py"
# A socket's path may have 107 bytes.
_LONGEST_PARENT = 70
# One that ends at once would otherwise be started without end.
_AGAIN_S = 60.0
_STOP_S = 5.0
# Room in the warm process's memory for what a run is to be seen as by others: its mark and its arguments.
_MARK_ROOM, _ARGUMENTS_ROOM = " " * 120, " " * 500


class Keeper:
    """A warm process of this worker's own, begun anew when it has ended; `bin` is to come first on its runs' PATH.

    `environment` gives what runs have in theirs, `runs_in` is the folder in which they begin. What this host cannot do (its
    disk is full, say) is tried again later: a worker does its work without it.
    """

    def __init__(self, state_dir: Path, environment: Callable[[], Mapping[str, str]], runs_in: Path) -> None:
        parent = (state_dir / "warm").absolute()
        if len(str(parent)) > _LONGEST_PARENT:
            parent = Path.home() / ".ansible" / "warm"
        self._environment = environment
        self._runs_in = runs_in
        self._directory = parent / f"{os.getpid()}-{secrets.token_hex(4)}"
        self._socket = self._directory / "socket"
        self._modules = self._directory / "modules"
        self._lock: int | None = None
        self._warm: subprocess.Popen[bytes] | None = None
        self.bin = self._directory / "bin"
        self._stand_in = self.bin / "ansible-playbook"
        self._try_to_begin()

    @property
    def pid(self) -> int | None:
        """Return the warm process's."""
        return self._warm.pid if self._warm is not None else None

    def is_own(self, process: psutil.Process) -> bool:
        """Return whether this is the warm process, or a fork that packs a module for it: no run's, not to end with one."""
        try:
            if process.pid == self.pid:
                return True
            return process.ppid() == self.pid and not process.environ().get(MARK, "").strip()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return False

    def look(self, begun: int = 0) -> Counter[str]:
        """Start the warm process again if need be; return how many runs were plain since the last look, by reason.

        Of so many that were begun since: those that did not even find the stand-in say no reason themselves.
        """
        plain = self._plain_runs()
        if not self._stand_in.exists() and begun > plain.total():
            plain["none"] = begun - plain.total()
        # One that hangs is late for each run.
        if (plain["late"] or not self._stands()) and time.monotonic() - self._began > _AGAIN_S:
            self._end(0.0 if plain["late"] else _STOP_S)
            self._try_to_begin()
        return +plain

    def stop(self) -> None:
        """End the warm process; a run that it forked is not ended."""
        self._end(_STOP_S)
        shutil.rmtree(self._directory, ignore_errors=True)
        self._let_go()

    def _stands(self) -> bool:
        """Return whether the warm process lives, and all is there by which runs find it."""
        # Whoever takes note of all that has ended may have taken note of this one.
        lives = self._warm is not None and self._warm.poll() is None
        return lives and all(path.exists() for path in (self._stand_in, self._socket, self._modules))

    def _end(self, grace_s: float) -> None:
        """End the warm process; kill it when it has not ended after so long."""
        if self._warm is None or self._warm.poll() is not None:
            return
        self._warm.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._warm.wait(grace_s)
        self._warm.kill()
        self._warm.wait()

    def _try_to_begin(self) -> None:
        self._began = time.monotonic()
        try:
            self._hold()
            self._begin()
        except Exception as error:
            # Of this host. ansible-runner raises errors of its own for the same.
            log.warning("cannot keep Ansible warm, runs start plain: %s", error)

    def _hold(self) -> None:
        """Make its folder, unless it is there, and lock it; remove those of workers that are gone.

        Those of other containers may share the parent: their pids say nothing here.
        """
        parent = self._directory.parent
        with _turn(parent):
            self._let_go()
            self._directory.mkdir(mode=0o700, exist_ok=True)
            self._lock = folder_lock.take(self._directory)
            for old in parent.iterdir():
                _remove_unless_locked(old)

    def _let_go(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _begin(self) -> None:
        """Start a warm process. Runs that come before it is ready wait for it on its socket, which is there at once."""
        environment = dict(self._environment())
        searched = [each for each in environment.get("PATH", os.defpath).split(os.pathsep) if each != str(self.bin)]
        environment["PATH"] = os.pathsep.join(searched)
        plain = shutil.which("ansible-playbook", path=environment["PATH"])
        if plain is None:
            raise FileNotFoundError("there is no ansible-playbook on the PATH")
        plain = str(Path(plain).absolute())
        shutil.rmtree(self._modules, ignore_errors=True)
        self._modules.mkdir(mode=0o700)
        self._write_stand_in(plain)
        self._socket.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(self._socket))
            listener.listen(64)
            words = [sys.executable, str(SERVE), str(listener.fileno()), plain, str(self._modules), str(os.getpid())]
            self._warm = subprocess.Popen(
                [*words, _ARGUMENTS_ROOM],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                cwd=self._runs_in,
                env={**environment, MARK: _MARK_ROOM},
                pass_fds=[listener.fileno()],
                start_new_session=True,
                preexec_fn=_end_with_this_process(),  # noqa: PLW1509 - a worker has one thread
            )

    def _write_stand_in(self, plain: str) -> None:
        self.bin.mkdir(mode=0o700, exist_ok=True)
        words = [sys.executable, "-IS", str(HERE / "stand_in.py"), str(self._socket), plain, str(self._directory)]
        new = self.bin / ".new"
        new.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
        new.chmod(0o700)
        new.rename(self._stand_in)

    def _plain_runs(self) -> Counter[str]:
        noted, read = self._directory / "plain", self._directory / "plain.read"
        try:
            noted.rename(read)
            return Counter(read.read_text().split())
        except FileNotFoundError:
            return Counter()
        except OSError as error:
            log.warning("cannot tell how many runs were started plain: %s", error)
            return Counter()


def _end_with_this_process() -> Callable[[], None]:
    ask, worker = end_with_parent(signal.SIGTERM), os.getpid()

    def before() -> None:
        ask()
        if os.getppid() != worker:
            # It was killed before it was asked for.
            os._exit(1)

    return before


@contextlib.contextmanager
def _turn(parent: Path) -> Iterator[None]:
    """Have the folder of all workers' folders for oneself. Raises OSError where it is not this user's alone."""
    parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    status = parent.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        # What stands there is run.
        raise PermissionError(f"{parent} is no folder of this user's alone")
    descriptor = os.open(parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _remove_unless_locked(folder: Path) -> None:
    with contextlib.suppress(OSError):
        descriptor = folder_lock.take(folder)
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)
