"""pvesm: storages and what is on them."""

from __future__ import annotations

import os

from . import archive, retention, storage
from .cli import Call, Command
from .errors import PveError
from .formats import one_of
from .options import BOOLEAN, STORAGE, STRING, VMID, Option

_CONTENT = Option(check=one_of("backup", "images", "iso", "rootdir", "snippets", "vztmpl", "import"))


def status(call: Call) -> None:
    """Print the storages with their figures in KiB."""
    wanted, content = call.parameters.get("storage"), call.parameters.get("content")
    found = storage.storages(call.lab)
    if wanted and wanted not in found:
        raise PveError(f"storage '{wanted}' does not exist")
    rows = [
        each
        for name, each in sorted(found.items())
        if wanted in (None, name) and (not content or content in each.content) and not (call.flag("enabled") and each.disabled)
    ]
    width = max([4, *(len(each.name) for each in rows)]) + 1
    form = f"{{:<{width}}} {{:>10}} {{:>10}} {{:>15}} {{:>15}} {{:>15}} {{:>8}}"
    print(form.format("Name", "Type", "Status", "Total (KiB)", "Used (KiB)", "Available (KiB)", "%"))
    for each in rows:
        print(form.format(each.name, each.kind, *_figures(each)))


def _figures(each: storage.Storage) -> tuple[str, int, int, int, str]:
    """Return status, total, used, available and share of one storage."""
    if each.disabled:
        return "disabled", 0, 0, 0, "N/A"
    if not each.active:
        return "inactive", 0, 0, 0, "0.00%"
    total, used, available = each.figures_kib()
    return "active", total, used, available, f"{used * 100 / total if total else 0:.2f}%"


def list_volumes(call: Call) -> None:
    """Print the volumes of a storage."""
    each = storage.usable(call.lab, call.parameters["storage"])
    vmid, content = call.parameters.get("vmid"), call.parameters.get("content")
    rows = [row for row in each.volumes() if vmid in (None, str(row["vmid"])) and content in (None, row["type"])]
    width = max([5, *(len(row["volid"]) for row in rows)])
    digits = max([4, *(len(str(row["size"])) for row in rows)])
    form = f"{{:<{width}}} {{:<7}} {{:<9}} {{:>{digits}}}"
    print(form.format("Volid", "Format", "Type", "Size") + " VMID")
    for row in rows:
        line = form.format(row["volid"], row["format"], row["type"], row["size"])
        print(line if row["vmid"] is None else f"{line} {row['vmid']}")


def path(call: Call) -> None:
    """Print the path of a volume."""
    print(storage.path_of(call.lab, call.parameters["volume"]))


def free(call: Call) -> None:
    """Remove a volume, an archive with its log and notes."""
    volid = call.parameters["volume"]
    found = storage.path_of(call.lab, volid)
    if os.path.exists(f"{found}.protected"):
        raise PveError(f"can't remove protected archive '{found}'")
    if not os.path.exists(found):
        raise PveError(f"volume '{volid}' does not exist" if ":backup/" in volid else f"no such volume '{volid}'")
    call.switches.middle()
    for name in archive.companions(found) if ":backup/" in volid else ():
        if os.path.isfile(name):
            os.unlink(name)
    storage.free(call.lab, volid)
    print(f"Removed volume '{volid}'")


def prune(call: Call) -> None:
    """Remove, or with --dry-run only show, the archives that a retention lets go."""
    each = storage.usable(call.lab, call.parameters["storage"])
    keep = retention.parse(call.parameters.get("prune-backups", each.settings.get("prune-backups", "")))
    by_vmid: dict[int, list[dict]] = {}
    for row in each.volumes():
        if row["type"] == "backup" and call.parameters.get("vmid") in (None, str(row["vmid"])):
            by_vmid.setdefault(row["vmid"], []).append(row)
    for rows in by_vmid.values():
        _prune_one(call, rows, keep)


def _prune_one(call: Call, rows: list[dict], keep: dict[str, int]) -> None:
    """Prune the archives of one container."""
    protected = {row["path"] for row in rows if os.path.exists(f"{row['path']}.protected")}
    gone = retention.to_remove([row["path"] for row in rows if row["path"] not in protected], keep)
    for row in rows:
        mark = "protected" if row["path"] in protected else "remove" if row["path"] in gone else "keep"
        if call.flag("dry-run"):
            print(f"{row['volid']} {mark} lxc {row['vmid']}")
        elif mark == "remove":
            for name in archive.companions(row["path"]):
                if os.path.isfile(name):
                    os.unlink(name)
            print(f"Removed volume '{row['volid']}'")


COMMANDS = {
    "status": Command(status, (), {"storage": STORAGE, "content": _CONTENT, "enabled": BOOLEAN, "target": STRING}),
    "list": Command(list_volumes, ("storage",), {"storage": STORAGE, "content": _CONTENT, "vmid": VMID}),
    "path": Command(path, ("volume",)),
    "free": Command(free, ("volume",), {"storage": STORAGE, "delay": Option("integer", 1, 30)}),
    "prune-backups": Command(
        prune,
        ("storage",),
        {"storage": STORAGE, "vmid": VMID, "prune-backups": STRING, "dry-run": BOOLEAN, "type": STRING},
    ),
}
