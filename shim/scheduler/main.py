"""The scheduler process. Any number may run; the one that holds the advisory lock works, the others wait for it.

Those see meanwhile to the runs that died on their own host, which nobody elsewhere can.
"""

import logging
import signal
import time

import peewee

from shim import db
from shim.config import Settings
from shim.errors import Unavailable
from shim.jobs.queue import Wakeups
from shim.scheduler.timetable import MEANWHILE, Entry, entries

log = logging.getLogger(__name__)

_LOOK_S = 0.2


class _Stop:
    """Whether the process was told to stop. An Event's lock may be held by the very thread that takes the signal."""

    def __init__(self) -> None:
        self.told = False

    def tell(self, *_: object) -> None:
        """Take a signal."""
        self.told = True

    def wait(self, time_s: float) -> None:
        """Wait so long, or until told."""
        until = time.monotonic() + time_s
        while not self.told and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _LOOK_S))


def main(settings: Settings) -> None:
    """Run the timetable until told to stop."""
    stop = _Stop()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop.tell)
    db.connect(settings.database_url, pool_size=1, patience=db.BACKGROUND)
    timetable = entries(settings, Wakeups(settings.redis_url))
    due = dict.fromkeys(timetable, 0.0)
    while not stop.told:
        try:
            # One connection holds the lock for as long as it works; losing it loses the lock, as it must.
            with db.session():
                _work_while_first(due, stop, settings.tick_s)
                _run(MEANWHILE)
        except (Unavailable, peewee.OperationalError, peewee.InterfaceError) as error:
            log.warning("the database went away, trying again: %s", error)
        stop.wait(settings.tick_s)


def _work_while_first(due: dict[Entry, float], stop: _Stop, tick_s: float) -> None:
    if not db.rows("SELECT pg_try_advisory_lock(hashtextextended('cloudpods:scheduler', 0))")[0][0]:
        return
    while not stop.told:
        for entry in [entry for entry, at in due.items() if at <= time.monotonic()]:
            if stop.told:
                return
            due[entry] = time.monotonic() + entry.interval_s
            _run(entry)
        stop.wait(tick_s)


def _run(entry: Entry) -> None:
    try:
        entry.function()
    except (peewee.OperationalError, peewee.InterfaceError):
        raise
    except Exception:
        # One entry's fault must not stop the others; it runs again at its next time.
        log.exception("%s failed", entry.name)
