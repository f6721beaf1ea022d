"""Asking inside running containers: how systemd is, many side by side, and for the host key. None is waited for too long.

A guest is a stranger. What runs inside has no descriptor of ours but /dev/null and a pipe whose other end we close, and
no more is read than is needed.
"""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
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
END_S, POLL_S = 1.0, 0.005
KEY_FILE, KEY_TIMEOUT_S = "/etc/ssh/ssh_host_ed25519_key.pub", 4.0
KEY = re.compile(r"(ssh-ed25519 [A-Za-z0-9+/]{20,200}=*)( .*)?")
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
        answer, rc = run(vmid, ["systemctl", "is-system-running"], timeout_s, stderr=subprocess.STDOUT)
    except subprocess.TimeoutExpired:
        return HUNG
    except OSError:
        return None
    return state_of(answer, rc)


def host_key(vmid: int) -> str:
    """Return a guest's SSH host key, type and base64; empty when it has none or does not answer in time."""
    # A signal must end what was started inside too.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    try:
        # What pct says of a guest without a key is of no interest.
        answer, rc = run(vmid, ["cat", KEY_FILE], KEY_TIMEOUT_S, stderr=subprocess.DEVNULL)
    except (subprocess.TimeoutExpired, OSError):
        return ""
    found = KEY.fullmatch(answer.partition("\n")[0])
    return found[1] if found and rc == 0 else ""


def run(vmid: int, argv: list[str], timeout_s: float, stderr: int) -> tuple[str, int]:
    """Run a command inside a guest; return what it printed and its rc, or raise TimeoutExpired or OSError."""
    # A session of its own, so that everything pct starts can be ended with it. Popen closes all other descriptors.
    process = subprocess.Popen(
        ["pct", "exec", str(vmid), "--", *argv],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, close_fds=True, start_new_session=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + timeout_s
        answer = _answer(process, deadline)
        _await_end(process, deadline)
    finally:
        _end(process)
    return answer, process.returncode


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


def _await_end(process: subprocess.Popen[bytes], deadline: float) -> None:
    """Wait for its end without taking its exit code: until that is taken its number, and its group's, is nobody else's."""
    while not os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG):
        if time.monotonic() > deadline:
            raise subprocess.TimeoutExpired(process.args, 0)
        time.sleep(POLL_S)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End its group, also what it left behind in there. What a frozen guest keeps from dying is not waited for."""
    assert process.stdout is not None
    process.stdout.close()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(END_S)
