"""Where runs find the SSH connections that earlier runs have left open: one folder for each state of the inventory."""

import contextlib
import hashlib
from pathlib import Path

from shim.warm import same

# A socket's path may have 107 bytes; ssh adds a name of up to 40 while it opens one.
_LONGEST = 60
# Where OpenSSH looks for hosts' keys unless an inventory says where, or names the keys itself.
_KNOWN_HOSTS = ("~/.ssh/known_hosts", "/etc/ssh/ssh_known_hosts")


def directory(state_dir: Path, inventory: Path) -> Path:
    """Return the folder of connections that were opened with the inventory and the known hosts as they are now.

    After a change of either (a node removed, its address or its host key another) runs look in another folder: nobody goes
    on over a connection that was verified by what held before. Such a one closes a minute after its last run (ControlPersist
    in ansible.cfg). What an executable inventory says is not known here: such a one is changed by touching it.
    """
    watched = [inventory, *(inventory.parent / name for name in ("group_vars", "host_vars"))]
    files = same.files([*watched, *(Path(name).expanduser() for name in _KNOWN_HOSTS)])
    state = hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest()[:8]
    parent = state_dir / "cp"
    if len(str(parent / state)) > _LONGEST:
        parent = Path.home() / ".ansible" / "cp"
    current = parent / state
    if not current.is_dir():
        current.mkdir(parents=True, exist_ok=True, mode=0o700)
        _remove_unused(parent, current)
    return current


def _remove_unused(parent: Path, current: Path) -> None:
    for each in parent.iterdir():
        # One with sockets is still in use, and goes at a later change.
        with contextlib.suppress(OSError):
            if each != current:
                each.rmdir()
