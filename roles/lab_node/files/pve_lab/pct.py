"""pct: its subcommands and their options."""

from __future__ import annotations

from . import pct_create, pct_destroy, pct_power, pct_read, pct_set, pct_snapshot
from .cli import Command
from .formats import check_resize
from .options import BOOLEAN, CONFIG, CREATE, DNS_NAME, LIST, SNAPNAME, STORAGE, STRING, Option

_VMID = ("vmid",)
_SNAPSHOT = ("vmid", "snapname")
_TIMEOUT = Option("integer", 0)

COMMANDS = {
    "list": Command(pct_read.list_containers),
    "status": Command(pct_read.status, _VMID, {"verbose": BOOLEAN}),
    "config": Command(pct_read.config, _VMID, {"current": BOOLEAN, "snapshot": SNAPNAME}),
    "pending": Command(pct_read.pending, _VMID),
    "listsnapshot": Command(pct_read.list_snapshots, _VMID),
    "df": Command(pct_read.disk_free, _VMID),
    "exec": Command(pct_read.execute, ("vmid", "extra-args"), {"keep-env": BOOLEAN}),
    "enter": Command(pct_read.execute, _VMID, {"keep-env": BOOLEAN}),
    "push": Command(pct_read.push, ("vmid", "file", "destination"), {"user": STRING, "group": STRING, "perms": STRING}),
    "pull": Command(pct_read.pull, ("vmid", "path", "destination"), {"user": STRING, "group": STRING, "perms": STRING}),
    "create": Command(
        pct_create.create, ("vmid", "ostemplate"), {**CONFIG, **CREATE, "ostemplate": Option(longest=255)}, indexed=True
    ),
    "restore": Command(pct_create.restore, ("vmid", "archive"), {**CONFIG, **CREATE}, indexed=True),
    "destroy": Command(pct_destroy.destroy, _VMID, {"force": BOOLEAN, "purge": BOOLEAN, "destroy-unreferenced-disks": BOOLEAN}),
    "start": Command(pct_power.start, _VMID, {"debug": BOOLEAN, "skiplock": BOOLEAN}),
    "stop": Command(pct_power.stop, _VMID, {"skiplock": BOOLEAN, "overrule-shutdown": BOOLEAN}),
    "shutdown": Command(pct_power.shutdown, _VMID, {"timeout": _TIMEOUT, "forceStop": BOOLEAN}),
    "reboot": Command(pct_power.reboot, _VMID, {"timeout": _TIMEOUT}),
    "suspend": Command(pct_power.suspend, _VMID),
    "resume": Command(pct_power.resume, _VMID),
    "unlock": Command(pct_power.unlock, _VMID),
    "set": Command(
        pct_set.change, _VMID, {**CONFIG, "delete": LIST, "revert": LIST, "digest": Option(longest=40)}, indexed=True
    ),
    "resize": Command(
        pct_set.resize,
        ("vmid", "disk", "size"),
        {"disk": STRING, "size": Option(check=check_resize), "digest": Option(longest=40)},
    ),
    "snapshot": Command(pct_snapshot.snapshot, _SNAPSHOT, {"description": STRING}),
    "rollback": Command(pct_snapshot.rollback, _SNAPSHOT, {"start": BOOLEAN}),
    "delsnapshot": Command(pct_snapshot.delete_snapshot, _SNAPSHOT, {"force": BOOLEAN}),
    "clone": Command(
        pct_snapshot.clone,
        ("vmid", "newid"),
        {
            "hostname": DNS_NAME,
            "description": STRING,
            "pool": STRING,
            "snapname": SNAPNAME,
            "storage": STORAGE,
            "full": BOOLEAN,
            "target": STRING,
            "bwlimit": Option("number", 0),
        },
    ),
    "template": Command(pct_snapshot.make_template, _VMID),
}
