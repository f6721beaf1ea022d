"""The frame all of Proxmox's commands share: find the subcommand, read its options, run it, turn a failure into rc."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .errors import Interrupted, PveError, RequestError
from .lab import Lab
from .options import Option, Parser
from .switches import Switches


class Command:
    """A subcommand: `run(call)` does it."""

    __slots__ = ("indexed", "options", "positional", "run")

    def __init__(
        self,
        run: Callable[[Call], int | None],
        positional: tuple[str, ...] = (),
        options: dict[str, Option] | None = None,
        indexed: bool = False,
    ) -> None:
        self.run = run
        self.positional = positional
        self.options = options or {}
        self.indexed = indexed  # whether net0, mp0 and so on belong to its options


class Call:
    """One call of a subcommand: the lab, its parameters, and its switches."""

    __slots__ = ("argv", "lab", "parameters", "switches")

    def __init__(self, lab: Lab, parameters: dict[str, str], switches: Switches, argv: list[str]) -> None:
        self.lab = lab
        self.parameters = parameters
        self.switches = switches
        self.argv = argv

    @property
    def vmid(self) -> int:
        """Return the container the call is about."""
        return int(self.parameters["vmid"])

    def flag(self, name: str, default: bool = False) -> bool:
        """Return a boolean parameter."""
        return self.parameters.get(name, "1" if default else "0") == "1"


def run(program: str, commands: dict[str, Command], root: str, argv: list[str]) -> int:
    """Run a program that has subcommands; return its exit code."""
    if not argv or argv[0] not in commands:
        return _no_such_command(program, commands, argv)
    usage = f"{program} {argv[0]}"
    return run_command(usage, commands[argv[0]], root, argv[1:])


def run_command(usage: str, command: Command, root: str, argv: list[str]) -> int:
    """Run one command; return its exit code, messages written."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, _interrupt)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `pct list | head -1` ends silently, as a Perl program does
    try:
        return _called(usage, command, Lab(root), _decoded(argv))
    except RequestError as error:
        sys.stdout.flush()
        sys.stderr.write(f"{error.message}\n{usage_line(usage, command)}\n")
        return error.rc
    except PveError as error:
        sys.stdout.flush()
        sys.stderr.write(f"{error.message}\n")
        return error.rc
    except OSError as error:  # a full disk, a missing right: a message, as from the real command, and no traceback
        sys.stderr.write(f"{error}\n")
        return 255


def _called(usage: str, command: Command, lab: Lab, argv: list[str]) -> int:
    """Read the command line, obey the switches, do the work; return the exit code."""
    switches = Switches(lab, usage)
    switches.check_root()
    parameters = Parser(command.positional, _with_positional(command), command.indexed).parse(argv)
    switches.begin(_subject(parameters))
    result = command.run(Call(lab, parameters, switches, argv))
    sys.stdout.flush()
    return result or 0


def _decoded(argv: list[str]) -> list[str]:
    """Return the arguments as Perl's `decode('locale', …)` takes them: in the C locale nothing but ASCII survives."""
    locale = os.environ.get("LC_ALL") or os.environ.get("LC_CTYPE") or os.environ.get("LANG") or "C"
    if locale not in ("C", "POSIX"):
        return argv
    return [os.fsencode(word).decode("ascii", "replace") for word in argv]


def _subject(parameters: dict[str, str]) -> int | None:
    """Return the container a call is about: its vmid, or the first that vzdump was given."""
    word = parameters.get("vmid") or parameters.get("extra-args", "").partition("\0")[0]
    return int(word) if word.isdigit() else None


def _with_positional(command: Command) -> dict[str, Option]:
    """Return a command's options and its positional parameters, which Proxmox verifies alike."""
    from .options import SNAPNAME, VMID

    known = {"vmid": VMID, "newid": VMID, "snapname": SNAPNAME}
    return {**{name: known[name] for name in command.positional if name in known}, **command.options}


def usage_line(usage: str, command: Command) -> str:
    """Return the line that follows a parameter error."""
    words = [usage, *(f"<{name}>" for name in command.positional)]
    return " ".join([*words, "[OPTIONS]"] if command.options else words)


def _no_such_command(program: str, commands: dict[str, Command], argv: list[str]) -> int:
    """Say which commands there are; return the exit code."""
    error = f"unknown command '{program} {argv[0]}'" if argv else "no command specified"
    listed = "".join(f"       {usage_line(f'{program} {name}', commands[name])}\n" for name in sorted(commands))
    sys.stderr.write(f"ERROR: {error}\nUSAGE: {program} <COMMAND> [ARGS] [OPTIONS]\n\n{listed}")
    return 255


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Put signals off while something is done that must be complete before it can be undone."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)


def _interrupt(_number: int, _frame: object) -> None:
    """End the command as Proxmox's worker ends at a signal: once, so that the clean-up is not itself interrupted."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    raise Interrupted("received interrupt")
