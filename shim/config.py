"""The settings: one frozen object read from the environment, checked at start, refused when anything is unknown.

Every setting is `CLOUDPODS_<NAME>`; each may be given as `CLOUDPODS_<NAME>_FILE`, a file that holds the value, so that
secrets need not stand in the environment. `docs/settings.md` lists them from this class.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shim.errors import SettingsError

PREFIX = "CLOUDPODS_"
# The folder that holds playbooks/, collections/ and ansible.cfg: beside the package in a checkout.
CHECKOUT = Path(__file__).resolve().parent.parent


class Settings(BaseModel):
    """Everything a process of the control plane is told from outside."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    database_url: Annotated[str, Field(description="PostgreSQL, as libpq URL: postgresql://user:password@host/name")]
    redis_url: Annotated[str, Field(description="Redis, as URL: redis://host:6379/0 or unix:///path/to/socket")]
    inventory: Annotated[Path, Field(description="Ansible inventory that names the nodes")] = CHECKOUT / "inventories/lab"
    project_dir: Annotated[Path, Field(description="Folder with playbooks/, collections/ and ansible.cfg")] = CHECKOUT
    state_dir: Annotated[Path, Field(description="Where run directories and sockets go")] = Path("/var/lib/cloudpods")
    host: Annotated[str, Field(description="Address the API listens on")] = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535, description="Port the API listens on")] = 8765
    api_processes: Annotated[int, Field(ge=1, le=64, description="Processes of the API")] = 2
    api_threads: Annotated[int, Field(ge=1, le=64, description="Threads of each API process")] = 4
    region: Annotated[str, Field(description="Region of a pod that names none")] = "migra-us-east-1"
    vmid_first: Annotated[int, Field(ge=100, description="Lowest vmid a request may name; those below are the site's own")] = 1000
    vmid_auto_first: Annotated[int, Field(ge=100, description="Where the vmids that the shim picks begin")] = 10000
    vmid_last: Annotated[int, Field(le=999_999_999, description="Highest vmid of a pod")] = 999_999_999
    lease_s: Annotated[float, Field(gt=1, description="How long a worker may hold a job without a sign of life")] = 30.0
    announce_after_s: Annotated[float, Field(gt=0, description="A queued job is announced again after this long")] = 10.0
    tick_s: Annotated[float, Field(gt=0, description="How often the scheduler looks")] = 1.0
    stop_grace_s: Annotated[float, Field(ge=0, description="How long a stopping worker may finish its run")] = 20.0


def load(environ: Mapping[str, str] | None = None, **overrides: object) -> Settings:
    """Given an environment (this process's by default), return the settings; `overrides` win over it.

    Raises SettingsError naming each setting that is unknown, missing or wrong.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, object] = {**_fallbacks(environ), **_own(environ), **overrides}
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError("; ".join(_explain(dict(e)) for e in error.errors())) from None


def _own(environ: Mapping[str, str]) -> dict[str, object]:
    values: dict[str, object] = {}
    for key, value in environ.items():
        if not key.startswith(PREFIX):
            continue
        name = key.removeprefix(PREFIX).lower()
        if name.endswith("_file"):
            name, value = name.removesuffix("_file"), _read(key, value)
        if name in values:
            raise SettingsError(f"{PREFIX}{name.upper()} is given both directly and as a file; keep one")
        values[name] = value
    # The lab's own variable: read by inventories/lab, not by the shim.
    values.pop("lab_dir", None)
    return values


def _read(key: str, path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError as error:
        raise SettingsError(f"{key}: cannot read {path}: {error.strerror}; create the file or unset {key}") from error


def _fallbacks(environ: Mapping[str, str]) -> dict[str, object]:
    """Return what the seeds' own variable names say, for a site that already sets them."""
    if "REDIS_HOST" not in environ:
        return {}
    return {"redis_url": f"redis://{environ['REDIS_HOST']}:{environ.get('REDIS_PORT', '6379')}/0"}


def _explain(error: dict[str, object]) -> str:
    loc = error["loc"]
    name = PREFIX + str(loc[0] if isinstance(loc, tuple) and loc else "").upper()
    if error["type"] == "missing":
        hint = Settings.model_fields[name.removeprefix(PREFIX).lower()].description
        return f"{name} is not set ({hint}); set it, or run `cloudpods up`, which brings its own"
    if error["type"] == "extra_forbidden":
        return f"{name} is no setting of CloudPods; remove it or correct its spelling"
    return f"{name}={error.get('input')!r}: {error['msg']}"
