"""How runs were started: those that should have been warm and were not are counted, by reason, for all hosts together."""

import logging
from collections import Counter

import peewee

from shim import db
from shim.errors import Unavailable

log = logging.getLogger(__name__)

_COUNT = """
INSERT INTO cloud_pod_plain_runs (reason, runs) VALUES (%s, %s)
ON CONFLICT (reason) DO UPDATE SET runs = cloud_pod_plain_runs.runs + excluded.runs
"""


def count(plain: Counter[str]) -> None:
    """Add to what `cloudpods_plain_runs_total` says, and to the log. Nothing depends on it: a database that is away is none."""
    if not plain:
        return
    for reason, runs in plain.items():
        log.warning("%d runs were started by the plain ansible-playbook and not warm: %s", runs, reason)
    try:
        with db.session():
            for reason, runs in plain.items():
                db.database.execute_sql(_COUNT, (reason, runs))
    except (Unavailable, peewee.DatabaseError) as error:
        log.warning("cannot count them: %s", error)
