"""The order that a job came of, for it to be given anew (`retry.py`)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from shim.jobs.models import CloudPodJob


@dataclass(frozen=True, kw_only=True)
class Again:
    """A job's order as it was given: what was `asked`, checked as it was then, and the function that it is given to.

    That one returns the job and its pod, None for a node's own. `reference` is the pod that the order is about, None for a new
    one.
    """

    asked: Any
    give: Callable[[Any], tuple[CloudPodJob, Any]]
    reference: str | None = None
