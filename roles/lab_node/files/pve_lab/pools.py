"""Resource pools, kept in `/etc/pve/user.cfg` as `pool:<name>:<comment>:<vmids>:<storages>:`."""

from __future__ import annotations

from collections.abc import Callable

from .files import held, read_text, write_text
from .lab import Lab

# Given a pool's name and its vmids, return the vmids it is to have.
NewMembers = Callable[[str, set[int]], set[int]]


def pool_exists(lab: Lab, pool: str) -> bool:
    """Return whether the node knows this pool."""
    return any(fields[1] == pool for fields in _pools(lab))


def members(lab: Lab, pool: str) -> set[int]:
    """Return the vmids in a pool."""
    return {int(vmid) for fields in _pools(lab) if fields[1] == pool for vmid in fields[3].split(",") if vmid}


def join(lab: Lab, pool: str, *joining: int) -> None:
    """Put containers into a pool."""
    _change(lab, lambda name, vmids: vmids | set(joining) if name == pool else vmids)


def leave(lab: Lab, vmid: int) -> None:
    """Take a container out of whatever pool it is in."""
    _change(lab, lambda _name, vmids: vmids - {vmid})


def _path(lab: Lab) -> str:
    return lab.path("etc/pve/user.cfg")


def _pools(lab: Lab) -> list[list[str]]:
    """Return the colon-separated fields of each pool line."""
    lines = read_text(_path(lab)).splitlines()
    return [f"{line}:::::".split(":") for line in lines if line.startswith("pool:")]


def _change(lab: Lab, new_members: NewMembers) -> None:
    """Rewrite the pool lines whose members change, under the lab's lock on that file."""
    with held(lab.path("run/lock/user.cfg.lock")):
        before = read_text(_path(lab))
        after = "".join(_rewritten(line, new_members) for line in before.splitlines(keepends=True))
        if after != before:
            write_text(_path(lab), after)


def _rewritten(line: str, new_members: NewMembers) -> str:
    """Return a line of user.cfg with a pool's members replaced by what `new_members(name, vmids)` returns."""
    fields = line.rstrip("\n").split(":")
    if fields[0] != "pool" or len(fields) < 4:
        return line
    vmids = new_members(fields[1], {int(vmid) for vmid in fields[3].split(",") if vmid})
    fields[3] = ",".join(str(vmid) for vmid in sorted(vmids))
    return ":".join(fields) + "\n"
