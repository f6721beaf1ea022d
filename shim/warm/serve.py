"""The warm process: `python serve.py <socket's descriptor> <ansible-playbook> <folder of packed modules> <worker's pid>`.

It does one thing at a time and holds nothing of any run. It ends by itself when it has become old or big; whoever keeps it
(`keeper.py`) starts another.
"""

import contextlib
import gc
import json
import os
import selectors
import signal
import socket
import struct
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shim.warm import become, guard, preload, same
from shim.warm.guard import say

# A request is some kilobytes: arguments and environment.
_MOST_BYTES = 4 << 20
_REQUEST_S = 5.0
# It is some 80 MB when it is loaded; runs cost it nothing.
_MOST_MB = 300
# One that cannot be packed here is packed by each run, as without this.
_TRIES = 3
# Packing a module takes a second, and trying a run less.
_PACK_S, _TRIAL_S = 60, 30
# A host that has no room for another connection or process has some a little later.
_PAUSE_S = 0.5
# The kernel tells when the worker dies, but who hears of it while Ansible is loaded may not end by it.
_LOOK_S = 5.0
# An argument that says: loaded again, since what is read while loading had changed.
_SECOND = "second"
# What a fork says that found this process old; names of modules have no such sign.
_OLD = b"!\n"


class Changed(Exception):
    """What was read while Ansible was loaded has changed meanwhile: nobody knows which of it was read."""


class Server:
    """Takes runs on a socket and forks a guard for each."""

    def __init__(self, listener: socket.socket, program: str, modules: Path, worker: int) -> None:
        self._listener = listener
        self._modules = modules
        self._worker = worker
        self._directory = str(Path.cwd())
        self._alone = preload.read_when_loading()
        before = same.files((), self._alone)
        environment = dict(os.environ)
        self._loaded = preload.Loaded(program)
        self._settings = same.settings(environment, self._loaded.known)
        self._files = self._stamps()
        if before.items() - self._files.items():
            raise Changed
        self._wanted, self._want = os.pipe()
        self._packing = 0
        self._tries: Counter[str] = Counter()
        self._to_pack: list[str] = []
        self._over = False
        self._try_out()

    def _stamps(self) -> dict[str, tuple[int, int, int]]:
        return same.files(self._loaded.watched(), self._alone)

    def _try_out(self) -> None:
        """Have a fork become a run that does nothing: what this Ansible lacks is found here, and not by runs."""
        pid = _forked()
        if pid == 0:
            code, told = 1, os.dup(2)
            try:
                become.renew_signals()
                signal.alarm(_TRIAL_S)
                code = self._trial()
            except BaseException:
                os.write(told, traceback.format_exc().encode("utf-8", "replace"))
            finally:
                become.finish()
                os._exit(code)
        if status := os.waitpid(pid, 0)[1]:
            raise preload.Unfit(f"a run on trial ended with {os.waitstatus_to_exitcode(status)}")

    def _trial(self) -> int:
        request = {
            "argv": [sys.argv[0], "--version"],
            "environment": dict(os.environ),
            "directory": self._directory,
            "umask": 0o077,
            "ignored": [],
            "blocked": [],
            "terminal": False,
        }
        nowhere = [os.open(os.devnull, os.O_RDWR) for _ in range(3)]
        code = become.prepare(self._loaded, request, nowhere, self._modules, self._want)()
        preload.try_plugins()
        return code

    def serve(self) -> None:
        """Take runs until this process is no longer fit to, or nobody is there who has any."""
        woken, waker = os.pipe()
        for end in (woken, waker, self._wanted, self._want):
            os.set_blocking(end, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(waker)
        gc.collect()
        # What is there stays as it is, and shared with every fork: nobody need look through it for garbage.
        gc.freeze()
        with selectors.DefaultSelector() as ready:
            for each in (self._listener, self._wanted, woken):
                ready.register(each, selectors.EVENT_READ)
            while not self._over and os.getppid() == self._worker:
                for key, _ in ready.select(_LOOK_S):
                    if key.fileobj is self._listener:
                        self._take()
                    else:
                        self._read(key.fd)
                self._collect()

    def _take(self) -> None:
        """Fork who takes the run: nothing of it is ever in this process's memory."""
        try:
            stand_in, _ = self._listener.accept()
            with stand_in:
                if _forked() == 0:
                    self._guard(stand_in)
        except OSError as error:
            # The stand-in finds its connection closed, or is not taken for too long, and becomes the plain command.
            say(f"{error}")
            time.sleep(_PAUSE_S)

    def _guard(self, stand_in: socket.socket) -> None:
        """Take the run and look after it, in a fork of its own."""
        try:
            become.renew_signals(ignored=(signal.SIGINT,))
            self._listener.close()
            os.close(self._wanted)
            stand_in.settimeout(_REQUEST_S)
            stand_in.sendall(b"hello\n")
            request, descriptors = _received(stand_in)
            if reason := self._why_not(request):
                stand_in.sendall(f"{reason}\n".encode())
                return
            become.show(request["environment"], request["argv"])

            def prepare() -> Callable[[], int]:
                stand_in.close()
                return become.prepare(self._loaded, request, descriptors, self._modules, self._want)

            def forget() -> None:
                for each in descriptors:
                    os.close(each)

            guard.look_after(stand_in, prepare, forget)
        except (OSError, ValueError, KeyError, struct.error) as error:
            # Before the run began: the stand-in becomes the plain command. After: it ends as if killed.
            say(f"{error}")
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)

    def _why_not(self, request: dict[str, Any]) -> str | None:
        """Return why the run cannot be forked from here, in a word; None when it can. Tell the warm process when it is old."""
        asked = same.settings(request["environment"], self._loaded.known)
        if asked != self._settings:
            names = {name for name, _ in asked.items() ^ self._settings.items()}
            say(f"a run with other settings is started by the plain command: {', '.join(sorted(names))}")
            return "settings"
        old = "changed" if self._stamps() != self._files else "big" if _own_mb() > _MOST_MB else None
        if old:
            os.write(self._want, _OLD)
        elif request["directory"] != self._directory:
            # Paths in the configuration and the environment may be relative to it.
            say(f"a run in another folder is started by the plain command: {request['directory']}")
            return "settings"
        return old

    def _read(self, descriptor: int) -> None:
        """Read what forks tell: the names of modules to be packed, or that this process is old."""
        with contextlib.suppress(BlockingIOError):
            said = os.read(descriptor, 65536)
            if descriptor == self._wanted:
                self._over = self._over or _OLD in said
                names = {name for name in said.decode("ascii", "replace").split() if preload.PACKED.fullmatch(name)}
                self._to_pack += sorted(name for name in names if name not in self._to_pack and self._tries[name] < _TRIES)

    def _collect(self) -> None:
        """Take note of what has ended, and pack what was asked for, one after the other."""
        with contextlib.suppress(ChildProcessError):
            while pid := os.waitpid(-1, os.WNOHANG)[0]:
                if pid == self._packing:
                    self._packing = 0
        if not self._packing and self._to_pack:
            name = self._to_pack.pop()
            self._tries[name] += 1
            try:
                self._packing = _forked()
            except OSError as error:
                say(f"cannot pack {name}: {error}")
                return
            if self._packing == 0:
                self._pack(name)

    def _pack(self, name: str) -> None:
        code = 1
        try:
            become.renew_signals()
            # It ends by this where it hangs.
            signal.alarm(_PACK_S)
            self._listener.close()
            preload.pack(self._loaded, name, self._modules)
            code = 0
        except Exception as error:
            # Runs pack it themselves then, as they do by the plain command; or it has no bytecode.
            say(f"cannot pack {name}: {error}")
        finally:
            become.finish()
            os._exit(code)


