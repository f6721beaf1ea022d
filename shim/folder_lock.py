"""A lock on a folder, which its process loses when it dies, however it dies."""

import fcntl
import os
from pathlib import Path


def take(folder: Path) -> int:
    """Return a descriptor that locks a folder until it is closed. Raises BlockingIOError when somebody has the lock."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
