"""vzdump: back up containers into archives named and logged as Proxmox does."""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from . import archive, pct_power, pools, volumes
from .backups import Target, discard, prune
from .cli import Call, Command, uninterrupted
from .conf import Conf
from .errors import Interrupted, LeftBehind, ParameterError, PveError
from .files import read_text, remove_tree
from .formats import one_of
from .lab import check_lock
from .options import BOOLEAN, LIST, STORAGE, STRING, Option

POLL_S = 0.02
STOP_WAIT_S = 600
# What the log says before the archive of a running container is written, by mode.
STEPS = {
    "snapshot": ("create storage snapshot 'vzdump'",),
    "suspend": (
        "starting first sync /proc/1/root/ to /var/tmp/vzdumptmp",
        "suspending guest",
        "starting final sync",
        "resuming guest",
        "guest is online again after <1 seconds",
    ),
    "stop": ("stopping virtual guest",),
}


class Log:
    """What goes to stdout and, with a time before each line, into the archive's log."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._lines: list[str] = []

    def __call__(self, text: str, level: str = "INFO") -> None:
        """Write one line."""
        self._lines.append(f"{now()} {level}: {text}\n")
        if not self._quiet:
            print(f"{level}: {text}", flush=True)

    def begin_file(self) -> None:
        """Forget the lines so far: the log of the next archive begins."""
        self._lines = []

    def save(self, path: str) -> None:
        """Write the archive's log."""
        with open(path, "w", encoding="utf-8") as handle:
            handle.writelines(self._lines)


def now() -> str:
    """Return the time as logs show it."""
    return time.strftime("%Y-%m-%d %H:%M:%S")


def run(call: Call) -> int:
    """Back up what is asked for; return the exit code."""
    if call.flag("stop"):
        return 0
    compress = _compress(call)
    vmids = _chosen(call)
    target = Target(call)
    log = Log(call.flag("quiet"))
    with _global_lock(call, log):
        log(f"starting new backup job: vzdump {shlex.join(call.argv)}")
        failed = [vmid for vmid in vmids if not _backed_up(call, target, log, vmid, compress)]
        log.begin_file()
        log("Backup job finished with errors" if failed else "Backup job finished successfully")
    if failed:
        sys.stderr.write("job errors\n")
    return 255 if failed else 0


def _compress(call: Call) -> str:
    """Return 0, gzip or zstd."""
    compress = call.parameters.get("compress", "0")
    if compress in ("1", "lzo"):
        raise PveError("the lab node emulates no lzo compression")
    return compress


def _chosen(call: Call) -> list[int]:
    """Return the vmids to back up."""
    words = call.parameters.get("extra-args", "")
    chosen = [word for word in re.split("[\0,;\\s]+", words) if word]
    if not all(word.isdigit() and 100 <= int(word) <= 999999999 for word in chosen):
        raise ParameterError({"vmid": "invalid format - value does not look like a valid VM ID\n"})
    excluded = {int(word) for word in re.split(r"[,;\s]+", call.parameters.get("exclude", "")) if word}
    if call.flag("all"):
        return [vmid for vmid in call.lab.vmids() if vmid not in excluded]
    if pool := call.parameters.get("pool"):
        return sorted(pools.members(call.lab, pool) & set(call.lab.vmids()) - excluded)
    if not chosen:
        raise ParameterError({"vmid": "property is missing and it is not optional"})
    return sorted({int(word) for word in chosen})


