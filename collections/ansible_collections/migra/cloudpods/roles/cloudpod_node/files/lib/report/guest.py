"""What systemd inside running containers says of itself, many asked side by side, none of them waited for too long."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

STATES = frozenset({"initializing", "starting", "running", "degraded", "maintenance", "stopping"})
HUNG, NO_SYSTEMD = "hung", "no systemd"
WORKERS = 16
# For all together: below the time that the module gives the script. Those that were not reached are not told of.
BUDGET_S = 240
# A guest may print what it likes; the answer is one word.
ANSWER_BYTES = 4096
END_S = 1.0
NO_PROGRAM = re.compile(r"no such file|not found|failed to exec", re.IGNORECASE)


def states(vmids: Iterable[int], timeout_s: int, budget_s: float = BUDGET_S) -> dict[int, str | None]:
    """Return each guest's state; None for one that could not be asked."""
    deadline = time.monotonic() + budget_s

    def state(vmid: int) -> str | None:
        return ask(vmid, timeout_s) if time.monotonic() + timeout_s <= deadline else None

    wanted = list(vmids)
    with ThreadPoolExecutor(WORKERS) as workers:
        return dict(zip(wanted, workers.map(state, wanted)))


def ask(vmid: int, timeout_s: float) -> str | None:
    """Return one guest's state."""
    try:
        # A session of its own, so that everything pct starts can be ended with it.
        process = subprocess.Popen(
            ["pct", "exec", str(vmid), "--", "systemctl", "is-system-running"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    except OSError:
        return None
    try:
        deadline = time.monotonic() + timeout_s
        answer = _answer(process, deadline)
        rc = process.wait(max(deadline - time.monotonic(), 0))
    except subprocess.TimeoutExpired:
        return HUNG
    finally:
        _end(process)
    return state_of(answer, rc)


def state_of(answer: str, rc: int) -> str | None:
    """Given what ``pct exec … systemctl is-system-running`` printed and its rc, return the state."""
    words = {line.strip() for line in answer.splitlines()}
    found = sorted(words & STATES)
    if found:
        return found[0]
    # Without systemd as its first process a guest is "offline"; without the program lxc-attach says so.
    if "offline" in words or rc in (126, 127) or NO_PROGRAM.search(answer):
        return NO_SYSTEMD
    return None


def _answer(process: subprocess.Popen[bytes], deadline: float) -> str:
    """Return what it prints until its end; raise TimeoutExpired when that does not come. No more than is needed is read."""
    assert process.stdout is not None
    fd, answer = process.stdout.fileno(), b""
    while len(answer) < ANSWER_BYTES:
        left_s = deadline - time.monotonic()
        if left_s <= 0 or not select.select([fd], [], [], left_s)[0]:
            raise subprocess.TimeoutExpired(process.args, left_s)
        part = os.read(fd, ANSWER_BYTES)
        if not part:
            break
        answer += part
    return answer.decode("utf-8", "replace")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End its group unless it has ended. What a frozen guest keeps from dying is not waited for."""
    assert process.stdout is not None
    process.stdout.close()
    if process.poll() is not None:
        return
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(END_S)
