"""pct create and pct restore.

The file passes through the stages a real create leaves behind when it is killed: first nothing but `lock: create`,
then (the root file system is unpacked) the whole configuration still locked, then the lock is gone and the pool
entry made. A failure or a signal removes file and volumes again.

A forced restore frees the old volumes once it has made the new ones, and before it unpacks: as with the real one, a
failure from then on leaves nothing of the old container, and one to make the new volumes leaves the old without a file.
"""

from __future__ import annotations

import os

from . import archive, pct_power, pools, storage, volumes
from .cli import Call, uninterrupted
from .conf import Conf, Section
from .errors import LeftBehind, ParameterError, PveError
from .files import read_text, write_text
from .formats import split_properties
from .normalise import normalised, with_new_addresses
from .options import CREATE

DEFAULT_DISK_GIB = 4
HOST_KEYS = ("ssh_host_rsa_key", "ssh_host_ecdsa_key", "ssh_host_ed25519_key")


def create(call: Call) -> None:
    """Create a container from a template, or with --restore from an archive."""
    if call.flag("unique") and not call.flag("restore"):
        raise ParameterError({"unique": "missing property - 'unique' requires this property: restore"})
    keys = _public_keys(call)
    _check_free(call)
    section = _given(call)
    _check_targets(call, section)
    work = None
    try:
        with uninterrupted():
            work = Work(_take_vmid(call))
        conf = _build(call, section, keys, work)
    except (PveError, OSError) as error:
        if not work:
            raise
        if not isinstance(error, LeftBehind):
            _undo(call, work)
        raise PveError(f"unable to {_verb(call)} CT {call.vmid} - {error}", getattr(error, "rc", 255)) from None
    if pool := call.parameters.get("pool"):
        pools.join(call.lab, pool, call.vmid)
    if call.flag("start"):
        pct_power.bring_up(call.lab, call.vmid, conf)


class Work:
    """What a create or restore replaces and has made so far."""

    def __init__(self, old: Conf | None) -> None:
        self.old = old  # what a forced restore replaces
        self.begun = old is None  # whether a failure takes the container's file away
        self.made: list[str] = []  # the new volumes


def restore(call: Call) -> None:
    """Create a container from an archive."""
    call.parameters["restore"] = "1"
    create(call)


def _verb(call: Call) -> str:
    return "restore" if call.flag("restore") else "create"


# -- checks before anything is done --------------------------------------------------------------------------------


def _public_keys(call: Call) -> str:
    """Return the text of the file of SSH keys; the command itself reads it, before the work begins."""
    path = call.parameters.get("ssh-public-keys")
    if path is None:
        return ""
    if not os.path.isfile(path):
        raise PveError(f"can't open '{path}' - No such file or directory", 2)
    return read_text(path)


def _check_free(call: Call) -> None:
    """Refuse a vmid that anybody in the cluster has; a restore may replace a stopped container of this node."""
    owner = call.lab.owner_of(call.vmid)
    replace = call.flag("restore") and call.flag("force") and owner == ("CT", call.lab.node)
    if owner and not replace:
        raise PveError(f"{owner[0]} {call.vmid} already exists on node '{owner[1]}'")
    if owner and call.lab.backend.is_running(call.vmid):
        raise PveError(f"unable to restore CT {call.vmid} - can't overwrite running container")


def _given(call: Call) -> Section:
    """Return the configuration the parameters ask for, defaults not yet filled in."""
    skip = {"vmid", "ostemplate", "archive", *CREATE}
    section = Section({name: normalised(name, value) for name, value in call.parameters.items() if name not in skip})
    if "description" in section:
        section["description"] = section["description"].rstrip("\n") + "\n"
    if not call.flag("restore"):
        section.setdefault("unprivileged", "1")
        section.setdefault("rootfs", f"{call.parameters.get('storage', 'local')}:{DEFAULT_DISK_GIB}")
    return section


def _check_targets(call: Call, section: Section) -> None:
    """Refuse an unknown pool and storages that cannot hold containers."""
    pool = call.parameters.get("pool")
    if pool and not pools.pool_exists(call.lab, pool):
        raise PveError(f"403 Permission check failed (pool '{pool}' does not exist)")
    names = {call.parameters.get("storage", "" if "rootfs" in section else "local")}
    for name in filter(volumes.is_volume_option, section):
        names.add(split_properties(section[name], "volume")["volume"].partition(":")[0])
    for name in sorted(names - {""}):
        storage.for_containers(call.lab, name)


def _take_vmid(call: Call) -> Conf | None:
    """Write the file that reserves the vmid; return what a forced restore replaces."""
    with call.lab.locked(call.vmid):
        _check_free(call)
        if not call.lab.owner_of(call.vmid):
            call.lab.save(call.vmid, Conf(Section(lock="create")))
            return None
        old = call.lab.load(call.vmid)
        call.lab.save(call.vmid, old.under("create"))
        return old


