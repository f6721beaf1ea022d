"""pct commands that change no container: list, status, config, pending, listsnapshot, df, exec, enter, push, pull."""

from __future__ import annotations

import os
import time

from . import storage
from .cli import Call
from .conf import Conf, Section, encode_text
from .errors import NoSuchContainer, PveError
from .formats import split_properties

GIB = 1 << 30


def list_containers(call: Call) -> None:
    """Print the containers of this node; nothing at all, not even the header, where there is none."""
    running = call.lab.backend.running_vmids()
    form = "{:<10} {:<10} {:<12} {:<20}"
    lines = []
    for vmid in call.lab.vmids():
        try:
            main = call.lab.load(vmid).main
        except NoSuchContainer:  # destroyed since the directory was read
            continue
        status = "running" if vmid in running else "stopped"
        lines.append(form.format(vmid, status, main.get("lock", ""), main.get("hostname", f"CT{vmid}")))
    if lines:
        print("\n".join([form.format("VMID", "Status", "Lock", "Name"), *lines]))


def status(call: Call) -> None:
    """Print whether a container runs, or all its figures."""
    conf = call.lab.load(call.vmid, missing_rc=2)
    running = call.lab.backend.is_running(call.vmid)
    if not call.flag("verbose"):
        print("status: running" if running else "status: stopped")
        return
    for key, value in sorted(_figures(call, conf.main, running).items()):
        print(f"{key}: {value}")


def _figures(call: Call, main: Section, running: bool) -> dict[str, object]:
    """Return what status --verbose shows."""
    lab, vmid = call.lab, call.vmid
    usage = lab.backend.figures(vmid) if running else {"mem": 0, "swap": 0, "uptime": 0}
    figures: dict[str, object] = {
        "cpus": main.get("cores", os.cpu_count()),
        "disk": storage.SUBVOLUME_KIB * 1024 if running else 0,
        "diskread": 0,
        "diskwrite": 0,
        "maxdisk": _disk_size(call, main),
        "maxmem": int(main.get("memory", 512)) << 20,
        "maxswap": int(main.get("swap", 512)) << 20,
        "mem": usage["mem"],
        "name": main.get("hostname", f"CT{vmid}"),
        "netin": 0,
        "netout": 0,
        "status": "running" if running else "stopped",
        "swap": usage["swap"],
        "type": "lxc",
        "uptime": usage["uptime"],
        "vmid": vmid,
    }
    if running:
        figures["pid"] = usage["pid"]
    return {**figures, **{key: main[key] for key in ("lock", "tags", "template") if key in main}}


def _disk_size(call: Call, main: Section) -> int:
    """Return the size of a container's root file system in bytes; 0 without one."""
    volid = split_properties(main.get("rootfs", ""), "volume").get("volume", "")
    return storage.refquota(storage.path_of(call.lab, volid)) if ":" in volid else 0


def config(call: Call) -> None:
    """Print a container's configuration, by default as it will be after the next start."""
    conf = call.lab.load(call.vmid, missing_rc=2)
    for line in _shown(_section(conf, call)):
        print(line)


def _section(conf: Conf, call: Call) -> Section:
    """Return the section that `pct config` is asked for."""
    if name := call.parameters.get("snapshot"):
        if name not in conf.snapshots:
            raise PveError(f"snapshot '{name}' does not exist")
        return conf.snapshots[name]
    return conf.main if call.flag("current") else conf.with_pending()


def _shown(section: Section) -> list[str]:
    """Return the lines of a section as `pct config` prints them: the description on one line, encoded."""
    lines = [f"{key}: {_shown_value(key, section[key])}" for key in sorted(section)]
    return lines + [f"{key}: {value}" for key, value in section.raw]


def _shown_value(key: str, value: str) -> str:
    return encode_text(value) if key == "description" else value


