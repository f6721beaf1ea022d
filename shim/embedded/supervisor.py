"""Child processes kept alive: started in order, started again when they die, stopped in reverse, nothing left behind."""

import contextlib
import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

from shim.errors import SettingsError
from shim.process import collect_zombies, end_descendants, end_with_parent

log = logging.getLogger(__name__)

_POLL_S = 0.2
_START_POLL_S = 0.05
_RESTART_PAUSE_S = 1.0


@dataclass(frozen=True, eq=False)
class Service:
    """A process to keep running.

    `uid` None: as we are. `stop_s`: how long it may take to stop. `output`: a descriptor, None for ours.
    """

    name: str
    argv: list[str]
    stop_signal: str = "SIGTERM"
    stop_s: float = 15.0
    uid: int | None = None
    gid: int | None = None
    output: int | None = None


class Supervisor:
    """Runs services until told to stop."""

    def __init__(self) -> None:
        self._order: list[Service] = []  # as first started; a restart does not change it
        self._running: dict[Service, subprocess.Popen[bytes]] = {}
        self._start_at: dict[Service, float] = {}
        self.stopping = False

    def start(self, service: Service) -> None:
        """Start a service. It is in a session of its own, so Ctrl-C reaches only us, and ends should we be killed."""
        if service not in self._order:
            self._order.append(service)
        self._running[service] = subprocess.Popen(
            service.argv,
            cwd="/" if service.uid is not None else None,
            stdin=subprocess.DEVNULL,
            stdout=service.output,
            stderr=service.output,
            user=service.uid,
            group=service.gid,
            extra_groups=[] if service.uid is not None else None,
            start_new_session=True,
            # Safe: this process has no other thread when it starts a service.
            preexec_fn=end_with_parent(getattr(signal, service.stop_signal)),  # noqa: PLW1509
        )

    def wait_until(self, service: Service, ready: Callable[[], bool], within_s: float) -> bool:
        """Wait until a service is ready; False when we are told to stop meanwhile.

        Raises SettingsError when it ends by itself or takes too long.
        """
        deadline = time.monotonic() + within_s
        while not ready():
            if self.stopping:
                return False
            ended = self._running[service].poll()
            if ended is not None:
                raise SettingsError(f"{service.name} ended with {ended} instead of starting")
            if time.monotonic() > deadline:
                raise SettingsError(f"{service.name} did not start in {within_s:g} s")
            time.sleep(_START_POLL_S)
        return True

    def watch(self) -> None:
        """Keep the services running until `stopping` is set."""
        while not self.stopping:
            for service, process in list(self._running.items()):
                if process.poll() is not None:
                    log.warning("%s ended with %s, starting it again", service.name, process.returncode)
                    del self._running[service]
                    self._start_at[service] = time.monotonic() + _RESTART_PAUSE_S
            for service in [s for s, at in self._start_at.items() if at <= time.monotonic()]:
                del self._start_at[service]
                self.start(service)
            self._collect_orphans()
            time.sleep(_POLL_S)

    def _collect_orphans(self) -> None:
        """Take note of ended processes that came to us when their parents died; the services' own ends are `poll`ed."""
        own = {process.pid for process in self._running.values()}
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and ended.si_pid not in own:
                os.waitpid(ended.si_pid, os.WNOHANG)

    def stop(self) -> None:
        """Stop what runs, what was started last first, those of one kind together; then end whatever is left below us."""
        groups: dict[str, list[Service]] = {}
        for service in (service for service in self._order if service in self._running):
            groups.setdefault(service.name.split(" ")[0], []).append(service)
        for services in reversed(groups.values()):
            self._stop_together(services)
        self._running.clear()
        end_descendants()
        collect_zombies()

    def _stop_together(self, services: list[Service]) -> None:
        for service in services:
            if self._running[service].poll() is None:
                self._running[service].send_signal(getattr(signal, service.stop_signal))
        deadline = time.monotonic() + max(service.stop_s for service in services)
        for service in services:
            try:
                self._running[service].wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.warning("%s did not stop in %g s, killing it", service.name, service.stop_s)
                self._running[service].kill()
                self._running[service].wait()
