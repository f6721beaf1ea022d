"""`make demo`: a fresh machine to a running stack and a pod provisioned through it.

Lays the simulated node, runs `cloudpods up`, seeds a tenant and a node, orders a pod by HTTP and shows its progress.
With `--once` it stops after that; without, it prints how to go on and stays until Ctrl-C.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from shim.config import CHECKOUT, PREFIX
from shim.errors import CloudPodsError, Unavailable
from shim.process import end_with_parent

_START_S = 120.0
_ACTIVE_S = 120.0
_POLL_S = 0.2
TENANT = "TENANT-123"


@click.command()
@click.option("--once", is_flag=True, help="Stop after the pod is active.")
@click.option("--state-dir", type=click.Path(path_type=Path), default=CHECKOUT / ".state", show_default=True)
@click.option("--port", default=8765, show_default=True, help="Port of the API; another free one if it is taken.")
def main(once: bool, state_dir: Path, port: int) -> None:
    """Show CloudPods at work on this machine."""
    # A kill or a closed terminal must undo what was started, as Ctrl-C does.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    state_dir = state_dir.absolute()
    # The lab stands beside the database that knows its pods: removing one without the other would leave strangers.
    os.environ[f"{PREFIX}LAB_DIR"] = str(state_dir / "lab")
    try:
        ending = _demo(state_dir, _free_port(port), once)
    except CloudPodsError as error:
        raise SystemExit(f"demo failed: {error.message}") from None
    except KeyboardInterrupt:
        ending = "demo stopped; `make demo` goes on with the same data"
    click.echo(ending)


def _demo(state_dir: Path, port: int, once: bool) -> str:
    _lay_lab()
    with _up(state_dir, port):
        _run([*_cloudpods(state_dir), "seed"], "seeding a tenant, a plan and the node lab1")
        token = _run([*_cloudpods(state_dir), "token", "create", "demo"], "making a token").strip()
        client = _Client(f"http://127.0.0.1:{port}", token)
        began = time.monotonic()
        pod = _provision(client)
        ending = f"demo ok: pod {pod['vmid']} active at {pod['ip']} in {time.monotonic() - began:.1f} s"
        if not once:
            _invite(client, state_dir, pod)
            click.echo(ending)
            signal.pause()
    return ending


def _lay_lab() -> None:
    playbook = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "inventories/lab", "playbooks/lab.yml"]
    _run([*playbook, "--limit", "lab1"], "laying the simulated node lab1 (about ten seconds)")


@contextlib.contextmanager
def _up(state_dir: Path, port: int) -> Iterator[None]:
    """Run `cloudpods up` while the block runs; stop it and wait for it on every way out."""
    state_dir.mkdir(parents=True, exist_ok=True, mode=0o711)
    log = state_dir / "up.log"
    click.echo(f"→ starting PostgreSQL, Redis, API, workers and scheduler (log: {log})")
    with log.open("ab") as output:
        command = [*_cloudpods(state_dir), "up", "--port", str(port)]
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            cwd=CHECKOUT,
            start_new_session=True,
            # Safe: the demo has no other thread.
            preexec_fn=end_with_parent(signal.SIGTERM),  # noqa: PLW1509
        )
    try:
        _wait_healthy(process, port, log)
        yield
    finally:
        process.terminate()
        process.wait()


def _wait_healthy(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise Unavailable(f"`cloudpods up` ended with {process.returncode}; its last words: {_tail(log)}")
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=2) as answer:  # nosec B310
            if answer.status == 200:
                return
        time.sleep(_POLL_S)
    raise Unavailable(f"the API did not answer in {_START_S:g} s; the log's last words: {_tail(log)}")


class _Client:
    """The API as a panel calls it."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self.token = token

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the answer. Raises Unavailable with the problem's words when it is not a 2xx."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # nosec B310
                return dict(json.load(answer))
        except urllib.error.HTTPError as error:
            raise Unavailable(f"{method} {path}: {error.code} {error.read().decode(errors='replace')}") from error


def _provision(client: _Client) -> dict[str, Any]:
    """Order a pod and show its job's events until it is active."""
    order = {"tenantId": TENANT, "hostname": "client-portal", "cores": 2, "memoryMb": 2048, "autoIp": True}
    click.echo(f"→ POST /internal/cloudpods {json.dumps(order)}")
    answer = client.call("POST", "/internal/cloudpods", order)
    job_id, pod_id = answer["job"]["id"], answer["cloudPod"]["id"]
    deadline, shown = time.monotonic() + _ACTIVE_S, 0
    while time.monotonic() < deadline:
        events = client.call("GET", f"/internal/jobs/{job_id}/events")["items"]
        for event in events[shown:]:
            click.echo(f"    {event['message']}")
        shown = len(events)
        job = client.call("GET", f"/internal/jobs/{job_id}")
        if job["status"] == "success":
            return client.call("GET", f"/internal/cloudpods/{pod_id}")
        if job["status"] == "failed":
            raise Unavailable(f"the job failed: {job['error']}")
        time.sleep(_POLL_S)
    raise Unavailable(f"the pod was not active after {_ACTIVE_S:g} s; GET {client.url}/internal/jobs/{job_id} says why")


def _invite(client: _Client, state_dir: Path, pod: dict[str, Any]) -> None:
    auth = f"-H 'Authorization: Bearer {client.token}'"
    order = json.dumps({"tenantId": TENANT, "hostname": "second", "cores": 1, "memoryMb": 512})
    click.echo(
        f"""
API      {client.url}
token    {client.token}
state    {state_dir}

order another pod:
  curl -s {auth} -H 'Content-Type: application/json' {client.url}/internal/cloudpods -d '{order}'
look at this one:
  curl -s {auth} {client.url}/internal/cloudpods/{pod["vmid"]}

Ctrl-C stops everything; the data stays.
"""
    )


def _run(command: list[str], what: str) -> str:
    click.echo(f"→ {what}")
    done = subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT, check=False)
    if done.returncode != 0:
        raise Unavailable(f"{what}: {command[0]} ended with {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def _cloudpods(state_dir: Path) -> list[str]:
    return [sys.executable, "-m", "shim.cli", "--state-dir", str(state_dir)]


def _free_port(wanted: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-1500:]


if __name__ == "__main__":
    main()
