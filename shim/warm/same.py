"""What must be as it was when Ansible was loaded, for a run to be forked from there."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

# A run may have its own; what reads it does so in the run (`become.py`, Ansible's ssh plugin).
OF_A_RUN = frozenset({"ANSIBLE_CACHE_PLUGIN_CONNECTION", "ANSIBLE_SSH_CONTROL_PATH_DIR"})
# Read by the interpreter, by libc or by Ansible when it is loaded.
_READ_EARLY = frozenset({"HOME", "LOGNAME", "USER", "LANG", "LANGUAGE", "NO_COLOR", "PAGER", "TERM", "TZ", "COLUMNS"})
_PREFIXES = ("ANSIBLE_", "LC_", "PYTHON")


def settings(environment: Mapping[str, str], known: Iterable[str] = ()) -> dict[str, str]:
    """Return the part of an environment that must be the same; `known` are the names that Ansible reads when it is loaded."""
    early = _READ_EARLY | set(known)
    chosen = {name for name in environment if name in early or name.startswith(_PREFIXES)}
    return {name: environment[name] for name in chosen - OF_A_RUN}


def files(roots: Iterable[Path], alone: Iterable[Path] = ()) -> dict[str, tuple[int, int, int]]:
    """Return what tells whether a file was changed, by path, for these files and all that is in these folders.

    Of a folder that is to be looked at `alone`, only whether something in it was added, removed or replaced.
    """
    found: dict[str, tuple[int, int, int]] = {}
    for path in alone:
        _of_file(str(path), found)
    for root in roots:
        if root.is_dir():
            _of_folder(str(root), found)
        else:
            _of_file(str(root), found)
    return found


def _of_folder(folder: str, found: dict[str, tuple[int, int, int]], links: frozenset[int] = frozenset()) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name == "__pycache__":
                continue
            if not entry.is_dir():
                _of_file(entry.path, found)
            elif not entry.is_symlink():
                _of_folder(entry.path, found, links)
            elif (target := entry.stat().st_ino) not in links:
                # A link may lead to a folder that it stands in: once is enough.
                _of_folder(entry.path, found, links | {target})


def _of_file(path: str, found: dict[str, tuple[int, int, int]]) -> None:
    try:
        status = Path(path).stat()
        found[path] = (status.st_mtime_ns, status.st_size, status.st_ino)
    except OSError:
        # It is not there, or whoever runs here may not know.
        found[path] = (0, 0, 0)
