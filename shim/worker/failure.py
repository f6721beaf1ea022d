"""What a run's failure says: msg (what failed, on which node, what to do), retryable, left_behind.

ssh says only in words why a node cannot be reached. Those of its hand-shake come before any command is run on the node, so
nothing was begun there. Of a connection that was lost later only a look at the node tells what it left.

| ssh says | waiting helps | left behind |
|---|---|---|
| the host key is another, or unknown | no | nothing |
| no key of ours is taken | no | nothing |
| the name is unknown; refused, no route or timed out while connecting | yes | nothing |
| anything else | yes | unknown |
"""

from dataclasses import dataclass
from typing import Any

# What a run left on the node: a look tells, or certainly nothing.
UNKNOWN, NOTHING = "unknown", "nothing"


# Of a failed task's result, what the job keeps beside these.
KEPT = ("rc", "stderr", "busy", "differences", "parameters", "passed", "taken")


@dataclass(frozen=True)
class _Cause:
    """Words of ssh's, whether the same run may succeed later, what it left, and what to do."""

    words: tuple[str, ...]
    retryable: bool
    left_behind: str
    advice: str


_CAUSES = (
    _Cause(
        ("REMOTE HOST IDENTIFICATION HAS CHANGED", "Host key verification failed"),
        False,
        NOTHING,
        "its host key is not the one known for it: if the node was installed anew, make its new key known; if not,"
        " somebody may be answering in its place",
    ),
    _Cause(
        ("Permission denied (", "Too many authentication failures"),
        False,
        NOTHING,
        "it does not take our SSH key: check ansible_user and ansible_ssh_private_key_file in the inventory, and"
        " cloudpod_node_authorized_keys, which playbooks/node.yml installs",
    ),
    _Cause(
        ("ssh: connect to host", "Could not resolve hostname"),
        True,
        NOTHING,
        "check that the node is up, and ansible_host and ansible_port in the inventory",
    ),
)
_LOST = _Cause((), True, UNKNOWN, "the connection was lost; a look at the node tells what was done")


def of_task(host: str, res: dict[str, Any]) -> dict[str, Any]:
    """Given the result of a failed task, return the failure."""
    kept: dict[str, Any] = {key: res[key] for key in KEPT if key in res}
    # Our modules always say what is left. A module that died said nothing: only a look at the node tells. What fails before
    # the module's own work (the playbook's check, a mistyped argument) has a message and no exit code.
    died = "left_behind" not in res and ("rc" in res or "module_stdout" in res)
    return {
        "msg": f"node {host}: {res.get('msg') or 'the task failed without a message'}",
        "retryable": bool(res.get("retryable", died)),
        "left_behind": str(res.get("left_behind", UNKNOWN if died else NOTHING)),
        **kept,
    }


def unreachable(host: str, res: dict[str, Any]) -> dict[str, Any]:
    """Given what Ansible says of a node that it could not reach, return the failure."""
    said = str(res.get("msg") or "no reason given").strip()
    cause = next((each for each in _CAUSES if any(words in said for words in each.words)), _LOST)
    return {
        "msg": f"cannot reach node {host}: {said} ({cause.advice})",
        "retryable": cause.retryable,
        "left_behind": cause.left_behind,
    }


def stopped(reason: str) -> dict[str, Any]:
    """Return the failure of a run that was ended from outside, or by us."""
    return {"msg": f"the run was ended: {reason}", "retryable": True, "left_behind": UNKNOWN, "stopped": True}
