"""pct set and pct resize: what takes effect at once, and what waits for the next start."""

from __future__ import annotations

import re
import sys

from . import storage, volumes
from .cli import Call
from .conf import Conf
from .errors import ParameterError, PveError
from .formats import format_size, join_properties, parse_size, split_properties
from .lab import check_lock
from .normalise import normalised
from .options import config_option, split_list

HOT = ("description", "onboot", "startup", "protection", "hostname", "hookscript", "cores", "tags", "lock")
HOT_BY_CGROUP = ("memory", "swap", "cpulimit", "cpuunits")
HOT_DELETE = ("swap", "cpulimit", "cpuunits", *HOT)
REQUIRED = ("memory", "rootfs", "ostype")
READ_ONLY = ("unprivileged",)
NOT_CONFIG = ("vmid", "delete", "revert", "digest")


def change(call: Call) -> None:
    """Change a container's configuration."""
    given = {name: value for name, value in call.parameters.items() if name not in NOT_CONFIG}
    delete = split_list(call.parameters.get("delete", ""))
    revert = split_list(call.parameters.get("revert", ""))
    if not (given or delete or revert):
        raise PveError("no options specified")
    _check_request(given, delete, revert)
    with call.lab.locked(call.vmid, rc=4):
        conf = call.lab.load(call.vmid, missing_rc=2)
        check_lock(conf)
        _check_digest(call)
        call.switches.middle()
        _apply(call, conf, given, delete, revert)


def _check_request(given: dict[str, str], delete: list[str], revert: list[str]) -> None:
    """Refuse what cannot be changed whatever the container looks like."""
    for key, names in (("delete", delete), ("revert", revert)):
        for name in names:
            if config_option(name) is None:
                raise ParameterError({key: f"unknown option '{name}'"})
    for name in delete:
        if name in REQUIRED:
            raise PveError(f"unable to delete required option '{name}'")
    for name in [*given, *delete]:
        if name in READ_ONLY:
            raise PveError(f"unable to modify read-only option: '{name}'")


def _check_digest(call: Call) -> None:
    """Refuse when the file is not the one the caller has read."""
    if digest := call.parameters.get("digest"):
        from hashlib import sha1

        with open(call.lab.conf_path(call.vmid), "rb") as handle:
            if sha1(handle.read(), usedforsecurity=False).hexdigest() != digest:
                raise PveError("detected modified configuration - file changed by other user? Try again.")


def _apply(call: Call, conf: Conf, given: dict[str, str], delete: list[str], revert: list[str]) -> None:
    """Change the configuration, write it, bring a running container in line."""
    running = call.lab.backend.is_running(call.vmid)
    for name in revert:
        _revert(conf, name)
    for name in delete:
        _delete(conf, name)
    for name, value in sorted(given.items()):
        _stage(call, conf, name, value)
    if running:
        _apply_hot(conf)
    else:
        conf.apply_pending()
    if running:  # before the file is written: what the kernel refuses is not to stand there
        call.lab.backend.set_limits(call.vmid, conf.main)
        call.lab.backend.set_network(call.vmid, conf.main)
    call.lab.save(call.vmid, conf)
    _check_bridges(call, given)


def _stage(call: Call, conf: Conf, name: str, value: str) -> None:
    """Put a value among the pending ones; one that is already current is not pending."""
    value = normalised(name, value)
    if volumes.is_volume_option(name):
        value = volumes.allocate(call.lab, call.vmid, value)
    if name == "description":
        value = value.rstrip("\n") + "\n" if value else ""
    _revert(conf, name)
    if conf.main.get(name) != value:
        conf.pending[name] = value


def _delete(conf: Conf, name: str) -> None:
    """Note a key for deletion."""
    if name not in conf.main and name not in conf.pending:
        sys.stderr.write(f"cannot delete '{name}' - not set in current configuration!\n")
        return
    conf.pending.pop(name, None)
    if name in conf.main:
        conf.pending["delete"] = ",".join(sorted({*conf.pending_deletions(), name}))


def _revert(conf: Conf, name: str) -> None:
    """Forget what is pending for a key."""
    conf.pending.pop(name, None)
    left = [key for key in conf.pending_deletions() if key != name]
    conf.pending.pop("delete", None)
    if left:
        conf.pending["delete"] = ",".join(left)


def _apply_hot(conf: Conf) -> None:
    """Move from pending to current what a running container takes at once."""
    for name in [name for name in conf.pending if name != "delete" and _is_hot(conf, name)]:
        value = conf.pending.pop(name)
        if name == "description" and not value:
            conf.main.pop(name, None)
        else:
            conf.main[name] = value
    for name in conf.pending_deletions():
        if name in HOT_DELETE or re.match(r"(net|unused)\d+\Z", name):
            conf.main.pop(name, None)
            _revert(conf, name)


def _is_hot(conf: Conf, name: str) -> bool:
    """Return whether a new value of this key takes effect without a restart."""
    if re.match(r"mp\d+\Z", name):
        return name not in conf.main
    return name in HOT or name in HOT_BY_CGROUP or bool(re.match(r"(net|dev)\d+\Z", name))


def _check_bridges(call: Call, given: dict[str, str]) -> None:
    """Refuse an unknown bridge: after the file has been written, as the real command does."""
    for name in sorted(given):
        bridge = split_properties(given[name]).get("bridge", "") if re.match(r"net\d+\Z", name) else ""
        if bridge and not call.lab.backend.has_bridge(bridge):
            raise PveError(f"bridge '{bridge}' does not exist", 2)


def resize(call: Call) -> None:
    """Make a volume larger, at once."""
    disk, wanted = call.parameters["disk"], call.parameters["size"]
    with call.lab.locked(call.vmid):
        conf = call.lab.load(call.vmid)
        check_lock(conf)
        if disk not in conf.main:
            raise PveError(f"disk '{disk}' does not exist")
        pairs = split_properties(conf.main[disk], "volume")
        path = storage.path_of(call.lab, pairs["volume"])
        old = storage.refquota(path)
        new = old + parse_size(wanted) if wanted.startswith("+") else parse_size(wanted)
        if new < old:
            raise PveError("unable to shrink disk size")
        if new == old:
            raise PveError("disk is already at specified size")
        call.switches.middle()
        storage.set_refquota(path, new)
        pairs["size"] = format_size(new)
        conf.main[disk] = join_properties(pairs, "volume")
        call.lab.save(call.vmid, conf)
