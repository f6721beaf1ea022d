"""A node's word on a pod's health, judged by what was ordered of the pod.

| the container | the last order | verdict |
|---|---|---|
| stopped | a stop or shutdown | the node's, without its complaint that the pod is stopped |
| stopped | anything else | critical, also where it is not set to start at boot |
| anything else, or busy with a script | | the node's |
"""

from typing import Any

from shim.errors import CloudPodsError

VERDICTS = ("ok", "warning", "critical")
MISSING: dict[str, Any] = {"exists": False, "verdict": "critical", "reasons": ["no such container"]}


def vmid_of(row: Any) -> int | None:
    """Return the vmid that a row of the health playbook is about, None when it does not say."""
    vmid = row.get("vmid") if isinstance(row, dict) else None
    return vmid if isinstance(vmid, int) and 100 <= vmid < 10**9 else None


def is_usable(row: Any) -> bool:
    """Return whether a row of the health playbook says of a container what it must."""
    if vmid_of(row) is None or not isinstance(row.get("status"), str | None):
        return False
    return row.get("exists") is False or (row.get("verdict") in VERDICTS and isinstance(row.get("reasons"), list | None))


def judged(row: dict[str, Any], wanted_power: str) -> dict[str, Any]:
    """Given a pod's row of the health playbook, return it with the verdict that its last order makes of it.

    Raises CloudPodsError for a row without a usable verdict.
    """
    if row.get("verdict") not in VERDICTS:
        raise CloudPodsError(f"the node says nothing usable about vmid {row.get('vmid')}", code="bad_result")
    reasons = [str(reason) for reason in row.get("reasons") or []]
    if row.get("status") != "stopped" or any(reason.startswith("busy") for reason in reasons):
        return {**row, "reasons": reasons}
    others = [reason for reason in reasons if not reason.startswith("stopped")]
    if wanted_power != "stopped":
        said = reasons if len(others) < len(reasons) else ["stopped though it was not ordered to be", *others]
        return {**row, "verdict": "critical", "reasons": said}
    if len(others) == len(reasons):
        return {**row, "reasons": reasons}
    # How bad each of the others is, the node does not say; nothing that a stopped pod has can be urgent.
    return {**row, "verdict": "warning" if others else "ok", "reasons": others}


def power_state(row: dict[str, Any]) -> str:
    """Return what a row says of whether the pod runs."""
    status = row.get("status")
    return status if status in ("running", "stopped") else "unknown"
