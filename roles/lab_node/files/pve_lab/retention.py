"""Which archives `--prune-backups` lets go."""

from __future__ import annotations

import re
import time

from .errors import ParameterError

_NAMED = re.compile(r"(vzdump-(?:lxc|qemu)-(\d+)-(\d{4}_\d\d_\d\d-\d\d_\d\d_\d\d)\.tar(?:\.\w+)?)\Z")
# The period of an archive, as the part of its time that names it; in the order Proxmox tries them.
PERIODS = {
    "keep-hourly": "%Y %m %d %H",
    "keep-daily": "%Y %m %d",
    "keep-weekly": "%G %V",
    "keep-monthly": "%Y %m",
    "keep-yearly": "%Y",
}
KEYS = ("keep-all", "keep-last", *PERIODS)


def parse(text: str) -> dict[str, int]:
    """Return the numbers of a retention such as `keep-last=3,keep-daily=7`; an empty one keeps all."""
    keep: dict[str, int] = {}
    for part in filter(None, text.split(",")):
        key, _, value = part.partition("=")
        if key not in KEYS or not value.isdigit():
            raise ParameterError(
                {
                    "prune-backups": f"invalid format - format error\nprune-backups.{key}: property is "
                    "not defined in schema and the schema does not allow additional "
                    "properties\n"
                }
            )
        keep[key] = int(value)
    return {} if keep.get("keep-all") else keep


def when(name: str) -> float:
    """Return the time in an archive's name, in seconds since 1970."""
    match = _NAMED.search(name)
    return time.mktime(time.strptime(match[3], "%Y_%m_%d-%H_%M_%S")) if match else 0.0


def to_remove(names: list[str], keep: dict[str, int]) -> list[str]:
    """Return which of one container's archives a retention lets go, oldest first; none of them is protected."""
    if not keep:
        return []
    newest_first = sorted(names, key=when, reverse=True)
    kept = set(newest_first[: keep.get("keep-last", 0)])
    for key, form in PERIODS.items():
        _keep_periods(newest_first, kept, keep.get(key, 0), form)
    return [name for name in reversed(newest_first) if name not in kept]


def _keep_periods(newest_first: list[str], kept: set[str], count: int, form: str) -> None:
    """Add the newest archive of each of the last `count` periods that no kept archive covers."""
    covered = {time.strftime(form, time.localtime(when(name))) for name in kept}
    added: set[str] = set()
    for name in newest_first:
        period = time.strftime(form, time.localtime(when(name)))
        if name in kept or period in covered or period in added:
            continue
        if len(added) >= count:
            return
        added.add(period)
        kept.add(name)
