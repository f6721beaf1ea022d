"""Reading, locking and replacing files so that concurrent calls never see half of one."""

from __future__ import annotations

import fcntl
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from .errors import PveError

POLL_S = 0.02


def read_text(path: str, default: str = "") -> str:
    """Return the text of a file, or the default where there is none, or no longer: /proc tells of a process while it lives."""
    try:
        with open(path, encoding="utf-8", newline="") as handle:
            return handle.read()
    except (FileNotFoundError, ProcessLookupError):
        return default


def write_text(path: str, text: str) -> None:
    """Replace a file in one step; readers see the old text or the new, never a part."""
    temporary = f"{path}.tmp.{os.getpid()}"
    try:
        with open(temporary, "w", encoding="utf-8", newline="") as handle:
            handle.write(text)
        os.rename(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise


def remove_tree(path: str) -> None:
    """Remove a directory and all below it, links not followed; absent is fine. (shutil costs 10 ms to import.)"""
    if not os.path.isdir(path) or os.path.islink(path):
        return
    for folder, folders, names in os.walk(path, topdown=False):
        for name in names:
            os.unlink(os.path.join(folder, name))
        for name in folders:
            below = os.path.join(folder, name)
            (os.unlink if os.path.islink(below) else os.rmdir)(below)
    os.rmdir(path)


@contextmanager
def held(path: str) -> Iterator[None]:
    """Hold an exclusive flock on a file of the lab's own, waiting as long as it takes."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def held_as_proxmox(path: str, shown: str, timeout_s: float, rc: int = 255) -> Iterator[None]:
    """Hold an flock the way PVE::Tools::lock_file does: say so when it has to wait, give up after the timeout."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        if not _try_lock(descriptor):
            sys.stderr.write("trying to acquire lock...")
            sys.stderr.flush()
            if not _lock_before(descriptor, time.monotonic() + timeout_s):
                sys.stderr.write("\n")
                raise PveError(f"can't lock file '{shown}' - got timeout", rc)
            sys.stderr.write(" OK\n")
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    """Return whether the lock was free and is now ours."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lock_before(descriptor: int, deadline: float) -> bool:
    """Return whether the lock became ours before the deadline."""
    while time.monotonic() < deadline:
        if _try_lock(descriptor):
            return True
        time.sleep(POLL_S)
    return False
