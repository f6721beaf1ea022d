"""pct destroy."""

from __future__ import annotations

import os
import sys

from . import pools, storage, volumes
from .cli import Call
from .conf import Conf, Section
from .errors import PveError
from .lab import check_lock


def destroy(call: Call) -> None:
    """Remove a container: its volumes, its pool entry, its file (which says `lock: destroyed` in between)."""
    lab, vmid = call.lab, call.vmid
    _check(call, lab.load(vmid, missing_rc=2))
    with lab.locked(vmid):
        conf = lab.load(vmid)
        _check(call, conf)
        if lab.backend.is_running(vmid):
            if not call.flag("force"):
                raise PveError(f"unable to destroy CT {vmid} - container is running")
            sys.stderr.write(f"forced to stop CT {vmid} before destroying!\n")
            lab.backend.stop(vmid)
        lab.backend.forget(vmid)
        volumes.free_all(lab, conf)
        # Without it the volume of a create that was killed stays: its file, nothing but `lock: create`, names none.
        for volid in storage.subvolumes_of(lab, vmid) if call.flag("destroy-unreferenced-disks") else ():
            storage.free(lab, volid)
        lab.save(vmid, Conf(Section(lock="destroyed")))
        call.switches.middle()
        pools.leave(lab, vmid)
        if os.path.exists(firewall := lab.firewall_path(vmid)):
            os.unlink(firewall)
        if call.flag("purge"):
            print(f"purging CT {vmid} from related configurations..")
        os.unlink(lab.conf_path(vmid))


def _check(call: Call, conf: Conf) -> None:
    """Refuse a protected or locked container."""
    if conf.main.get("protection") == "1":
        raise PveError(f"can't remove CT {call.vmid} - protection mode enabled")
    check_lock(conf)
