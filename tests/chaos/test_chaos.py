"""Jobs of all types on a running stack, while whatever can die is killed; then the faults stop, and all must be right.

| from the environment | |
|---|---|
| `CHAOS_SEED` | what the dice begin with; 1 if not given |
| `CHAOS_JOBS` | how many jobs are ordered at least; 60 if not given, `make chaos` gives 250 |

The same seed gives the same orders and faults in the same order; which of them meet depends on the machine.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from shim.jobs.catalog import ACTIONS
from tests.chaos import checks, faults, orders
from tests.chaos.world import World, running_stack
from tests.stack import wait_until

SEED = int(os.environ.get("CHAOS_SEED", "1"))
JOBS = int(os.environ.get("CHAOS_JOBS", "60"))
# What may pass on a machine with much else to do: until all is ordered, and until all is at rest once the faults are over.
ORDERS_S, REST_S = 600 + 10.0 * JOBS, 300 + 1.0 * JOBS
EVERY_S = (1.5, 4.5)
# A sweep comes every few seconds, and never holds anybody up.
UNFINISHED = (
    "SELECT id, type, status, attempt, tries, error FROM cloud_pod_jobs"
    " WHERE status IN ('queued', 'running') AND type <> 'HEALTH_SWEEP'"
)
OLD_SWEEPS = "SELECT id FROM cloud_pod_jobs WHERE status IN ('queued', 'running') AND created_at < now() - interval '60 s'"
UNSEEN = "SELECT count(*) FROM cloud_pods WHERE status = 'active' AND coalesce(last_health_checked, created_at) < %s"

pytestmark = pytest.mark.timeout(ORDERS_S + REST_S + 120)


# What is seldom done by the clock is done often, what the orders do is done by them alone.
CLOCK = {"lease_s": 10, "announce_after_s": 3, "health_sweep_s": 15, "reconcile_s": 0, "node_sync_s": 0}


@pytest.fixture
def world() -> Iterator[World]:
    """Return a running stack of which nothing was ordered yet."""
    with running_stack(workers=3, **CLOCK) as (stack, ssh):
        yield World(stack, ssh, SEED)


def test_after_the_chaos_all_is_right(world):
    print(f"CHAOS_SEED={SEED} CHAOS_JOBS={JOBS}")
    with ThreadPoolExecutor(1) as pool:
        ordering = pool.submit(orders.give_all, world, JOBS, ORDERS_S)
        print("\n".join(faults.make_until(ordering, world, SEED, EVERY_S)))
    ordering.result()
    wait_until(world.stack.healthy, "the stack is well again")
    come_to_rest(world)
    if orders.repair(world):
        come_to_rest(world)
    wait_until(lambda: not world.database(OLD_SWEEPS), "every sweep is over", 120)
    # Deployments are of several pods, and are killed step by step in a test of their own (test_stack_blueprints.py).
    ordered = {type for (type,) in world.database("SELECT DISTINCT type FROM cloud_pod_jobs")}
    assert ordered == set(ACTIONS) - {"BLUEPRINT"}
    wrong = checks.wrong(world)
    assert not wrong, "\n".join([f"seed {SEED}", *wrong, world.story("\n".join(wrong))])


def come_to_rest(world: World) -> None:
    """Wait until every job is over and each pod was looked at since."""
    try:
        wait_until(lambda: not world.database(UNFINISHED), "every job is over", REST_S)
    except AssertionError as error:
        unfinished = "\n".join(" ".join(map(str, row)) for row in world.database(UNFINISHED))
        pytest.fail(f"seed {SEED}: {error}\n{unfinished}\n{world.story(unfinished)}")
    (now,) = world.database("SELECT now()")[0]
    wait_until(lambda: world.database(UNSEEN, now) == [(0,)], "a sweep saw every pod", 120)
