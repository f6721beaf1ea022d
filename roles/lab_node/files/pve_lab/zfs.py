"""zfs: the one form of `zfs get` that the node scripts use, answered from the storages' volumes."""

from __future__ import annotations

import os
import sys

from . import storage
from .errors import PveError
from .lab import Lab
from .switches import Switches

GET = ["get", "-Hp", "-o", "name,property,value", "-t", "filesystem", "-d", "1", "referenced,refquota"]


def main(root: str, argv: list[str]) -> int:
    """Print the figures of a pool's volumes, a line for each property; return the exit code."""
    lab = Lab(root)
    if argv[: len(GET)] != GET:
        sys.stderr.write(f"the lab node emulates no 'zfs {' '.join(argv)}'\n")
        return 2
    switches = Switches(lab, "zfs get")
    try:
        switches.begin()
        switches.middle()
    except PveError as error:
        sys.stderr.write(f"{error.message}\n")
        return error.rc
    return max([_print_pool(lab, name) for name in argv[len(GET) :]], default=0)


def _print_pool(lab: Lab, name: str) -> int:
    """Print what is in one pool; return 1 when there is none of that name."""
    pools = [each for each in storage.storages(lab).values() if each.kind == "zfspool" and each.settings.get("pool") == name]
    if not pools or not pools[0].active:
        sys.stderr.write(f"cannot open '{name}': dataset does not exist\n")
        return 1
    lines = [f"{name}\treferenced\t98304\n{name}\trefquota\t0\n"]
    for volume, path, _vmid in pools[0].subvolume_paths():
        dataset = os.path.join(name, volume)
        used = lab.backend.used_bytes(path)
        lines.append(f"{dataset}\treferenced\t{used}\n{dataset}\trefquota\t{storage.refquota(path)}\n")
    sys.stdout.write("".join(lines))
    return 0