def _undo(call: Call, work: Work) -> None:
    """Remove what a failed create has made; a forced restore that had not begun leaves the old container."""
    for volid in work.made:
        storage.free(call.lab, volid)
    with call.lab.locked(call.vmid):
        if not work.begun and work.old:
            call.lab.save(call.vmid, work.old)
            return
        for path in (call.lab.conf_path(call.vmid), call.lab.firewall_path(call.vmid)):
            if os.path.exists(path):
                os.unlink(path)


# -- the work ------------------------------------------------------------------------------------------------------


def _build(call: Call, given: Section, keys: str, work: Work) -> Conf:
    """Make the volumes, unpack, write the configuration in its stages; return it."""
    if call.flag("restore"):
        section, source = _recovered(call, given)
    else:
        section, source = given, _template(call)
    work.begun = True
    for name in filter(volumes.is_volume_option, sorted(section)):
        with uninterrupted():
            section[name] = volumes.allocate(call.lab, call.vmid, section[name])
            work.made.append(split_properties(section[name], "volume")["volume"])
    if work.old:
        volumes.free_all(call.lab, work.old)
        call.lab.save(call.vmid, Conf(Section(lock="create")))
    root = volumes.root_path(call.lab, section)
    if call.flag("restore"):
        print(f"restoring '{source[0]}' now..")
    _unpack(call, source[1], root, volumes.is_shared(call.lab, section))
    call.switches.middle()
    if call.flag("restore"):
        print("merging backed-up and given configuration..")
    conf = Conf(_with_defaults(call, section))
    call.lab.save(call.vmid, conf.under("create"))
    if call.flag("restore"):
        _restore_firewall(call, source[1])
    else:
        _set_up_guest(call, root, conf.main, keys)
    with call.lab.locked(call.vmid):
        call.lab.save(call.vmid, conf)
    return conf


def _template(call: Call) -> tuple[str, str]:
    """Return (volid, path) of the template; missing is an error in two lines, as the real one says it."""
    volid = call.parameters["ostemplate"]
    path = volid if volid.startswith("/") else storage.path_of(call.lab, volid)
    if not os.path.isfile(path):
        print(f"volume '{volid}' does not exist", flush=True)
        raise PveError(f"volume '{volid}' does not exist")
    return volid, path


def _recovered(call: Call, given: Section) -> tuple[Section, tuple[str, str]]:
    """Return the archive's configuration with what was given laid over it, and (volid, path) of the archive."""
    volid = call.parameters.get("archive") or call.parameters["ostemplate"]
    path = volid if volid.startswith("/") else storage.path_of(call.lab, volid)
    if not os.path.isfile(path):
        raise PveError(f"volume '{volid}' does not exist")
    print(f"recovering backed-up configuration from '{volid}'")
    section = Conf.parse(call.lab.backend.read_member(path, archive.CONF_MEMBER), call.vmid).main
    if call.flag("unique"):
        section = with_new_addresses(section)
    target = call.parameters.get("storage", "local")
    for name in filter(volumes.is_volume_option, sorted(section)):
        size = split_properties(section[name], "volume").get("size", f"{DEFAULT_DISK_GIB}G")
        section[name] = f"{target}:{size.rstrip('G')}" if size.endswith("G") else f"{target}:{DEFAULT_DISK_GIB}"
    section.update(given)
    section.pop("lock", None)
    section.pop("parent", None)
    return section, (volid, path)


def _restore_firewall(call: Call, path: str) -> None:
    """Lay the archive's firewall file; that of a container that had none is empty, as on a real node."""
    target = call.lab.firewall_path(call.vmid)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    write_text(target, call.lab.backend.read_member(path, archive.FIREWALL_MEMBER))


def _unpack(call: Call, path: str, root: str, shared: bool) -> None:
    """Unpack an archive of ours or a template; print what tar prints."""
    print(f"extracting archive '{path}'", flush=True)
    backend = call.lab.backend
    size = backend.extract(path, root) if call.flag("restore") else backend.unpack(path, root, shared)
    print(f"Total bytes read: {size} ({archive.human(size)}, 163MiB/s)")
    if not call.flag("restore"):
        print("Detected container architecture: amd64")


def _with_defaults(call: Call, section: Section) -> Section:
    """Return the section with what Proxmox fills in."""
    complete = section.copy()
    name = call.parameters.get("ostemplate", "").rpartition("/")[2]
    detected = name.split("-")[0] if name.split("-")[0] in ("debian", "ubuntu", "alpine", "fedora") else "debian"
    defaults = {"arch": "amd64", "hostname": f"CT{call.vmid}", "memory": "512", "ostype": detected, "swap": "512"}
    for key, value in defaults.items():
        complete.setdefault(key, value)
    return complete


def _set_up_guest(call: Call, root: str, main: Section, keys: str) -> None:
    """Put host name, SSH keys and host keys into the container."""
    backend = call.lab.backend
    backend.put_file(root, "etc/hostname", f"{main['hostname']}\n")
    if keys:
        backend.put_file(root, "root/.ssh/authorized_keys", keys, 0o600)
    for name, fingerprint in backend.host_keys(root, main["hostname"], HOST_KEYS).items():
        print(f"Creating SSH host key '{name}' - this may take some time ...")
        print(f"done: SHA256:{fingerprint} root@{main['hostname']}")
