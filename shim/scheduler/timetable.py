"""The timetable: name, interval, function. Each function is safe to run at any time and any number of times."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import redis

from shim.blueprints import saga
from shim.cloudpods import backup_schedule, mend, node_sync, reconcile, sweep
from shim.config import Settings
from shim.jobs import looks, many, reap, stranded
from shim.jobs.catalog import ACTIONS, FORGOTTEN, ONE_PER_NODE
from shim.jobs.log_models import CloudPodJobLog
from shim.jobs.queue import Wakeups
from shim.tenants.kept_answers import KeptAnswer

log = logging.getLogger(__name__)

# As many wake-ups wait for workers as could soon be taken; more would only be found empty later.
MAX_WAITING = 20

LOOK_S = 10.0
FORGET_S = 3600.0
# Some thousand pieces each time.
FORGET_LOGS_S = 60.0
# A drill by hand is not to wait for as long as backups come.
TURN_S = 600.0
# How many ended looks of each type and node are kept: four hours of sweeps.
KEEP_LOOKS = 48


@dataclass(frozen=True)
class Entry:
    """Something to do every `interval_s` seconds."""

    name: str
    interval_s: float
    function: Callable[[], None]


def entries(settings: Settings, wakeups: Wakeups) -> tuple[Entry, ...]:
    """Return the timetable."""
    sweeps = (
        # A look at the table by far more often than a sweep is due, so that a restart delays none.
        Entry("sweep nodes", min(settings.health_sweep_s, LOOK_S), lambda: sweep_nodes(wakeups, settings.health_sweep_s)),
    )
    return (
        *_looks(settings, wakeups),
        *(sweeps if settings.health_sweep_s else ()),
        Entry("fail stranded jobs", LOOK_S, stranded.fail_unbegun),
        Entry("cancel jobs out of reach", LOOK_S, stranded.cancel_out_of_reach),
        Entry("go on with deployments", settings.tick_s, lambda: wakeups.announce(saga.advance_due())),
        Entry("mend drift", LOOK_S, lambda: wakeups.announce(mend.mend_due())),
        Entry("forget old looks at nodes", FORGET_S, forget_old_looks),
        Entry("forget old Idempotency-Keys", FORGET_S, KeptAnswer.forget_old),
        Entry("forget old logs", FORGET_LOGS_S, lambda: forget_old_logs(settings.job_log_keep_days)),
        Entry("collect lost jobs", settings.tick_s, collect_lost),
        Entry("let the oldest go first", LOOK_S, lambda: many.let_the_oldest_go_first(list(ONE_PER_NODE), TURN_S)),
        Entry("announce queued jobs", settings.tick_s, lambda: announce(wakeups, settings.announce_after_s)),
        *(
            Entry(f"queue due jobs: {kind.type}", kind.pause_s, partial(queue, wakeups, kind))
            for kind in (backup_schedule.BACKUPS, backup_schedule.DRILLS)
        ),
    )


def queue(wakeups: Wakeups, kind: backup_schedule.Kind) -> None:
    """Queue the backups or drills that are due."""
    wakeups.announce(backup_schedule.queue(kind))


def collect_lost(find: Callable[[], list[tuple[str, str]]] = reap.collect_lost) -> None:
    """Queue again the jobs whose run died; their next run begins with a look at the node."""
    for job_id, type in find():
        log.warning("job %s (%s) was lost by its worker; it is looked into", job_id, type)


# What a scheduler does that is not the one that works: nobody elsewhere sees the processes of its host.
MEANWHILE = Entry("collect this host's lost jobs", 0.0, partial(collect_lost, reap.collect_lost_here))


def sweep_nodes(wakeups: Wakeups, interval_s: float) -> None:
    """Queue a health check of all pods of each node where it is due."""
    wakeups.announce([(job.id, job.type) for job in sweep.order_due(interval_s)])


def _looks(settings: Settings, wakeups: Wakeups) -> list[Entry]:
    kinds: tuple[tuple[str, str, float, dict[str, Any]], ...] = (
        ("compare nodes", reconcile.TYPE, settings.reconcile_s, {"mends": list(settings.reconcile_mends)}),
        ("sync nodes", node_sync.TYPE, settings.node_sync_s, {}),
    )
    return [
        Entry(name, min(interval_s, LOOK_S), partial(look_at_nodes, wakeups, type, interval_s, payload))
        for name, type, interval_s, payload in kinds
        if interval_s
    ]


def look_at_nodes(wakeups: Wakeups, type: str, interval_s: float, payload: dict[str, Any]) -> None:
    """Queue a look of this kind at each node where it is due."""
    wakeups.announce([(job.id, job.type) for job in looks.order_due(type, interval_s, payload)])


def forget_old_looks() -> None:
    """Drop the rows of old looks at nodes: what they saw of pods is with the pods."""
    many.forget_old(list(FORGOTTEN), KEEP_LOOKS)


def forget_old_logs(keep_days: int) -> None:
    """Drop what jobs printed long ago; the logs of looks at nodes went with their jobs."""
    CloudPodJobLog.forget_old(keep_days)


def announce(wakeups: Wakeups, after_s: float) -> None:
    """Wake workers for queued jobs that nobody was woken for lately, whatever Redis still knows."""
    for type in ACTIONS:
        try:
            room = MAX_WAITING - wakeups.waiting(type)
        except redis.RedisError as error:
            log.warning("cannot announce jobs: %s", error)
            return
        if room > 0:
            wakeups.announce(many.to_announce([type], room, after_s))
