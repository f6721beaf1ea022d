"""Where the embedded servers live and as whom they run.

PostgreSQL refuses to run as root. As root, the servers therefore run as `nobody`, with programs and data where that user can
reach them; nothing above those folders has its mode changed. As anybody else they run as that person, in the state folder.
"""

import hashlib
import os
import pwd
import shutil
import stat
import zlib
from dataclasses import dataclass
from pathlib import Path

from shim.errors import SettingsError

UNPRIVILEGED = "nobody"
# Used as root when the state folder lies where the unprivileged user cannot go (below /root, say).
SHARED = Path("/var/lib/cloudpods-embedded")
# A Unix socket's path may have 107 bytes; the servers add a file name of up to 16.
_LONGEST_SOCKET_DIR = 90


@dataclass(frozen=True)
class Account:
    """Who runs the servers, and the folder they may use. `uid` is None for "as we are"."""

    home: Path
    uid: int | None
    gid: int | None

    def own(self, path: Path) -> None:
        """Make a folder of the servers' own, mode 0700. Raises SettingsError for one that somebody else put there."""
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (os.geteuid(), self.uid):
            raise SettingsError(f"{path} belongs to somebody else; remove it or choose another state folder")
        path.chmod(0o700)
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)

    def reachable(self, path: Path) -> bool:
        """Return whether this account may go into every folder on the way to `path` and read it."""
        if self.uid is None:
            return True
        return all(_open_to_all(folder) for folder in (path, *path.parents))

    def bring(self, source: Path, name: str) -> Path:
        """Return `source`, or a copy of it below our home when this account cannot reach it."""
        if self.reachable(source):
            return source
        copy = self.home / name
        if not copy.exists():
            unfinished = copy.with_name(copy.name + ".part")
            shutil.rmtree(unfinished, ignore_errors=True)
            shutil.copytree(source, unfinished, symlinks=True, ignore=shutil.ignore_patterns("include", "__pycache__"))
            unfinished.rename(copy)
        return copy


def choose(state_dir: Path) -> Account:
    """Return the account for a state folder, its home made."""
    if os.geteuid() != 0:
        account = Account(state_dir / "embedded", None, None)
        account.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        return account
    user = pwd.getpwnam(UNPRIVILEGED)
    state_dir.mkdir(parents=True, exist_ok=True)
    inside = Account(state_dir / "embedded", user.pw_uid, user.pw_gid)
    if inside.reachable(state_dir.resolve()):
        account = inside
    else:
        name = hashlib.sha256(str(state_dir.resolve()).encode()).hexdigest()[:12]
        account = Account(SHARED / name, user.pw_uid, user.pw_gid)
    account.home.mkdir(parents=True, exist_ok=True)
    account.home.chmod(0o711)
    return account


def short(directory: Path, account: Account) -> Path:
    """Return a folder for a socket: `directory`, or one below /tmp when its path is longer than a socket's may be."""
    if len(str(directory)) <= _LONGEST_SOCKET_DIR:
        return directory
    owner = account.uid if account.uid is not None else os.getuid()
    return Path("/tmp") / f"cloudpods-{owner}-{zlib.crc32(str(directory).encode()):08x}"


def _open_to_all(folder: Path) -> bool:
    return bool(folder.stat().st_mode & 0o001)
