"""What was ordered of a stack, and what was answered; asked with the patience of a client whose API is killed now and then."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from tests.chaos.node import Node
from tests.sshd import Nodes, nodes_over_ssh, why_not
from tests.stack import OTHER_TENANT, TENANT, Database, Stack

PATIENCE_S = 60.0
# So many lines of what the stack said are shown when something failed.
SAID = 200


@dataclass(frozen=True)
class Request:
    """An order as it is sent. `jobs`: how many it makes when it is taken."""

    method: str
    path: str
    body: dict[str, Any] | None = None
    jobs: int = 1


@dataclass(frozen=True)
class Given:
    """An order that was given. `mark` is in the payload of each job it made: its reason, or a new pod's name."""

    mark: str
    kind: str
    request: Request
    status: int
    answer: dict[str, Any]


@contextmanager
def running_stack(*, workers: int, **settings: object) -> Iterator[tuple[Stack, Nodes | None]]:
    """Lend a stack with two tenants, and its way to the node by SSH; None where there can be no sshd, and the way is none."""
    home = Path(tempfile.mkdtemp(prefix="cloudpods-chaos-"))
    home.chmod(0o711)
    if reason := why_not():
        print(f"the node is not reached by SSH: {reason}")
    with nullcontext() if reason else nodes_over_ssh(home, "lab1") as ssh:
        said = home / "said.log"
        stack = Stack(home, **({"inventory": str(ssh.inventory)} if ssh else {}))
        stack.environment |= {f"CLOUDPODS_{name.upper()}": str(value) for name, value in settings.items()}
        stack.environment["CLOUDPODS_WARM_ANSIBLE"] = os.environ.get("CHAOS_WARM", "true")
        try:
            stack.lay_lab()
            stack.start(workers=workers, said=said)
            stack.seed("--max-jobs", "6")
            ratio = stack.session.put(f"{stack.url}/internal/nodes/lab1", json={"diskOvercommit": 10}, timeout=20)
            assert ratio.status_code == 200, ratio.text
            yield stack, ssh
            assert stack.stop() == []
        except BaseException:
            # What the processes said of themselves, but for each request: pytest shows it with what failed.
            lines = said.read_text().splitlines() if said.exists() else []
            print("\n".join([line for line in lines if '"event": "request"' not in line][-SAID:]))
            raise
        finally:
            with suppress(AssertionError):
                # It may have ended by itself, which was told.
                stack.stop()
            shutil.rmtree(home, ignore_errors=True)


class World:
    """A stack with two tenants, and all that was ordered of it. `ssh` is its way to the node, if that is one."""

    tenants = (TENANT, OTHER_TENANT)

    def __init__(self, stack: Stack, ssh: Nodes | None, seed: int) -> None:
        self.stack, self.ssh, self.node = stack, ssh, Node(stack.lab)
        self.database = Database(stack)
        self.dice = random.Random(seed)
        self.given: list[Given] = []
        self._marks = 0

    @property
    def jobs(self) -> int:
        """Return how many jobs were ordered and taken."""
        return sum(order.request.jobs for order in self.given if order.status in (200, 202))

    def kinds(self) -> Counter[str]:
        """Return how many orders of each kind were taken."""
        return Counter(order.kind for order in self.given if order.status in (200, 202))

    def mark(self) -> str:
        """Return a name that no other order has."""
        self._marks += 1
        return f"order-{self._marks}"

    def give(self, kind: str, mark: str, request: Request) -> Given:
        """Give an order until it is answered, with one key, and remember it."""
        answer = self._ask(request, {"Idempotency-Key": f"{mark}-{self.dice.getrandbits(64):x}"})
        self.given.append(Given(mark, kind, request, answer.status_code, answer.json()))
        return self.given[-1]

    def look(self, path: str, **query: object) -> dict[str, Any]:
        """Return the answer of a GET."""
        words = "&".join(f"{name}={value}" for name, value in query.items())
        answer = self._ask(Request("GET", f"{path}?{words}"), {})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def pods(self) -> list[dict[str, Any]]:
        """Return all pods that are not deleted."""
        found = self.look("/internal/cloudpods", limit=200)
        assert found["next"] is None, "more pods than one page has"
        return list(found["items"])

    def unfinished(self) -> int:
        """Return how many of the newest jobs are not over."""
        newest = self.look("/internal/jobs", limit=100)["items"]
        return sum(job["status"] in ("queued", "running") for job in newest)

    def story(self, text: str) -> str:
        """Return the events of all jobs and pods that a text names, for whoever has to find out."""
        rows = self.database(
            "SELECT e.created_at::time(2), e.job_id, e.type, e.data->>'action', e.message FROM cloud_pod_events e"
            " WHERE position(e.job_id in %s) > 0 OR position(e.cloud_pod_id in %s) > 0 ORDER BY e.seq",
            text,
            text,
        )
        return "\n".join(f"  {at} {job} {type} {action}: {message}" for at, job, type, action, message in rows)

    def _ask(self, request: Request, headers: dict[str, str]) -> requests.Response:
        """Send until somebody answers who is not busy dying; who gets no answer sends the same again."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            answer = self._answer(request, headers)
            if answer is not None and answer.status_code < 500 and "idempotency_in_flight" not in answer.text:
                return answer
            assert time.monotonic() < deadline, f"no answer within {PATIENCE_S:g} s: {request} {answer and answer.text}"
            time.sleep(0.3)

    def _answer(self, request: Request, headers: dict[str, str]) -> requests.Response | None:
        session, url = self.stack.session, self.stack.url + request.path
        try:
            return session.request(request.method, url, json=request.body, headers=headers, timeout=20)
        except requests.RequestException:
            return None
