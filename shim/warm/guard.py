"""What stands between the warm process and a run: starts it, passes signals on, and leaves nothing of it behind."""

import contextlib
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable

import psutil

from shim.process import become_subreaper, end_all, end_descendants, end_with_parent
from shim.warm.become import finish

# Between `ready` and `go` the stand-in does next to nothing.
GO_S = 30.0
# What a run leaves behind may be a node's script that cleans up.
GRACE_S = 10.0
# A run that is not to begin only removes its folder.
_UNBEGUN_S = 5.0
# As ansible-playbook ends at what it does not expect.
_FAILED = 250
_READY, _GO = b"\1", b"\0"


class _Gone(Exception):
    """The stand-in has gone."""


def look_after(stand_in: socket.socket, prepare: Callable[[], Callable[[], int]], forget: Callable[[], None]) -> None:
    """Have a fork `prepare` the run and tell the stand-in when it is ready; when that says go, see the run to its end.

    Here what the run alone is to hold (its terminal) is let go of: `forget`. Returns when nothing of the run is left.
    """
    become_subreaper()
    woken = _wake_on_children()
    run, guard = socket.socketpair()
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    pid = _forked(prepare, guard, run)
    guard.close()
    for number in (signal.SIGTERM, signal.SIGINT):
        # A worker asks all that is below it to end. First the run; then, from here, what that leaves.
        signal.signal(number, lambda number, _: _pass_on(pid, number))
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    forget()
    with run:
        begun = _begun(stand_in, run)
    if not begun:
        end_descendants(grace_s=_UNBEGUN_S)
        return
    status = None
    try:
        status = _see_to_its_end(stand_in, pid, woken)
    finally:
        if status is None:
            end_descendants(grace_s=0.0, spare_ssh_masters=True)
    if status is None:
        return
    for number in (signal.SIGTERM, signal.SIGINT):
        # The run's pid may soon be another's; and what is left is being ended already.
        signal.signal(number, signal.SIG_IGN)
    if _ended() is not None:
        _end_what_is_left(stand_in)
    stand_in.sendall(f"{status}\n".encode())


def _begun(stand_in: socket.socket, run: socket.socket) -> bool:
    """Say `ready` when the run is, and let it begin when the stand-in says go; return whether it did.

    Until then a plain command may do the work instead, whatever fails.
    """
    stand_in.settimeout(GO_S)
    run.settimeout(GO_S)
    try:
        said = run.recv(4096)
        stand_in.sendall(b"ready\n" if said == _READY else b"broken\n")
        if said == _READY and stand_in.recv(1) == _GO:
            run.sendall(_GO)
            stand_in.settimeout(None)
            return True
        trouble = "" if said == _READY else said.decode("utf-8", "replace") or "it was killed"
    except OSError as error:
        trouble = str(error)
    if trouble:
        say(f"a run could not be prepared and is started by the plain command: {trouble}")
    return False


def _end_what_is_left(stand_in: socket.socket) -> None:
    """Ask what the run has left to end, and kill it after a time; at once when nobody waits for the run any more."""
    stand_in.setblocking(False)

    def left() -> list[psutil.Process]:
        with contextlib.suppress(BlockingIOError):
            if not stand_in.recv(64):
                raise _Gone
        return psutil.Process().children(recursive=True)

    try:
        end_all(left, grace_s=GRACE_S)
    except (_Gone, ConnectionError):
        end_descendants(grace_s=0.0, spare_ssh_masters=True)
    stand_in.setblocking(True)


def say(trouble: str) -> None:
    """Tell the worker's own log: nothing is printed here but what should not be."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(f"warm Ansible: {trouble}\n")
        sys.stderr.flush()


def _wake_on_children() -> int:
    """Return a descriptor that can be read when a child has ended."""
    woken, waker = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(waker, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waker)
    return woken


def _forked(prepare: Callable[[], Callable[[], int]], guard: socket.socket, run: socket.socket) -> int:
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        code = _FAILED
        try:
            # Without its guard nobody would end what it leaves.
            end_with_parent(signal.SIGKILL)()
            run.close()
            if os.getppid() == parent:
                code = _be(prepare, guard)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return pid


def _be(prepare: Callable[[], Callable[[], int]], guard: socket.socket) -> int:
    """Prepare the run, tell its guard, and be the run when that says so; return its exit code."""
    try:
        begin = prepare()
    except BaseException:
        guard.sendall(traceback.format_exc()[-4000:].encode("utf-8", "replace"))
        finish()
        return _FAILED
    guard.sendall(_READY)
    if guard.recv(1) != _GO:
        finish()
        return _FAILED
    guard.close()
    return begin()


def _see_to_its_end(stand_in: socket.socket, pid: int, woken: int) -> int | None:
    """Pass signals on until the run has ended; return its wait status, or None when the stand-in has gone."""
    while True:
        readable, _, _ = select.select([stand_in.fileno(), woken], [], [])
        if woken in readable:
            os.read(woken, 4096)
            while (ended := _ended()) and ended[0]:
                if ended[0] == pid:
                    return ended[1]
        if stand_in.fileno() in readable:
            said = _said(stand_in)
            if not said:
                return None
            for number in said:
                _pass_on(pid, number)


def _said(stand_in: socket.socket) -> bytes:
    """Return the signals that the stand-in passes on, a byte each; nothing when it has gone."""
    try:
        return stand_in.recv(64)
    except OSError:
        return b""


def _ended() -> tuple[int, int] | None:
    """Return pid and wait status of a child that has ended, (0, 0) when none has; None when there are no children."""
    try:
        return os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None


def _pass_on(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, ValueError):
        os.kill(pid, number)
