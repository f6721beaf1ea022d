"""How a fork of the warm process becomes an ansible-playbook as if it had been started anew."""

import atexit
import contextlib
import ctypes
import fcntl
import importlib
import io
import logging
import os
import random
import re
import secrets
import signal
import sys
import termios
import threading
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from shim.old_run import MARK
from shim.warm import preload
from shim.warm.same import OF_A_RUN

# Of /proc/self/stat what follows the name: fields 48 to 51 say where arguments and environment stand in memory.
_ARGUMENTS, _ENVIRONMENT = slice(45, 47), slice(47, 49)
# What Python itself sets when it starts.
_PYTHONS_OWN: dict[int, Any] = {
    signal.SIGPIPE: signal.SIG_IGN,
    signal.SIGXFSZ: signal.SIG_IGN,
    signal.SIGINT: signal.default_int_handler,
}


def show(environment: dict[str, str], argv: list[str]) -> None:
    """Have others see this process as that run: its mark in /proc/<pid>/environ, its arguments in `ps`.

    Those who end a lost run find its processes by the mark, which a fork has not got by itself.
    """
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = (int(field) for field in fields[_ENVIRONMENT])
    there = ctypes.string_at(start, end - start)
    if found := re.search(rb"(?:^|\0)" + MARK.encode() + rb"=([^\0]*)\0", there):
        _write(start + found.start(1), len(found[1]), environment.get(MARK, "").encode())
    start, end = (int(field) for field in fields[_ARGUMENTS])
    _write(start, end - start - 1, "\0".join([sys.executable, *argv]).encode("utf-8", "surrogateescape"))


def _write(address: int, size: int, text: bytes) -> None:
    ctypes.memmove(address, text[:size].ljust(size, b"\0"), size)


def prepare(
    loaded: preload.Loaded, request: dict[str, Any], descriptors: list[int], modules: Path, wanted: int
) -> Callable[[], int]:
    """Become that run in this fork, in which all signals are blocked; return what then runs it, and gives its exit code.

    All that can fail is done here, where a plain command may still do the work instead. What is in `modules` is packed
    already; the descriptor `wanted` hears of what was not.
    """
    renew_signals(request["ignored"], signal.valid_signals())
    os.setsid()
    _take(descriptors)
    os.umask(request["umask"])
    os.chdir(request["directory"])
    os.environ.clear()
    os.environ.update(request["environment"])
    _renew_streams()
    _renew_ansible(loaded, request["argv"], modules, wanted)

    def main() -> None:
        # What came meanwhile comes now.
        signal.pthread_sigmask(signal.SIG_SETMASK, request["blocked"])
        loaded.cli.main(request["argv"])

    def begin() -> int:
        if request["terminal"]:
            _take_terminal()
        return _ended(main)

    return begin


def _take(descriptors: list[int]) -> None:
    for target, given in enumerate(descriptors):
        os.dup2(given, target)
        os.close(given)


def _take_terminal() -> None:
    # Where another session has it still, the run gets on without.
    with contextlib.suppress(OSError):
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _renew_streams() -> None:
    """Open stdin, stdout and stderr as Python does when it starts: what they are tied to decides how they buffer."""
    sys.stdin = sys.__stdin__ = _opened(0, "r", sys.stdin.errors)  # type: ignore[misc]
    sys.stdout = sys.__stdout__ = _opened(1, "w", sys.stdout.errors)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _opened(2, "w", "backslashreplace")  # type: ignore[misc]
    sys.stderr.reconfigure(line_buffering=True)


def _opened(number: int, mode: str, errors: str | None) -> io.TextIOWrapper:
    stream = open(number, f"{mode}b", closefd=False)  # noqa: SIM115 - as long as the process
    tied = os.isatty(number)
    return io.TextIOWrapper(stream, encoding="utf-8", errors=errors, newline="\n" if mode == "w" else None, line_buffering=tied)


def _renew_ansible(loaded: preload.Loaded, argv: list[str], modules: Path, wanted: int) -> None:
    """Do again what Ansible does when it is loaded and that is a run's own."""
    constants = loaded.constants
    sys.argv = argv
    random.seed()
    importlib.import_module("ansible.utils.vars").random_int = secrets.token_hex(4)  # type: ignore[attr-defined]
    preload.own_local_tmp(constants)
    for name, definition in constants.config.get_configuration_definitions().items():
        if any(entry["name"] in OF_A_RUN for entry in definition.get("env", ())):
            preload.renew(constants, name)
    importlib.reload(importlib.import_module("ansible.utils.color"))
    importlib.import_module("ansible.utils.display").Display()._set_column_width()
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            # Whoever rotates logs has moved the one that was opened first.
            handler.close()
    cache = Path(constants.DEFAULT_LOCAL_TMP, "ansiballz_cache")
    cache.mkdir()
    if _may_pack_otherwise(constants, argv):
        return
    for packed in modules.iterdir():
        if not packed.name.startswith("."):
            (cache / packed.name).symlink_to(packed)
    atexit.register(_ask_for, cache, wanted)


def _may_pack_otherwise(constants: Any, argv: list[str]) -> bool:
    """Return whether a role or a playbook's folder has module utilities: a module is packed with those of its run."""
    # A word of another kind may be longer than any file's name, for which pathlib raises.
    playbooks = [Path(word) for word in argv[1:] if os.path.isfile(word)]  # noqa: PTH113
    folders = {playbook.parent for playbook in playbooks}
    roles = [*map(Path, constants.DEFAULT_ROLES_PATH), *(folder / "roles" for folder in folders)]
    beside = any((folder / "module_utils").is_dir() for folder in folders)
    return beside or any(next(root.glob("*/module_utils"), None) for root in roles)


def _ask_for(cache: Path, wanted: int) -> None:
    """Name the modules that this run had to pack itself, so that the next ones need not."""
    with contextlib.suppress(OSError):
        for made in cache.iterdir():
            if not made.is_symlink() and preload.PACKED.fullmatch(made.name):
                os.write(wanted, f"{made.name}\n".encode())


def renew_signals(ignored: Iterable[int] = (), blocked: Iterable[int] = ()) -> None:
    """Dispose of signals as Python does when it starts under someone who ignores these; then block these alone."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN if number in ignored else _PYTHONS_OWN.get(number, signal.SIG_DFL))
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _ended(main: Callable[[], object]) -> int:
    """Return the exit code that the interpreter would end with, having done what it does on its way out."""
    code, interrupted = 0, False
    try:
        main()
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else int(left.code is not None)
        if isinstance(left.code, str):
            sys.stderr.write(f"{left.code}\n")
    except BaseException as error:
        traceback.print_exc()
        code, interrupted = 1, isinstance(error, KeyboardInterrupt)
    finish()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            code = code or 120  # as the interpreter says that what was printed reached nobody
    if interrupted:
        # As the interpreter ends, so that whoever waits knows that it was the signal.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    return code & 0xFF


def finish() -> None:
    """Do what is left to do at the end of a process, as at the end of any: wait for threads, remove temporary folders."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
