"""The roles that a blueprint's steps play: what each says of itself in `meta/blueprint.yml`, beside its argument_specs.

`configure-wordpress` is the role `configure_wordpress`, of the collection or else of the site's own folder (`ROLES_DIR`).
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shim.config import PREFIX, Settings
from shim.errors import CloudPodsError

_OURS = Path("collections/ansible_collections/migra/cloudpods/roles")
_META = Path("meta/blueprint.yml")
STEP = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
# What a role's variables take of the stack's secrets, `stack.secrets.name` or `stack.secrets['name']`.
_SECRET = re.compile(r"stack\.secrets(?:\.|\[['\"])([a-z][a-z0-9_]*)")


Needed = Literal["dns.zone", "dns.reverse_zone", "dns.server", "dns.key_name", "dns.key_secret", "pod_key_file"]


class Role(BaseModel):
    """What a role says of itself: on which of a stack's pods it runs, after which other roles, and what the stack must have."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    runs_on: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    variables: Annotated[dict[str, Any], Field(default_factory=dict)]
    # What the house must have set, as `stack.settings` tells it; where it has not, the step is left out.
    settings: tuple[Needed, ...] = ()
    undo: bool = False
    outputs: Annotated[dict[str, str], Field(default_factory=dict)]

    def secrets(self) -> set[str]:
        """Return the names of the stack's secrets that its variables speak of."""
        return set(_SECRET.findall(repr(self.variables)))


# Given a step's name, what its role says; None when there is none.
Roles = Callable[[str], Role | None]
# Given the settings that a role needs, those of them that the house has not set, as they are called there.
House = Callable[[tuple[Needed, ...]], list[str]]


def of(settings: Settings) -> Roles:
    """Return a way to find roles by the names of steps."""
    folders = [settings.project_dir / _OURS, *([settings.roles_dir] if settings.roles_dir else [])]

    def find(step: str) -> Role | None:
        if len(step) > 64 or not STEP.fullmatch(step):
            return None
        files = (folder / named(step) / _META for folder in folders)
        return next((_read(file) for file in files if file.is_file()), None)

    return find


def house(settings: Settings) -> House:
    """Return a way to ask what the house has not set."""

    def lacks(needed: tuple[Needed, ...]) -> list[str]:
        names = [name.replace(".", "_") for name in needed]
        return [f"{PREFIX}{name.upper()}" for name in names if getattr(settings, name) is None]

    return lacks


def named(step: str) -> str:
    """Return the name of a step's role."""
    return step.replace("-", "_")


def _read(file: Path) -> Role:
    try:
        return Role.model_validate(yaml.safe_load(file.read_text()) or {})
    except (OSError, yaml.YAMLError, ValidationError) as error:
        # The site's own fault, which no client can mend: the log has it.
        raise CloudPodsError(f"{file} is unusable: {error}", code="bad_role") from error
