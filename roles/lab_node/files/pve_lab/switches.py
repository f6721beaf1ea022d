"""`switches.json`: how long commands take and which of them fail, for tests and benchmarks."""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import AbstractContextManager

from .errors import LeftBehind, PveError
from .files import held, read_text, write_text
from .lab import Lab

TYPE_CHECKING = False  # what type checkers know as typing.TYPE_CHECKING
if TYPE_CHECKING:
    import argparse

SLICE_S = 0.05
DEFAULTS: dict = {"root_check": False, "delay_s": {}, "fail": []}


class Switches:
    """What the switches say about one call of one command."""

    def __init__(self, lab: Lab, command: str) -> None:
        self._lab = lab
        self._command = command
        self._half: PveError | None = None

    def check_root(self) -> None:
        """Refuse callers who are not root where the switches want that, as a real node always does."""
        if read_switches(self._lab)["root_check"] and os.geteuid() != 0:
            raise PveError("please run as root")

    def begin(self, vmid: int | None = None) -> None:
        """Fail now if the switches want this command to fail before it did anything; remember a failure half-way."""
        switches = read_switches(self._lab)
        if not any(_matches(entry, self._command, vmid) for entry in switches["fail"]):
            return
        entry = self._claim(vmid)
        if not entry:
            return
        kind = LeftBehind if entry.get("keep") else PveError
        failure = kind(entry.get("message", "simulated failure"), entry.get("rc", 255))
        if entry.get("after", "before") == "before":
            raise failure
        self._half = failure

    def middle(self) -> None:
        """Take the time the switches want, then fail if they want a failure half-way."""
        delays = read_switches(self._lab)["delay_s"]
        delay_s = delays.get(self._command, delays.get("*", 0))
        if delay_s > 0:
            sys.stdout.flush()
            _take(delay_s)
        if self._half:
            raise self._half

    def _claim(self, vmid: int | None) -> dict | None:
        """Return the first entry that matches, counted down under a lock so that `times: 1` fails one call only."""
        with _locked(self._lab):
            switches = read_switches(self._lab)
            for entry in switches["fail"]:
                if _matches(entry, self._command, vmid):
                    if "times" in entry:
                        entry["times"] -= 1
                        _write(self._lab, switches)
                    return entry
        return None


def _take(delay_s: float) -> None:
    """Let time pass, in slices: a signal that arrives just before a sleep begins is only heard when it ends."""
    deadline = time.monotonic() + delay_s
    while (left_s := deadline - time.monotonic()) > 0:
        time.sleep(min(left_s, SLICE_S))


def _matches(entry: dict, command: str, vmid: int | None) -> bool:
    """Return whether a `fail` entry is meant for this call."""
    return entry.get("command") in (command, "*") and entry.get("vmid") in (None, vmid) and entry.get("times", 1) > 0


def read_switches(lab: Lab) -> dict:
    """Return the switches, defaults filled in."""
    return {**DEFAULTS, **json.loads(read_text(_path(lab), "{}"))}


def _path(lab: Lab) -> str:
    return lab.path("switches.json")


def _locked(lab: Lab) -> AbstractContextManager[None]:
    return held(lab.path("run/lock/switches.lock"))


def _write(lab: Lab, switches: dict) -> None:
    write_text(_path(lab), json.dumps(switches, indent=2) + "\n")


# -- lab-switch ----------------------------------------------------------------------------------------------------


def main(root: str, argv: list[str]) -> int:
    """Edit the switches as `lab-switch` is asked to; return the exit code."""
    lab = Lab(root)
    options = _parser().parse_args(argv)
    if options.action == "capacity":
        return _set_capacity(lab, options.storage, options.kib)
    with _locked(lab):
        switches = json.loads(json.dumps(read_switches(lab)))
        changed = _edited(switches, options)
        if changed != switches or options.action != "show":
            _write(lab, changed)
    if options.action == "show":
        print(json.dumps(changed, indent=2))
    return 0


def _set_capacity(lab: Lab, storage: str, kib: int) -> int:
    """Give a storage another size, in the lab's settings; return the exit code."""
    path = lab.path("lab.json")
    with _locked(lab):
        settings = json.loads(read_text(path))
        settings["capacity_kib"][storage] = kib
        write_text(path, json.dumps(settings, indent=2) + "\n")
    return 0


def _edited(switches: dict, options: argparse.Namespace) -> dict:
    """Return the switches as they are after one lab-switch command."""
    if options.action == "reset":
        return DEFAULTS
    if options.action == "delay":
        return {**switches, "delay_s": {**switches["delay_s"], options.command: options.seconds}}
    if options.action == "root-check":
        return {**switches, "root_check": options.state == "on"}
    if options.action == "fail":
        return {**switches, "fail": [*switches["fail"], _entry(options)]}
    return switches


def _entry(options: argparse.Namespace) -> dict:
    """Return the `fail` entry that lab-switch's options describe."""
    entry = {
        "command": options.command,
        "message": options.message,
        "rc": options.rc,
        "after": "half" if options.half else "before",
    }
    optional = {"vmid": options.vmid, "times": options.times, "keep": options.keep or None}
    return {**entry, **{key: value for key, value in optional.items() if value is not None}}


def _parser() -> argparse.ArgumentParser:
    """Return the parser of lab-switch's arguments."""
    import argparse

    parser = argparse.ArgumentParser(prog="lab-switch", description="Make the lab's commands slow or fail.")
    actions = parser.add_subparsers(dest="action", required=True)
    delay = actions.add_parser("delay", help='how long a command takes, e.g. delay "pct create" 0.5')
    delay.add_argument("command", help='"<program> <subcommand>", or "*"')
    delay.add_argument("seconds", type=float)
    fail = actions.add_parser("fail", help='make a command fail, e.g. fail "pct start" --times 1')
    fail.add_argument("command", help='"<program> <subcommand>", or "*"')
    fail.add_argument("--vmid", type=int, help="only for this container")
    fail.add_argument("--message", default="simulated failure")
    fail.add_argument("--rc", type=int, default=255)
    fail.add_argument("--times", type=int, help="how often; without it, always")
    fail.add_argument("--half", action="store_true", help="in the middle of its work instead of before")
    fail.add_argument("--keep", action="store_true", help="with --half: leave half-made things in place")
    check = actions.add_parser("root-check", help="refuse callers who are not root, as a real node does")
    check.add_argument("state", choices=("on", "off"))
    capacity = actions.add_parser("capacity", help="give a storage another size, e.g. capacity clients-main 1000000")
    capacity.add_argument("storage")
    capacity.add_argument("kib", type=int)
    actions.add_parser("reset", help="no delays, no failures")
    actions.add_parser("show", help="print the switches")
    return parser
