"""pct start, stop, shutdown, reboot, suspend, resume, unlock."""

from __future__ import annotations

import sys
from collections.abc import Callable

from . import runtime
from .cli import Call
from .conf import Conf
from .errors import PveError
from .formats import split_properties
from .lab import Lab, check_lock


def start(call: Call) -> None:
    """Start a container; what was pending becomes current."""
    with call.lab.locked(call.vmid):
        conf = call.lab.load(call.vmid)
        if not call.flag("skiplock"):
            check_lock(conf, tolerated="mounted")
        if conf.main.get("template") == "1":
            raise PveError("you can't start a CT if it's a template")
        if runtime.is_running(call.lab, call.vmid):
            raise PveError(f"CT {call.vmid} already running")
        bring_up(call.lab, call.vmid, conf, call.switches.middle)


def bring_up(lab: Lab, vmid: int, conf: Conf, middle: Callable[[], None] = lambda: None) -> None:
    """Start a container whose configuration was checked and whose lock is held."""
    if conf.apply_pending():
        lab.save(vmid, conf)
    for name, value in sorted(conf.main.items()):
        bridge = split_properties(value).get("bridge", "") if name.startswith("net") else ""
        if bridge and not lab.has_bridge(bridge):
            sys.stderr.write(f"bridge '{bridge}' does not exist\n")
            raise PveError(f"startup for container '{vmid}' failed")
    middle()
    runtime.start(lab, vmid, conf.main)


def stop(call: Call) -> None:
    """Stop a container; `pct shutdown` looks the same from outside when the guest obeys."""
    with call.lab.locked(call.vmid):
        if not runtime.is_running(call.lab, call.vmid):
            raise PveError(f"CT {call.vmid} not running")
        if not call.flag("skiplock"):
            check_lock(call.lab.load(call.vmid), tolerated="mounted")
        call.switches.middle()
        runtime.stop(call.lab, call.vmid)


def reboot(call: Call) -> None:
    """Stop and start a container, which applies what is pending."""
    with call.lab.locked(call.vmid):
        if not runtime.is_running(call.lab, call.vmid):
            raise PveError(f"VM {call.vmid} not running")
        conf = call.lab.load(call.vmid)
        check_lock(conf)
        runtime.stop(call.lab, call.vmid)
        bring_up(call.lab, call.vmid, conf, call.switches.middle)


def suspend(call: Call) -> None:
    """Freeze or thaw a container: nothing an outsider of the lab could see."""
    conf = call.lab.load(call.vmid)
    if not runtime.is_running(call.lab, call.vmid):
        raise PveError(f"CT {call.vmid} not running")
    check_lock(conf)


def unlock(call: Call) -> None:
    """Take Proxmox's own lock off a container."""
    with call.lab.locked(call.vmid, rc=4):
        conf = call.lab.load(call.vmid, missing_rc=2)
        if "lock" not in conf.main:
            raise PveError("no lock found trying to remove any lock")
        del conf.main["lock"]
        call.lab.save(call.vmid, conf)
