"""Prints what this node knows about its pods as JSON: ``python3 -I report info|health [<vmid>…]``, no vmid means all.

``report node`` prints what the node itself has.

``report memory <vmid>`` prints how many bytes of memory a container's processes hold, nothing where that cannot be seen.

``report host-key <vmid>`` prints the SSH host key that a guest says it has.

Where things are comes in the environment, from settings.bash by way of the script.
"""

from __future__ import annotations

import json
import os
import sys

import guest
import hardware
import health
import info
from backups import StorageUnreadable
from cgroup import Cgroup
from node import Node, OutsidePool

EX_UNAVAILABLE = 69
EX_NOPERM = 77


def main() -> int:
    """Return the exit code."""
    kind, vmids = sys.argv[1], sorted({int(vmid) for vmid in sys.argv[2:]})
    if kind == "host-key":
        print(guest.host_key(vmids[0]))
        return 0
    if kind == "memory":
        usage = Cgroup(os.environ["CGROUP_DIR"], vmids[0]).usage()
        print("" if usage.memory is None else usage.memory)
        return 0
    node = Node(os.environ)
    try:
        document = (
            hardware.document(node) if kind == "node" else {"info": info, "health": health}[kind].document(node, vmids or None)
        )
    except OutsidePool as exc:
        return explain(exc, EX_NOPERM)
    except StorageUnreadable as exc:
        return explain(exc, EX_UNAVAILABLE)
    json.dump(document, sys.stdout)
    print()
    return 0


def explain(problem: Exception, code: int) -> int:
    """Print a failure's last lines; return the exit code."""
    print(f"Error    : {problem}\nRetryable: no\nLeft     : nothing", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
