"""cloudpod-info.sh --node: what the node itself has for pods."""

from __future__ import annotations

import os
import re

from backups import ask
from node import Node, read_text

KIB_PER_MB, KIB_PER_GB = 1024, 1024 * 1024
MEMORY = re.compile(r"^MemTotal:\s+(\d+) kB$", re.MULTILINE)
PROCESSOR = re.compile(r"^processor\s*:", re.MULTILINE)


def document(node: Node) -> dict:
    """Return the answer. It names no pods, which the modules expect in every answer."""
    return {**node.head(), "pods": [], "facts": facts(node)}


def facts(node: Node) -> dict:
    """Return cores, memory and the storages that may hold containers; ``storage`` is the one that pods get."""
    memory = MEMORY.search(read_text(os.path.join(node.proc_dir, "meminfo")))
    return {
        "cores": len(PROCESSOR.findall(read_text(os.path.join(node.proc_dir, "cpuinfo")))) or None,
        "memory_mb": int(memory[1]) // KIB_PER_MB if memory else None,
        "storage": node.storage,
        "storages": storages(ask("status", "--content", "rootdir")),
    }


def storages(lines: list[str]) -> list[dict]:
    """Given what pvesm says of the storages for containers, return a row for each that is not switched off."""
    rows = [line.split() for line in lines[1:]]
    return [
        {
            "name": row[0],
            "type": row[1],
            "active": row[2] == "active",
            "total_gb": int(row[3]) // KIB_PER_GB,
            "available_gb": int(row[5]) // KIB_PER_GB,
        }
        for row in rows
        if len(row) == 7 and row[2] in ("active", "inactive") and row[3].isdecimal() and row[5].isdecimal()
    ]
