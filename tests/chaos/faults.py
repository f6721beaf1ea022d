"""The kinds of faults, each of which is over by itself, and what makes them at random."""

from __future__ import annotations

import contextlib
import json
import os
import random
import time
from collections.abc import Callable
from concurrent.futures import Future, wait

import psutil
import redis

from tests.chaos.world import World
from tests.stack import Stack

Fault = Callable[[World, random.Random], "str | None"]

# What the node's commands are made to fail at.
COMMANDS = (
    "pct create",
    "pct start",
    "pct destroy",
    "pct set",
    "pct shutdown",
    "pct snapshot",
    "pct rollback",
    "pct delsnapshot",
    "pct restore",
    "vzdump",
)


def kill_worker(world: World, dice: random.Random) -> str | None:
    """Kill a worker: its child goes on without it."""
    return _kill(dice, workers(world.stack))


def kill_child(world: World, dice: random.Random) -> str | None:
    """Kill the child of a worker, in which a job runs."""
    return _kill(dice, [child for worker in workers(world.stack) for child in children(worker)])


def kill_worker_and_child(world: World, dice: random.Random) -> str | None:
    """Kill a worker that runs a job, and its child: nobody is left who knows of the run."""
    busy = [worker for worker in workers(world.stack) if children(worker)]
    if not busy:
        return None
    worker = dice.choice(busy)
    for process in (worker, *children(worker)):
        _end(process)
    return f"killed {worker.pid} and its child"


def kill_playbook(world: World, dice: random.Random) -> str | None:
    """Kill an ansible-playbook."""
    return _kill(dice, world.stack.processes(of="ansible-playbook"))


def kill_script(world: World, dice: random.Random) -> str | None:
    """Kill a node's script; what it called goes on."""
    return _kill(dice, world.node.named("cloudpod-"))


def kill_api(world: World, dice: random.Random) -> str | None:
    """Kill the API, or one of its processes."""
    return _kill(dice, world.stack.processes(of="gunicorn") or world.stack.processes(of=" api"))


def kill_scheduler(world: World, dice: random.Random) -> str | None:
    """Kill the scheduler."""
    return _kill(dice, world.stack.processes(of=" scheduler"))


def kill_redis(world: World, dice: random.Random) -> str | None:
    """Kill Redis, which keeps nothing on disk: it comes back empty."""
    return _kill(dice, world.stack.processes(of="redis-server"))


def wipe_redis(world: World, dice: random.Random) -> str | None:
    """Take all that Redis knows."""
    try:
        redis.Redis.from_url(_setting(world.stack, "redis_url")).flushall()
    except redis.RedisError:
        return None
    return "wiped"


def crash_postgres(world: World, dice: random.Random) -> str | None:
    """Kill a process of PostgreSQL that serves somebody: the server ends all connections and recovers."""
    return _kill(dice, world.stack.processes(of="postgres: cloudpods"))


def kill_postgres(world: World, dice: random.Random) -> str | None:
    """Kill PostgreSQL's first process: nothing of it is left until it is started anew."""
    return _kill(dice, world.stack.processes(of="bin/postgres -D"))


def fail_command(world: World, dice: random.Random) -> str | None:
    """Have a node's command fail once before it did anything."""
    return _fail(world, dice)


def fail_command_half_way(world: World, dice: random.Random) -> str | None:
    """Have a node's command fail once in the middle of its work."""
    return _fail(world, dice, "--half")


def cut_ssh(world: World, dice: random.Random) -> str | None:
    """Cut the way to the node, and mend it some seconds later: what runs there goes on, and nobody hears of it."""
    if world.ssh is None:
        return None
    pause_s = dice.uniform(0.5, 5.0)
    world.ssh.cut()
    time.sleep(pause_s)
    world.ssh.mend()
    return f"for {pause_s:.1f} s"


def slow_node(world: World, dice: random.Random) -> str | None:
    """Have the node's commands take some time from now on."""
    delay_s = round(dice.uniform(0, 0.8), 2)
    world.stack.switch("delay", "*", delay_s)
    return f"{delay_s} s"


# At most so many times longer than otherwise is waited from one fault to the next.
SLOWEST = 4.0
# How often each is made, by weight.
FAULTS: dict[Fault, int] = {
    kill_worker: 3,
    kill_child: 3,
    kill_worker_and_child: 3,
    kill_playbook: 2,
    kill_script: 2,
    kill_api: 2,
    kill_scheduler: 2,
    kill_redis: 2,
    wipe_redis: 1,
    crash_postgres: 2,
    kill_postgres: 1,
    cut_ssh: 3,
    fail_command: 2,
    fail_command_half_way: 3,
    slow_node: 2,
}


def make_until(over: Future[None], world: World, seed: int, every_s: tuple[float, float]) -> list[str]:
    """Make a fault every few seconds until something is over; return which were made when. Call in the main thread."""
    dice, began, made = random.Random(seed), time.monotonic(), []
    while not wait([over], dice.uniform(*every_s) * slowness()).done:
        (fault,) = dice.choices(list(FAULTS), list(FAULTS.values()))
        done = fault(world, dice)
        made.append(f"{time.monotonic() - began:6.1f} s  {fault.__name__}: {done or 'nothing to hit'}")
    world.stack.switch("reset")
    return made


def slowness() -> float:
    """Return how many times longer things take here now than on a machine of our own: what is always killed gets nowhere."""
    return min(max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)), SLOWEST)


def children(worker: psutil.Process) -> list[psutil.Process]:
    """Return the processes that a worker forked to run a job in."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return [child for child in worker.children() if _is_worker(child)]
    return []


def workers(stack: Stack) -> list[psutil.Process]:
    """Return the workers themselves, and children whose worker was killed."""
    return [process for process in stack.services() if _is_worker(process)]


def _is_worker(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return "worker" in process.cmdline()
    return False


def _kill(dice: random.Random, found: list[psutil.Process]) -> str | None:
    if not found:
        return None
    victim = dice.choice(found)
    _end(victim)
    return f"killed {victim.pid}"


def _end(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill()


def _fail(world: World, dice: random.Random, *further: str) -> str:
    command = dice.choice(COMMANDS)
    world.stack.switch("fail", command, "--times", 1, "--message", f"{command} failed as it was told to", *further)
    return command


def _setting(stack: Stack, name: str) -> str:
    return str(json.loads((stack.state_dir / "settings.json").read_text())[name])
