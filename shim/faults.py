"""What a tenant's users read of a failure: what concerns their pod, but nothing of how the house is built or entered."""

import re
from typing import Any

TOLD = "the cloud could not do this; whoever runs it finds the cause by the job's id"
CODE = "infrastructure_fault"

# ssh and its keys, programs and files of ours or of the node's, and what runs them.
_INSIDE = re.compile(
    r"cannot reach node|\bssh\b|\bhost key\b|\bplaybook|\binventory\b|ansible|\bworker\b|the run was ended|Traceback"
    r"|Permission denied|No such file|command not found|\brc=?\s?\d|\.(?:sh|py|yml)\b|(?<![\w/])/[\w.-]+/[\w./-]+",
    re.IGNORECASE,
)
_KEPT = ("msg", "retryable", "left_behind")


def text(said: str | None) -> str | None:
    """Return what a tenant's user reads of these words."""
    return TOLD if said is not None and _INSIDE.search(said) else said


def left(said: str) -> str:
    """Return the same of what is left of a pod."""
    return "unknown" if _INSIDE.search(said) else said


def message(said: str) -> str:
    """Return the same of an event's message: what failed stays."""
    return f"{said.split(':', 1)[0]}: {TOLD}" if _INSIDE.search(said) else said


def failure(found: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return what a tenant's user reads of a failure; never what a program printed."""
    if found is None:
        return None
    told = {name: found[name] for name in _KEPT if name in found}
    told["msg"] = text(str(found.get("msg", "")))
    if "left_behind" in told:
        told["left_behind"] = left(str(told["left_behind"]))
    return {**told, "code": CODE} if told["msg"] == TOLD else told
