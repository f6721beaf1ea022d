"""Failures, with the exit code Proxmox's own command would end with."""

from __future__ import annotations


class PveError(Exception):
    """A command failed: `message` goes to stderr as it is, `rc` is the exit code."""

    def __init__(self, message: str, rc: int = 255) -> None:
        super().__init__(message)
        self.message = message
        self.rc = rc


class NoSuchContainer(PveError):
    """The node has no file of that container."""


class Interrupted(PveError):
    """SIGTERM, SIGINT or SIGQUIT arrived: what was begun is to be undone."""


class LeftBehind(PveError):
    """A failure asked for by the switches which, unlike a real one, must leave its half-made things in place."""


class RequestError(PveError):
    """The command line itself is wrong; the command's usage line follows the message."""


class ParameterError(RequestError):
    """Some parameters are wrong: `reasons` maps each one's name to why."""

    def __init__(self, reasons: dict[str, str]) -> None:
        lines = [f"{name}: {reason}" for name, reason in sorted(reasons.items())]
        super().__init__("\n".join(["400 Parameter verification failed.", *lines]))