def pending(call: Call) -> None:
    """Print the configuration with what changes at the next start."""
    conf = call.lab.load(call.vmid, missing_rc=2)
    deleted = conf.pending_deletions()
    for key in sorted({*conf.main, *conf.pending} - {"delete"}):
        if key in conf.main:
            print(f"cur {key}: {_shown_value(key, conf.main[key])}")
        if key in conf.pending:
            print(f"new {key}: {_shown_value(key, conf.pending[key])}")
        elif key in deleted:
            print(f"del {key}: {_shown_value(key, conf.main[key])}")


def list_snapshots(call: Call) -> None:
    """Print a container's snapshots as a tree that ends in the present."""
    conf = call.lab.load(call.vmid, missing_rc=2)
    children: dict[str, list[str]] = {}
    for name in sorted(conf.snapshots, key=lambda name: (int(conf.snapshots[name].get("snaptime", 0)), name)):
        children.setdefault(conf.snapshots[name].get("parent", ""), []).append(name)
    children.setdefault(conf.main.get("parent", ""), []).append("current")
    _print_snapshots(conf, children, "", "`->")


def _print_snapshots(conf: Conf, children: dict[str, list[str]], parent: str, prefix: str) -> None:
    """Print the snapshots below a parent, each generation one blank further in."""
    for name in children.get(parent, []):
        section = conf.snapshots.get(name, Section())
        taken = int(section.get("snaptime", 0))
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(taken)) if taken else ""
        words = "You are here!" if name == "current" else section.get("description", "").rstrip("\n")
        print(f"{prefix} {name:<{30 - len(prefix)}} {when:<23} {words}")
        if name != "current":
            _print_snapshots(conf, children, name, f" {prefix}")


def disk_free(call: Call) -> None:
    """Print the sizes of a container's volumes."""
    main = call.lab.load(call.vmid, missing_rc=2).main
    rows: list[tuple[str, ...]] = [("MP", "Volume", "Size", "Used", "Avail", "Use%", "Path")]
    names = ["rootfs", *sorted(key for key in main if key.startswith("mp"))]
    rows += [_volume_row(call, name, split_properties(main.get(name, ""), "volume")) for name in names]
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    for row in rows:
        print(" ".join([*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[6]]))


def _volume_row(call: Call, name: str, pairs: dict[str, str]) -> tuple[str, ...]:
    """Return the row of one mount point."""
    volid = pairs.get("volume", "")
    size = storage.refquota(storage.path_of(call.lab, volid)) if ":" in volid else 0
    used = min(size, storage.SUBVOLUME_KIB * 1024)
    share = used / size if size else 0
    gib = [f"{number / GIB:.1f}G" for number in (size, used, size - used)]
    return (name, volid, *gib, f"{share:.1f}", pairs.get("mp", "/"))


def execute(call: Call) -> int:
    """Run a command inside a container, by default a shell; return its exit code."""
    call.lab.load(call.vmid, missing_rc=2)
    if not call.lab.backend.is_running(call.vmid):
        raise PveError(f"container '{call.vmid}' not running!")
    call.switches.middle()
    words = [word for word in call.parameters.get("extra-args", "").split("\0") if word]
    return call.lab.backend.execute(call.vmid, words, call.flag("keep-env"))


def push(call: Call) -> None:
    """Copy a file into a container."""
    call.lab.load(call.vmid, missing_rc=2)
    if not call.lab.backend.is_running(call.vmid):
        raise PveError("can only push files to a running CT")
    owner = ":".join(call.parameters.get(key, "") for key in ("user", "group")).rstrip(":")
    source, target, perms = (call.parameters.get(key, "") for key in ("file", "destination", "perms"))
    call.lab.backend.push(call.vmid, source, target, owner, perms)


def pull(call: Call) -> None:
    """Copy a file out of a container."""
    call.lab.load(call.vmid, missing_rc=2)
    if not call.lab.backend.is_running(call.vmid):
        raise PveError("can only pull files from a running VM at /usr/share/perl5/PVE/CLI/pct.pm line 540.")
    call.lab.backend.pull(call.vmid, call.parameters["path"], call.parameters["destination"])