@contextmanager
def _global_lock(call: Call, log: Log) -> Iterator[None]:
    """Hold the node's one vzdump lock; wait `lockwait` minutes for it."""
    wait_min = int(call.parameters.get("lockwait", 180))
    descriptor = os.open(call.lab.path("run/vzdump.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        if not _free(descriptor):
            if wait_min:
                log("trying to get global lock - waiting...")
            deadline = time.monotonic() + wait_min * 60
            while not _free(descriptor):
                if time.monotonic() >= deadline:
                    log(f"can't acquire lock '/var/run/vzdump.lock' (wait = {wait_min})", "ERROR")
                    raise PveError(f"can't acquire lock '/var/run/vzdump.lock' (wait = {wait_min})")
                time.sleep(POLL_S)
            log("got global lock")
        yield
    finally:
        os.close(descriptor)


def _free(descriptor: int) -> bool:
    """Return whether the lock was free and is now ours."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _backed_up(call: Call, target: Target, log: Log, vmid: int, compress: str) -> bool:
    """Back up one container; return whether that worked, the log saying why not."""
    begun = time.monotonic()
    log.begin_file()
    log(f"Starting Backup of VM {vmid} (lxc)")
    log(f"Backup started at {now()}")
    try:
        _back_up(call, target, log, vmid, compress, begun)
    except PveError as error:
        message = "interrupted by signal" if isinstance(error, Interrupted) else error.message
        log(f"Backup of VM {vmid} failed - {message}", "ERROR")
        log(f"Failed at {now()}")
        if isinstance(error, Interrupted):
            raise
        return False
    log(f"Backup finished at {now()}")
    return True


def _back_up(call: Call, target: Target, log: Log, vmid: int, compress: str, begun: float) -> None:
    """Make one container's archive under the container's `lock: backup`."""
    conf, path = None, ""
    try:
        with uninterrupted():
            conf = _take_lock(call, target, vmid)
        path = _free_name(target, vmid, compress)
        snapshot = _dump(call, target, log, vmid, conf, path, compress)
    except PveError as error:
        if path and not isinstance(error, LeftBehind):
            discard(path)
        raise
    finally:
        if conf and not isinstance(sys.exc_info()[1], LeftBehind):
            call.lab.remove_lock(vmid, "backup")
    prune(call, target, log, vmid)
    if snapshot:
        log("cleanup temporary 'vzdump' snapshot")
    took = int(time.monotonic() - begun)
    log(f"Finished Backup of VM {vmid} ({took // 3600:02d}:{took // 60 % 60:02d}:{took % 60:02d})")
    log.save(archive.companions(path)[1])


def _take_lock(call: Call, target: Target, vmid: int) -> Conf:
    """Put the container under `lock: backup`; return its file as it was."""
    with call.lab.locked(vmid):
        if vmid not in call.lab.vmids():
            raise PveError(f"unable to find VM '{vmid}'")
        conf = call.lab.load(vmid)
        check_lock(conf)
        _check_limit(call, target, vmid)
        call.lab.save(vmid, conf.under("backup"))
    return conf


def _check_limit(call: Call, target: Target, vmid: int) -> None:
    """Refuse one more archive than retention allows when nothing may be removed."""
    limit = sum(target.keep.values())
    if not call.flag("remove", default=True) and limit and len(target.archives(vmid)) >= limit:
        raise PveError(
            f"There is a max backup limit of {limit} enforced by the target storage or the vzdump parameters."
            " Either increase the limit or delete old backups."
        )


def _free_name(target: Target, vmid: int, compress: str) -> str:
    """Return the path of a new archive; names count seconds, so a second backup within one has to wait."""
    while True:
        stamp = time.strftime("%Y_%m_%d-%H_%M_%S")
        base = f"vzdump-lxc-{vmid}-{stamp}.tar"
        if not any(name.startswith(base) for name in target.archives(vmid, protected=True)):
            return target.path(base.removesuffix(".tar") + archive.SUFFIX[compress])
        time.sleep(POLL_S)


def _dump(call: Call, target: Target, log: Log, vmid: int, conf: Conf, path: str, compress: str) -> bool:
    """Write the archive, saying what Proxmox says on the way; return whether it came from a storage snapshot."""
    lab, running = call.lab, call.lab.backend.is_running(vmid)
    mode = call.parameters.get("mode", "snapshot") if running else "stop"
    _introduce(log, conf, vmid, mode, running)
    base = path[: path.index(".tar")]
    os.makedirs(f"{base}.tmp", exist_ok=True)
    if mode == "stop" and running:
        lab.backend.shutdown(vmid, STOP_WAIT_S, True)
    try:
        log(f"creating vzdump archive '{path}'")
        size = lab.backend.write_archive(
            f"{base}.tar.dat",
            {
                archive.CONF_MEMBER: "".join(f"{line}\n" for line in conf.main.lines()),
                archive.FIREWALL_MEMBER: read_text(lab.firewall_path(vmid)),
            },
            volumes.root_path(lab, conf.main),
            compress,
            live=running and mode != "stop",
        )
        call.switches.middle()
    finally:
        if mode == "stop" and running:
            log("restarting vm")
            with lab.locked(vmid):
                pct_power.bring_up(lab, vmid, lab.load(vmid))
            log("guest is online again after 1 seconds")
    os.rename(f"{base}.tar.dat", path)
    remove_tree(f"{base}.tmp")
    log(f"Total bytes written: {size} ({archive.human(size)}, 23MiB/s)")
    log(f"archive file size: {max(1, os.stat(path).st_size // 1024)}KB")
    _annotate(call, target, log, vmid, conf, path)
    return running and mode == "snapshot"


def _introduce(log: Log, conf: Conf, vmid: int, mode: str, running: bool) -> None:
    """Write the log's lines about the container."""
    name = f"CT Name: {conf.main.get('hostname', f'CT{vmid}')}"
    mount = "including mount point rootfs ('/') in backup"
    if running:
        lines = ["status = running", name, mount, f"backup mode: {mode}", "ionice priority: 7", *STEPS[mode]]
    else:
        lines = ["status = stopped", f"backup mode: {mode}", "ionice priority: 7", name, mount]
    for line in lines:
        log(line)


def _annotate(call: Call, target: Target, log: Log, vmid: int, conf: Conf, path: str) -> None:
    """Write notes and protection mark beside an archive."""
    if template := call.parameters.get("notes-template"):
        if not target.storage:
            raise PveError("'notes-template' needs a storage")
        log("adding notes to backup")
        values = {
            "cluster": call.lab.node,
            "guestname": conf.main.get("hostname", f"CT{vmid}"),
            "node": call.lab.node,
            "vmid": str(vmid),
        }
        notes = template.replace("\\n", "\n").replace("\\\\", "\\")
        notes = re.sub(r"\{\{(\w+)\}\}", lambda match: values.get(match[1], match[0]), notes)
        with open(f"{path}.notes", "w", encoding="utf-8") as handle:
            handle.write(notes)
    if call.flag("protected"):
        log("marking backup as protected")
        with open(f"{path}.protected", "w", encoding="utf-8"):
            pass


COMMAND = Command(
    run,
    ("extra-args",),
    {
        "storage": STORAGE,
        "dumpdir": STRING,
        "mode": Option(check=one_of(*STEPS)),
        "compress": Option(check=one_of("0", "1", "gzip", "lzo", "zstd")),
        "zstd": Option("integer", 0),
        "pigz": Option("integer", 0),
        "prune-backups": STRING,
        "remove": BOOLEAN,
        "protected": BOOLEAN,
        "notes-template": Option(longest=1024),
        "bwlimit": Option("integer", 0),
        "ionice": Option("integer", 0, 8),
        "lockwait": Option("integer", 0),
        "stopwait": Option("integer", 0),
        "exclude-path": LIST,
        "stdexcludes": BOOLEAN,
        "pool": STRING,
        "all": BOOLEAN,
        "exclude": LIST,
        "quiet": BOOLEAN,
        "tmpdir": STRING,
        "script": STRING,
        "stop": BOOLEAN,
        "notification-mode": STRING,
        "mailnotification": STRING,
        "node": STRING,
    },
)
