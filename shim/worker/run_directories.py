"""Where runs have their files: a private directory each, removed with the run, and kept for a time when it failed.

| directory | what |
|---|---|
| `runs/<run>` | a run under way; its process has a lock on it, which it loses when it dies, however it dies |
| `runs/failed/<run>` | one that failed or whose process was killed: what it printed and why it ended, none of its variables |

Any number of workers may share them: whoever tidies up has `runs/.lock` for itself, whoever begins a run has a share in it.
"""

import fcntl
import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from shim import folder_lock
from shim.worker.hiding import without

log = logging.getLogger(__name__)

# What ansible-runner leaves beside it has the variables, the environment and the events' data.
KEPT = ("stdout", "stderr", "rc", "status", "why")
_LOCK, _FAILED = ".lock", "failed"
# Stands in the directory of a run whose output may have secrets.
_HIDES = "hides"
# Those that are too old are looked for so often, when no run failed meanwhile.
_LOOK_S = 3600.0
_DAY_S = 24 * 3600.0
_MB = 1024 * 1024


class RunDirectories:
    """The directories of a host's runs. Those that failed are kept for so many days, and so many MB of them."""

    def __init__(self, state_dir: Path, *, keep_days: int, keep_mb: int) -> None:
        self._runs = state_dir / "runs"
        self._failed = self._runs / _FAILED
        self._keep_s = keep_days * _DAY_S
        self._keep_bytes = keep_mb * _MB
        self._looked: tuple[int, float] | None = None

    def make(self, name: str, hidden: tuple[str, ...] = ()) -> "RunDirectory":
        """Make the directory of a run that this process does; of what is `hidden` nothing is kept. Raises OSError."""
        with self._turn(fcntl.LOCK_SH):
            path = self._runs / name
            path.mkdir(mode=0o700)
            if hidden:
                (path / _HIDES).touch()
            return RunDirectory(path, folder_lock.take(path), self, hidden)

    def tidy(self) -> None:
        """Keep what was left by processes that were killed, and remove what is too old or too much."""
        try:
            with self._turn(fcntl.LOCK_EX):
                for path in self._runs.iterdir():
                    if path.name not in (_LOCK, _FAILED):
                        self._keep_if_dead(path)
                self._shrink()
        except OSError as error:
            log.warning("cannot tidy up %s: %s", self._runs, error)

    def keep(self, path: Path, why: str, hidden: tuple[str, ...] = ()) -> None:
        """Put a run's directory, without its secrets, among those that failed; remove it when that cannot be done."""
        try:
            if self._keep_s and self._keep_bytes:
                _strip(path, hidden)
                (path / "why").write_text(f"{why}\n", encoding="utf-8", errors="replace")
                self._failed.mkdir(mode=0o700, exist_ok=True)
                os.utime(path)
                path.rename(_free(self._failed / path.name))
        except OSError as error:
            log.warning("cannot keep the failed run %s: %s", path, error)
        finally:
            shutil.rmtree(path, ignore_errors=True)

    @contextmanager
    def _turn(self, how: int) -> Iterator[None]:
        self._runs.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._runs / _LOCK, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(descriptor, how)
            yield
        finally:
            os.close(descriptor)

    def _keep_if_dead(self, path: Path) -> None:
        try:
            descriptor = folder_lock.take(path)
        except (BlockingIOError, FileNotFoundError, NotADirectoryError):
            # It is under way, or has just ended.
            return
        try:
            if path.exists():
                self.keep(path, "the process that ran it was killed")
        finally:
            os.close(descriptor)

    def _shrink(self) -> None:
        if not self._failed.exists():
            return
        changed, now = self._failed.stat().st_mtime_ns, time.time()
        if self._looked is not None and changed == self._looked[0] and now < self._looked[1] + _LOOK_S:
            return
        self._looked = changed, now
        room = self._keep_bytes
        for path in sorted(self._failed.iterdir(), key=_age, reverse=True):
            size = _size(path)
            if size > room or _age(path) < now - self._keep_s:
                shutil.rmtree(path, ignore_errors=True)
            else:
                room -= size


class RunDirectory:
    """The directory of a run under way."""

    def __init__(self, path: Path, lock: int, among: RunDirectories, hidden: tuple[str, ...]) -> None:
        self.path = path
        self._lock = lock
        self._among = among
        self._hidden = hidden

    def end(self, why_kept: str | None) -> None:
        """Remove it, or keep it for this reason."""
        if why_kept is None:
            shutil.rmtree(self.path, ignore_errors=True)
        else:
            self._among.keep(self.path, why_kept, self._hidden)
        os.close(self._lock)


def _strip(path: Path, hidden: tuple[str, ...]) -> None:
    """Leave of a run's directory what may be kept. Can be done again when it was broken off."""
    for file in path.glob("artifacts/*/*"):
        if file.name in KEPT and file.is_file():
            if hidden:
                said = file.read_text(encoding="utf-8", errors="replace")
                file.write_text(without(hidden, said), encoding="utf-8")
            # Of a process that was killed nobody knows what it was to hide.
            if hidden or not (path / _HIDES).exists():
                file.rename(path / file.name)
    for each in path.iterdir():
        if each.is_dir():
            shutil.rmtree(each)
        elif each.name not in KEPT:
            each.unlink()


def _free(path: Path) -> Path:
    """Return the path, or one like it that is not taken: an attempt may look at its node twice."""
    return path.with_name(f"{path.name}.{time.time_ns():x}") if path.exists() else path


def _age(path: Path) -> float:
    return path.stat().st_mtime


def _size(path: Path) -> int:
    """Return how many bytes a kept directory takes on the disk."""
    size = path.stat().st_blocks
    with suppress(NotADirectoryError):
        size += sum(file.stat().st_blocks for file in path.iterdir())
    return size * 512
