"""pct start, stop, shutdown, reboot, suspend, resume, unlock."""

from __future__ import annotations

import sys
from collections.abc import Callable

from .cli import Call
from .conf import Conf
from .errors import PveError
from .formats import split_properties
from .lab import Lab, check_lock

SHUTDOWN_TIMEOUT_S = 60


def start(call: Call) -> None:
    """Start a container; what was pending becomes current."""
    with call.lab.locked(call.vmid):
        conf = call.lab.load(call.vmid)
        if not call.flag("skiplock"):
            check_lock(conf, tolerated="mounted")
        if conf.main.get("template") == "1":
            raise PveError("you can't start a CT if it's a template")
        if call.lab.backend.is_running(call.vmid):
            raise PveError(f"CT {call.vmid} already running")
        bring_up(call.lab, call.vmid, conf, call.switches.middle)


def bring_up(lab: Lab, vmid: int, conf: Conf, middle: Callable[[], None] = lambda: None) -> None:
    """Start a container whose configuration was checked and whose lock is held."""
    if conf.apply_pending():
        lab.save(vmid, conf)
    for name, value in sorted(conf.main.items()):
        bridge = split_properties(value).get("bridge", "") if name.startswith("net") else ""
        if bridge and not lab.backend.has_bridge(bridge):
            sys.stderr.write(f"bridge '{bridge}' does not exist\n")
            raise PveError(f"startup for container '{vmid}' failed")
    middle()
    lab.backend.start(vmid, conf.main)


def stop(call: Call) -> None:
    """Stop a container at once."""
    _take_down(call, call.lab.backend.stop)


def shutdown(call: Call) -> None:
    """Ask a container to stop; from outside the same as a stop when the guest obeys."""
    timeout_s = int(call.parameters.get("timeout", SHUTDOWN_TIMEOUT_S))
    _take_down(call, lambda vmid: call.lab.backend.shutdown(vmid, timeout_s, call.flag("forceStop")))


def _take_down(call: Call, how: Callable[[int], None]) -> None:
    """Stop a container, if it may be stopped."""
    with call.lab.locked(call.vmid):
        if not call.lab.backend.is_running(call.vmid):
            raise PveError(f"CT {call.vmid} not running")
        if not call.flag("skiplock"):
            check_lock(call.lab.load(call.vmid), tolerated="mounted")
        call.switches.middle()
        how(call.vmid)


def reboot(call: Call) -> None:
    """Stop and start a container, which applies what is pending."""
    with call.lab.locked(call.vmid):
        if not call.lab.backend.is_running(call.vmid):
            raise PveError(f"VM {call.vmid} not running")
        conf = call.lab.load(call.vmid)
        check_lock(conf)
        timeout_s = int(call.parameters.get("timeout", SHUTDOWN_TIMEOUT_S))
        call.lab.backend.shutdown(call.vmid, timeout_s, True)
        bring_up(call.lab, call.vmid, conf, call.switches.middle)


def suspend(call: Call) -> None:
    """Freeze a container."""
    _freeze(call, True)


def resume(call: Call) -> None:
    """Thaw a container."""
    _freeze(call, False)


def _freeze(call: Call, frozen: bool) -> None:
    """Freeze or thaw a container."""
    conf = call.lab.load(call.vmid)
    if not call.lab.backend.is_running(call.vmid):
        raise PveError(f"CT {call.vmid} not running")
    check_lock(conf)
    call.lab.backend.freeze(call.vmid, frozen)


def unlock(call: Call) -> None:
    """Take Proxmox's own lock off a container."""
    with call.lab.locked(call.vmid, rc=4):
        conf = call.lab.load(call.vmid, missing_rc=2)
        if "lock" not in conf.main:
            raise PveError("no lock found trying to remove any lock")
        del conf.main["lock"]
        call.lab.save(call.vmid, conf)