def _received(stand_in: socket.socket) -> tuple[dict[str, Any], list[int]]:
    head, descriptors, _, _ = socket.recv_fds(stand_in, 4, 3, socket.MSG_CMSG_CLOEXEC)
    try:
        (size,) = struct.unpack("!I", head)
        if len(descriptors) != 3 or size > _MOST_BYTES:
            raise ValueError("not a request")
        message = bytearray()
        while len(message) < size:
            piece = stand_in.recv(size - len(message))
            if not piece:
                raise ValueError("cut short")
            message += piece
        request = json.loads(message)
        for name in ("argv", "environment", "directory", "umask", "ignored", "blocked", "terminal"):
            request[name]
        return request, descriptors
    except BaseException:
        for each in descriptors:
            os.close(each)
        raise


def _forked() -> int:
    """Fork with all signals blocked: none comes to the child by this process's handlers."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    pid = None
    try:
        pid = os.fork()
        return pid
    finally:
        if pid != 0:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _own_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def main(descriptor: str, program: str, modules: str, worker: str, *more: str) -> None:
    """Load Ansible and take runs."""
    # Whoever started the worker may have had signals blocked; this one is woken by them.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Ends as any Python process, which removes its temporary folder.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    environment = dict(os.environ)
    listener = socket.socket(fileno=int(descriptor))
    listener.setblocking(True)
    listener.set_inheritable(False)
    try:
        Server(listener, program, Path(modules), int(worker)).serve()
    except preload.Unfit as error:
        say(f"this ansible-core cannot be started warm: {error}")
        sys.exit(3)
    except Changed:
        if _SECOND in more:
            say("what Ansible is loaded from changes all the time")
            sys.exit(4)
        become.finish()
        listener.set_inheritable(True)
        os.execve(sys.executable, [*sys.orig_argv, _SECOND], environment)  # noqa: S606 - this very program


if __name__ == "__main__":
    main(*sys.argv[1:])
