"""What stands on a run's PATH as ansible-playbook: has a warm process do the work, or becomes the plain command.

    stand_in.py <socket> <plain command> <folder of notes> [argument…]

Started for every run, by `python -IS`: the standard library only, and little of that. Between being told that the warm
process is ready and saying `go`, nothing has happened yet; before that the plain command may be run, after it never.
"""

import errno
import fcntl
import json
import os
import select
import signal
import socket
import struct
import sys
import termios

# Of a warm process that is still loading Ansible, on a busy machine.
READY_S = 5.0
FORWARDED = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCONT)
# Python itself ignores them.
OF_PYTHON = {signal.SIGPIPE, signal.SIGXFSZ}
GO = b"\0"


class Unready(Exception):
    """No warm process takes the run; its text is the reason, one word."""


def main(path: str, plain: str, notes: str, arguments: list[str]) -> None:
    """Run ansible-playbook with the arguments; ends this process as that ends."""
    own = os.path.dirname(os.path.abspath(path))
    searched = [each for each in os.environ.get("PATH", os.defpath).split(os.pathsep) if each != os.path.join(own, "bin")]
    os.environ["PATH"] = os.pathsep.join(searched)
    disposed = {int(number): signal.getsignal(number) for number in signal.valid_signals() - OF_PYTHON}
    ignored = [number for number, disposition in disposed.items() if disposition is signal.SIG_IGN]
    try:
        heralds = _heralds()
        warm = _ready(path, plain, arguments, ignored)
    except Unready as reason:
        _note(notes, str(reason))
        for number in OF_PYTHON:
            signal.signal(number, signal.SIG_DFL)
        os.execv(plain, [plain, *arguments])
    _end_as(_status(warm, heralds))


def _heralds() -> tuple[socket.socket, socket.socket]:
    """Return where a signal is heard of while the run is waited for, and where Python says so."""
    try:
        heard, waking = socket.socketpair()
    except OSError:
        raise Unready("broken") from None
    waking.setblocking(False)
    return heard, waking


def _ready(path: str, plain: str, arguments: list[str], ignored: list[int]) -> socket.socket:
    """Return the connection to a warm process that has the run and waits for `go`."""
    warm = socket.socket(socket.AF_UNIX)
    try:
        request = {
            "argv": [plain, *arguments],
            "environment": {os.fsdecode(name): os.fsdecode(value) for name, value in os.environb.items()},
            "directory": os.getcwd(),
            "umask": _umask(),
            "ignored": ignored,
            "blocked": [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())],
            "terminal": _leads_terminal(),
        }
        message = json.dumps(request).encode()
        warm.settimeout(READY_S)
        warm.connect(path)
        # Descriptors under way to a process that never takes them would stay open: whoever reads this run's output would wait.
        if _line(warm) != "hello":
            raise Unready("broken")
        socket.send_fds(warm, [struct.pack("!I", len(message))], [0, 1, 2])
        warm.sendall(message)
        answer = _line(warm)
    except TimeoutError:
        raise Unready("late") from None
    except (OSError, ValueError) as error:
        raise Unready("absent" if isinstance(error, OSError) and error.errno in _ABSENT else "broken") from None
    if answer != "ready":
        raise Unready(answer if answer.isascii() and answer.isalpha() else "broken")
    warm.settimeout(None)
    return warm


_ABSENT = {errno.ENOENT, errno.ECONNREFUSED}


def _line(warm: socket.socket) -> str:
    read = b""
    while not read.endswith(b"\n") and len(read) < 100:
        piece = warm.recv(1)
        if not piece:
            break
        read += piece
    return read.decode("latin-1").strip()


def _status(warm: socket.socket, heralds: tuple[socket.socket, socket.socket]) -> int:
    """Say go, pass signals on, and return the run's wait status when it has ended; that of a kill when nobody knows."""

    def forward(number: int, _: object) -> None:
        try:
            warm.send(bytes([number]))
        except OSError:
            pass  # it has ended, its status is on the way

    if _leads_terminal():
        _give_terminal_up()
    # Until here a signal ends this process, and with it what has not begun; from here on it is the run's.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
    heard, waking = heralds
    try:
        warm.sendall(GO)
        for number in FORWARDED:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, forward)
        signal.set_wakeup_fd(waking.fileno(), warn_on_full_buffer=False)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        _wait(warm, heard)
        said = _line(warm)
    except OSError:
        said = ""
    finally:
        signal.set_wakeup_fd(-1)
    return int(said) if said.isdecimal() else int(signal.SIGKILL)


def _wait(warm: socket.socket, heard: socket.socket) -> None:
    """Wait for either to have something, and return when it is `warm`.

    Python passes a signal on when it is next awake: one that comes just before it waits must not find it asleep.
    """
    either = select.poll()
    for each in (warm, heard):
        either.register(each, select.POLLIN)
    while warm.fileno() not in dict(either.poll()):
        heard.recv(4096)


def _give_terminal_up() -> None:
    """Leave the controlling terminal to the run: only a session's leader can have it, and the run leads its own."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        fcntl.ioctl(0, termios.TIOCNOTTY)
    except OSError:
        pass  # the run gets on without, as where there is none
    signal.signal(signal.SIGHUP, before)


def _leads_terminal() -> bool:
    try:
        return os.getsid(0) == os.getpid() and os.tcgetpgrp(0) > 0
    except OSError:
        return False


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _note(notes: str, reason: str) -> None:
    try:
        with open(os.path.join(notes, "plain"), "a", encoding="ascii", errors="replace") as file:
            file.write(f"{reason}\n")
    except OSError:
        pass  # the worker has gone, and with it who counts


def _end_as(status: int) -> None:
    """End as the run did: with its exit code, or by the signal that ended it."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:])
