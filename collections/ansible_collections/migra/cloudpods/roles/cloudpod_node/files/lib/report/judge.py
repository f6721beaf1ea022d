"""The verdict on a pod: level and words of everything worth saying about its figures, with number and threshold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import guest

VERDICTS = ("ok", "warning", "critical")  # in rising order
# So long a guest takes to start: what does not answer yet is not ill.
STARTING_S = 60
GUEST_LEVELS = {
    "initializing": "warning", "starting": "warning", "running": "ok", "degraded": "warning", "maintenance": "critical",
    "stopping": "warning", guest.HUNG: "critical", guest.NO_SYSTEMD: "ok",
}  # fmt: skip

Reason = tuple[str, str]


class Thresholds(NamedTuple):
    """Percentages from which something is said."""

    memory_warning: int = 85
    memory_critical: int = 95
    swap_warning: int = 80
    disk_warning: int = 85
    disk_critical: int = 95

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Thresholds:
        """Return those that the environment names in capitals, the others as they are by default."""
        return cls(**{name: int(value) for name in cls._fields if (value := environment.get(name.upper()))})


def verdict(reasons: list[Reason]) -> dict:
    """Return the worst level and all words, as a row shows them."""
    worst = max((level for level, _ in reasons), key=VERDICTS.index, default="ok")
    return {"verdict": worst, "reasons": [words for _, words in reasons]}


def judge_running(row: dict, thresholds: Thresholds) -> list[Reason]:
    """Return what is to say about the figures of a running pod."""
    return [
        *judge_memory(row["memory"], thresholds),
        *judge_share("swap", row["swap"], [("warning", thresholds.swap_warning)]),
        *judge_disk(row["disk"], thresholds),
        *judge_answers(row),
    ]


def judge_memory(memory: dict, thresholds: Thresholds) -> list[Reason]:
    """Return what is to say about memory: its share of the limit, and kills for want of it."""
    levels = [("critical", thresholds.memory_critical), ("warning", thresholds.memory_warning)]
    reasons = judge_share("memory", memory, levels)
    if memory["oom_kills"]:
        reasons.append(("warning", f"{memory['oom_kills']} processes killed for want of memory (threshold 1)"))
    return reasons


def judge_disk(disk: dict, thresholds: Thresholds) -> list[Reason]:
    """Return what is to say about the root disk; a stopped pod's may be full too."""
    levels = [("critical", thresholds.disk_critical), ("warning", thresholds.disk_warning)]
    return judge_share("disk", {"used_mb": disk["used_mb"], "limit_mb": disk["size_mb"]}, levels)


def judge_share(what: str, figures: dict, levels: list[tuple[str, int]]) -> list[Reason]:
    """Return the first of the levels, the highest first, that a share of a limit has come to."""
    used, limit = figures["used_mb"], figures["limit_mb"]
    if used is None or not limit:
        return []
    for level, threshold in levels:
        if 100 * used >= threshold * limit:
            # Rounded down: 84.9 is not yet 85.
            return [(level, f"{what} {100 * used // limit} % of {limit} MB is at or above {threshold} %")]
    return []


def judge_answers(row: dict) -> list[Reason]:
    """Return what is to say about network and guest; of one that is starting, nothing worse than ok."""
    found: list[Reason] = []
    if row["reachable"] is False:
        found.append(("critical", f"{row['ip']} answers neither ICMP nor ARP (waited 1 s)"))
    if row["guest"] in GUEST_LEVELS and row["guest"] != "running":
        found.append((GUEST_LEVELS[row["guest"]], f"guest: {row['guest']}"))
    if row["uptime_s"] < STARTING_S:
        return [("ok", f"{words}; started {row['uptime_s']} s ago (threshold {STARTING_S} s)") for _level, words in found]
    return [each for each in found if each != ("ok", f"guest: {guest.NO_SYSTEMD}")]
