"""A whole CloudPods as a person runs it: `cloudpods up` in a process of its own, over a node laid by the playbook."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import requests

from shim.process import end_with_parent
from tests.processes import has_ended

REPOSITORY = Path(__file__).resolve().parents[1]
TENANT, OTHER_TENANT = "TENANT-123", "TENANT-456"
DEADLINE_S = 300.0
OVER = ("success", "failed", "cancelled")


class Stack:
    """A running stack below a folder. `url` and `token` reach its API, `lab` is its node's root."""

    def __init__(self, home: Path, *, inventory: str = "inventories/lab", node: str = "lab1", lab: Path | None = None) -> None:
        self.state_dir = home / "state"
        self.inventory, self.node = inventory, node
        self.lab = lab or home / "lab" / node
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        settings = {"CLOUDPODS_LAB_DIR": str(home / "lab"), "CLOUDPODS_INVENTORY": str(REPOSITORY / inventory)}
        self.environment = {name: value for name, value in os.environ.items() if name != "CLOUDPODS_TEST_LAB"} | settings
        self.session = requests.Session()
        self._up: subprocess.Popen[bytes] | None = None

    def lay_lab(self, *nodes: str) -> None:
        """Lay the node, or these nodes, with the project's own playbook."""
        limit = ",".join(nodes or (self.node,))
        self._run(_program("ansible-playbook"), "-i", self.inventory, "playbooks/lab.yml", "--limit", limit)

    def start(self, *, workers: int = 2, said: Path | None = None) -> None:
        """Run `cloudpods up` and wait until its API is well. What it says goes to the terminal, or to the file `said`."""
        command = [*self._cloudpods(), "up", "--port", str(self.port), "--workers", str(workers)]
        # In a session of its own, it would outlive a test run that is killed.
        orphaned = end_with_parent(signal.SIGINT)
        with said.open("ab") if said else nullcontext() as output:
            self._up = subprocess.Popen(
                command,
                env=self.environment,
                cwd=REPOSITORY,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=orphaned,
            )
        wait_until(lambda: self._ended() or self.healthy(), "the stack is up")
        assert not self._ended()

    def stop(self) -> list[psutil.Process]:
        """Send Ctrl-C to `up` and wait; return what is left running of all it started."""
        up, self._up = self._up, None
        if up is None:
            return []
        assert up.poll() is None, f"`up` ended with {up.returncode} by itself"
        started = psutil.Process(up.pid).children(recursive=True)
        up.send_signal(signal.SIGINT)
        assert up.wait(180) == 0
        return [process for process in started if not has_ended(process)]

    def _ended(self) -> bool:
        return self._up is None or self._up.poll() is not None

    def seed(self, *options: str) -> None:
        """Make two tenants on the node, and a token."""
        for tenant in (TENANT, OTHER_TENANT):
            owner = f"{tenant.lower()}@example.com"
            self._run(*self._cloudpods(), "seed", "--tenant", tenant, "--owner", owner, "--node", self.node, *options)
        token = self._run(*self._cloudpods(), "token", "create", "test").strip()
        self.session.headers["Authorization"] = f"Bearer {token}"

    def cloudpods(self, *words: str) -> str:
        """Run the command `cloudpods`, which must end well; return what it says."""
        return self._run(*self._cloudpods(), *words)

    def healthy(self) -> bool:
        """Return whether API, database and Redis answer."""
        try:
            return bool(requests.get(f"{self.url}/healthz", timeout=2).json()["status"] == "ok")
        except (requests.RequestException, ValueError):
            return False

    def get(self, path: str, **query: object) -> dict[str, Any]:
        """Return the answer of a GET that must succeed."""
        answer = self.session.get(self.url + path, params=query, timeout=20)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def post(self, path: str, **body: object) -> requests.Response:
        """Return the answer of a POST, whatever it is."""
        return self.session.post(self.url + path, json=body, timeout=20)

    def delete(self, path: str, **query: str) -> dict[str, Any]:
        """Return the answer of a DELETE that must be taken."""
        answer = self.session.delete(self.url + path, params=query, timeout=20)
        assert answer.status_code == 202, answer.text
        return dict(answer.json())

    def create(self, **changes: object) -> dict[str, Any]:
        """Order a pod; return the answer of the accepted order."""
        order = {"tenantId": TENANT, "hostname": "client-portal", "cores": 1, "memoryMb": 512, **changes}
        answer = self.post("/internal/cloudpods", **order)
        assert answer.status_code == 202, answer.text
        return dict(answer.json())

    def finished(self, job_id: str) -> dict[str, Any]:
        """Wait until a job is over; return it."""
        wait_until(lambda: self.get(f"/internal/jobs/{job_id}")["status"] in OVER, f"job {job_id} is over")
        return self.get(f"/internal/jobs/{job_id}")

    def done(self, path: str, **body: object) -> dict[str, Any]:
        """Order a change, which must be taken; return its finished job."""
        answer = self.post(path, **body)
        assert answer.status_code == 202, answer.text
        return self.finished(answer.json()["job"]["id"])

    def node_log(self) -> list[dict[str, Any]]:
        """Return the lines of the node's own log."""
        log = self.lab / "log/migra-cloudpods.log"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def runs(self, vmid: int) -> bool:
        """Return whether the container runs on the node."""
        return f"@/var/lib/lxc/{vmid}/command\n" in (self.lab / "run/net-unix").read_text()

    def switch(self, *argv: object) -> None:
        """Run lab-switch."""
        self._run(str(self.lab / "bin/lab-switch"), *(str(word) for word in argv))

    def processes(self, *, of: str) -> list[psutil.Process]:
        """Return the stack's processes whose command line contains a text, oldest first."""
        assert self._up is not None
        found = []
        for process in psutil.Process(self._up.pid).children(recursive=True):
            try:
                if of in " ".join(process.cmdline()):
                    found.append(process)
            except psutil.NoSuchProcess:
                continue
        return sorted(found, key=lambda process: process.pid)

    def playbooks(self) -> list[psutil.Process]:
        """Return the processes of runs: those of ansible-playbook, but for what stands ready to become one."""
        return [process for process in self.processes(of="ansible-playbook") if not is_warm(process)]

    def services(self) -> list[psutil.Process]:
        """Return what `up` runs, and what came to it when its parent died."""
        assert self._up is not None
        return psutil.Process(self._up.pid).children()

    def kill(self, of: str) -> None:
        """SIGKILL the stack's processes whose command line contains a text."""
        for process in self.processes(of=of):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def _cloudpods(self) -> list[str]:
        return [sys.executable, "-m", "shim.cli", "--state-dir", str(self.state_dir)]

    def _run(self, *command: str) -> str:
        done = subprocess.run(command, env=self.environment, cwd=REPOSITORY, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout


class Database:
    """The stack's database, past the shim."""

    def __init__(self, stack: Stack) -> None:
        self._url = json.loads((stack.state_dir / "settings.json").read_text())["database_url"]

    @contextmanager
    def session(self) -> Iterator[Any]:
        """Lend a cursor; each statement is a transaction of its own."""
        connection = psycopg2.connect(self._url, options="-c search_path=cloudpods,public")
        connection.autocommit = True
        try:
            yield connection.cursor()
        finally:
            connection.close()

    def __call__(self, statement: str, *parameters: object) -> list[Any]:
        """Return the rows of a statement."""
        with self.session() as cursor:
            cursor.execute(statement, parameters or None)
            return cursor.fetchall() if cursor.description else []


def is_warm(process: psutil.Process) -> bool:
    """Return whether this is a process that keeps Ansible loaded."""
    try:
        return any(word.endswith("warm/serve.py") for word in process.cmdline())
    except psutil.NoSuchProcess:
        return False


def wait_until(condition: Callable[[], object], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Return as soon as the condition holds; fail after a deadline."""
    deadline = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {deadline_s:g} s: {what}"
        time.sleep(0.05)


def _program(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
