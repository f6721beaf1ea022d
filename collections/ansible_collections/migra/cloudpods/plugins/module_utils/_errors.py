# Copyright: (c) 2026, MigraTeck
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The errors of the modules. Raised low, translated once: a module's main hands ``result()`` to fail_json."""

from __future__ import annotations

NOTHING = 'nothing'


class CloudPodError(Exception):
    """What ends a module.

    ``retryable`` says whether the same call may succeed later, ``left_behind`` what remains on the node.
    Both belong to the error because only the place that raises it knows.
    """

    def __init__(self, msg: str, retryable: bool = False, left_behind: str = NOTHING, **details: object) -> None:
        super().__init__(msg)
        self.msg = msg
        self.retryable = retryable
        self.left_behind = left_behind
        self.details = details

    def result(self) -> dict:
        """Return the keyword arguments of fail_json."""
        return dict(self.details, msg=self.msg, retryable=self.retryable, left_behind=self.left_behind)


class BadParameter(CloudPodError):
    """Parameters that break a rule. ``problems`` maps each one's name to its rule, in words."""

    def __init__(self, problems: dict[str, str]) -> None:
        text = '; '.join(f'{name}: {rule}' for name, rule in problems.items())
        super().__init__(text, parameters=list(problems))


class Refused(CloudPodError):
    """The pod is not the caller's to touch, or is not as asked. Nothing was done."""


class Foreign(Refused):
    """The container is somebody else's. Nothing was done."""

    def for_a_new_pod(self) -> Foreign:
        """Return the error with what a program needs to choose again: of what the new pod was to get, the vmid is taken."""
        self.details['taken'] = 'vmid'
        return self


class Busy(CloudPodError):
    """Another run holds the pod's lock on the node. Nothing was done; later it may work."""

    def __init__(self, msg: str, **details: object) -> None:
        super().__init__(msg, retryable=True, **details)


class ScriptFailed(CloudPodError):
    """A script that could not be started, did not end well, did not end in time or was not understood."""
