"""The settings: one frozen object read from the environment, checked at start, refused when anything is unknown.

Every setting is `CLOUDPODS_<NAME>`; each may be given as `CLOUDPODS_<NAME>_FILE`, a file that holds the value, so that
secrets need not stand in the environment. `docs/settings.md` lists them from this class.
"""

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    IPvAnyNetwork,
    ValidationError,
    model_validator,
)

from shim.errors import SettingsError

PREFIX = "CLOUDPODS_"
# Where `cloudpods up` keeps the settings it made, for its own processes and for commands typed beside it.
REMEMBERED = "settings.json"
# The folder that holds playbooks/, collections/ and ansible.cfg: beside the package in a checkout.
CHECKOUT = Path(__file__).resolve().parent.parent

# A restore drill of pod N runs as container DRILL_VMIDS + N (playbooks/restore_drill.yml): no pod's vmid is that high.
DRILL_VMIDS = 900_000_000
# PostgreSQL, the scripts and Proxmox agree on nine digits.
HIGHEST_VMID = 999_999_999


# What no message may quote.
_SECRET = ("database_url", "redis_url", "jwt_key", "metrics_token", "dns_key_secret")


def default_state_dir() -> Path:
    """Return where state goes when nothing says otherwise."""
    if os.geteuid() == 0:
        return Path("/var/lib/cloudpods")
    return Path(os.environ.get("XDG_STATE_HOME", Path.home() / ".local/state")) / "cloudpods"


def _words(value: object) -> object:
    """Return the words of a list with commas."""
    return tuple(word.strip() for word in value.split(",") if word.strip()) if isinstance(value, str) else value


def _object(value: object) -> object:
    """Return what a text says in JSON."""
    return json.loads(value) if isinstance(value, str) else value


def _rate(value: str) -> str:
    # Costs as much as all else that a command loads.
    import limits  # noqa: PLC0415

    with contextlib.suppress(ValueError):
        found = limits.parse_many(value)
        if len(found) == 1 and found[0].amount > 0:
            return value
    raise ValueError("must be a number per time, such as 600/minute or 20 per 5 seconds")


class Settings(BaseModel):
    """Everything a process of the control plane is told from outside."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    database_url: Annotated[str, Field(description="PostgreSQL, as libpq URL: postgresql://user:password@host/name")]
    redis_url: Annotated[str, Field(description="Redis, as URL: redis://host:6379/0 or unix:///path/to/socket")]
    inventory: Annotated[Path, Field(description="Ansible inventory that names the nodes")] = CHECKOUT / "inventories/lab"
    project_dir: Annotated[Path, Field(description="Folder with playbooks/, collections/ and ansible.cfg")] = CHECKOUT
    state_dir: Annotated[
        Path,
        Field(default_factory=default_state_dir, description="Where run directories, sockets and embedded servers go"),
    ]
    host: Annotated[str, Field(description="Address the API listens on")] = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535, description="Port the API listens on")] = 8765
    api_processes: Annotated[int, Field(ge=1, le=64, description="Processes of the API")] = 2
    api_threads: Annotated[int, Field(ge=1, le=64, description="Threads of each API process")] = 4
    api_streams: Annotated[
        int, Field(ge=0, le=256, description="Streams of events at a time in each API process, each with a thread of its own")
    ] = 16
    stream_s: Annotated[float, Field(gt=0, description="How long a stream of events lasts; then its client comes again")] = 25.0
    metrics_open: Annotated[bool, Field(description="Whether /metrics is open to whoever reaches the API, without a token")] = (
        False
    )
    metrics_token: Annotated[
        str | None, Field(repr=False, min_length=32, description="A token of 32 characters or more that may read /metrics only")
    ] = None
    trusted_proxies: Annotated[
        tuple[IPvAnyNetwork, ...],
        BeforeValidator(_words),
        Field(description="Addresses and networks, with commas, of proxies whose `X-Forwarded-For` is believed"),
    ] = ()
    region: Annotated[str, Field(description="Region of a pod that names none")] = "migra-us-east-1"
    vmid_first: Annotated[int, Field(ge=100, description="Lowest vmid a request may name; those below are the site's own")] = (
        1000
    )
    vmid_auto_first: Annotated[int, Field(ge=100, description="Where the vmids that the shim picks begin")] = 10000
    vmid_last: Annotated[
        int, Field(lt=DRILL_VMIDS, description="Highest vmid of a pod; from 900000000 on they are the restore drills'")
    ] = DRILL_VMIDS - 1
    lease_s: Annotated[float, Field(gt=1, description="How long a worker may hold a job without a sign of life")] = 30.0
    announce_after_s: Annotated[float, Field(gt=0, description="A queued job is announced again after this long")] = 10.0
    health_sweep_s: Annotated[float, Field(ge=0, description="How often the pods of each node are checked; 0: never")] = 300.0
    reconcile_s: Annotated[
        float, Field(ge=0, description="How often each node is compared with the table (docs/drift.md); 0: never")
    ] = 900.0
    reconcile_mends: Annotated[
        tuple[Literal["power", "size", "moved"], ...],
        BeforeValidator(_words),
        Field(description="What a comparison may set right, with commas: power, size, moved; empty: nothing"),
    ] = ("moved",)
    node_sync_s: Annotated[
        float, Field(ge=0, description="How often each node is asked for its cores, memory and storages; 0: never")
    ] = 86400.0
    job_log_keep_days: Annotated[int, Field(ge=1, le=3650, description="Days for which what a job printed is kept")] = 30
    keep_failed_runs_days: Annotated[
        int, Field(ge=0, le=3650, description="Days for which a worker keeps the directory of a run that failed; 0: not at all")
    ] = 7
    keep_failed_runs_mb: Annotated[
        int, Field(ge=0, description="How much those directories may take on a host, in MB; the oldest go first")
    ] = 500
    tick_s: Annotated[float, Field(gt=0, description="How often the scheduler looks")] = 1.0
    log_format: Annotated[
        Literal["json", "console"] | None, Field(description="How lines of the log look: json or console")
    ] = None
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"] | None, Field(description="What the log leaves out: all below this level")
    ] = None
    warm_ansible: Annotated[
        bool, Field(description="Whether a worker keeps a process with Ansible loaded, from which its runs are forked")
    ] = True
    stop_grace_s: Annotated[float, Field(ge=0, description="How long a stopping worker may finish its run")] = 20.0

    roles_dir: Annotated[
        Path | None, Field(description="Folder of the site's own roles that blueprints may play (docs/blueprints.md)")
    ] = None
    dns_zone: Annotated[str | None, Field(min_length=1, description="Zone that blueprints write records of pods to")] = None
    dns_server: Annotated[str | None, Field(min_length=1, description="Name server that takes updates of that zone")] = None
    dns_port: Annotated[int, Field(ge=1, le=65535, description="Its port")] = 53
    dns_reverse_zone: Annotated[
        str | None, Field(min_length=1, description="Zone of the pods' addresses; without it each address's own /24")
    ] = None
    dns_key_name: Annotated[str | None, Field(min_length=1, description="Name of the TSIG key that signs them")] = None
    dns_key_algorithm: Annotated[str, Field(min_length=1, description="Algorithm of that key")] = "hmac-sha256"
    dns_any_name: Annotated[
        bool,
        Field(description="Stacks may have any free name of the zone, not only their tenant's slug and names below"),
    ] = False
    dns_key_secret: Annotated[
        str | None, Field(repr=False, min_length=1, description="That key, in base64; better as a file, `_FILE`")
    ] = None
    pod_user: Annotated[str, Field(min_length=1, description="Who blueprints log in as, into new pods")] = "root"
    pod_key_file: Annotated[Path | None, Field(description="SSH key file with which they do")] = None
    pod_wait_s: Annotated[int, Field(ge=1, description="How long a new pod may take until it lets them in")] = 300
    pod_jump: Annotated[
        dict[str, str | int] | None,
        BeforeValidator(_object),
        Field(description="The jump host on the way to pods, as JSON: host, user, port, private_key_file, known_hosts"),
    ] = None

    rate_create: Annotated[str, AfterValidator(_rate), Field(description="How many pods a tenant may have made in a time")] = (
        "600/minute"
    )
    rate_destroy: Annotated[
        str, AfterValidator(_rate), Field(description="How many pods a tenant may have destroyed in a time")
    ] = "600/minute"
    rate_orders: Annotated[
        str, AfterValidator(_rate), Field(description="How many other orders a tenant may give in a time")
    ] = "600/minute"
    tenant_jobs: Annotated[int, Field(ge=1, description="How many jobs of a tenant may be unfinished at once")] = 2000
    jwt_key: Annotated[
        str | None, Field(repr=False, description="Key of the panel's JWTs: a PEM public key, or a shared secret of 32 bytes")
    ] = None
    jwt_algorithms: Annotated[tuple[str, ...], BeforeValidator(_words), Field(description="Their algorithms, with commas")] = ()
    jwt_issuer: Annotated[str | None, Field(min_length=1, description="Their `iss`; needed with a key")] = None
    jwt_audience: Annotated[str | None, Field(min_length=1, description="Their `aud`; needed with a key")] = None

    @model_validator(mode="after")
    def _jwts_whole(self) -> "Settings":
        if self.jwt_key is None:
            if self.jwt_algorithms or self.jwt_issuer or self.jwt_audience:
                raise ValueError("JWT_ALGORITHMS, JWT_ISSUER and JWT_AUDIENCE are of no use without JWT_KEY")
            return self
        if self.jwt_issuer is None or self.jwt_audience is None:
            raise ValueError("JWT_KEY needs JWT_ISSUER and JWT_AUDIENCE: else a token for somebody else would do here")
        # Costs a fifth of a second: only where there is a key.
        from shim import jwt_key  # noqa: PLC0415

        jwt_key.read(self.jwt_key, self.jwt_algorithms)
        return self

    @model_validator(mode="after")
    def _name_server_whole(self) -> "Settings":
        needed = {
            "DNS_ZONE": self.dns_zone,
            "DNS_SERVER": self.dns_server,
            "DNS_KEY_NAME": self.dns_key_name,
            "DNS_KEY_SECRET": self.dns_key_secret,
        }
        lacking = [name for name, value in needed.items() if value is None]
        if 0 < len(lacking) < len(needed):
            raise ValueError(f"{', '.join(sorted(needed))} belong together: {', '.join(lacking)} is not set")
        return self

    @model_validator(mode="after")
    def _vmids_in_order(self) -> "Settings":
        if not self.vmid_first <= self.vmid_last or not self.vmid_first <= self.vmid_auto_first <= self.vmid_last:
            raise ValueError("the vmids must be in order: VMID_FIRST, VMID_AUTO_FIRST, VMID_LAST")
        return self


def load(**overrides: object) -> Settings:
    """Return the settings: `overrides` before the environment, before what `cloudpods up` remembered in the state folder.

    Raises SettingsError naming each setting that is unknown, missing or wrong.
    """
    values = {**given(), **overrides}
    state_dir = Path(str(values.get("state_dir", default_state_dir())))
    return check({**_remembered(state_dir), **values})


def check(values: Mapping[str, object]) -> Settings:
    """Return these values as settings. Raises SettingsError naming each that is unknown, missing or wrong."""
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError("; ".join(_explain(dict(e)) for e in error.errors())) from None


def given(environ: Mapping[str, str] = os.environ) -> dict[str, object]:
    """Return what an environment says, unchecked."""
    return {**_fallbacks(environ), **_own(environ)}


def names(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Return the environment's variables that are ours to read; those of the lab (`CLOUDPODS_LAB_…`) are its inventories'."""
    return [name for name in environ if name.startswith(PREFIX) and not name.startswith(f"{PREFIX}LAB_")]


def _remembered(state_dir: Path) -> dict[str, object]:
    try:
        found = dict(json.loads((state_dir / REMEMBERED).read_text()))
        # What another release remembered and this one does not know is no fault of whoever starts it.
        return {name: value for name, value in found.items() if name in Settings.model_fields}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError) as error:
        raise SettingsError(f"cannot read {state_dir / REMEMBERED}: {error}; run as who ran `cloudpods up`") from error


def _own(environ: Mapping[str, str]) -> dict[str, object]:
    values: dict[str, object] = {}
    for key in names(environ):
        value = environ[key]
        name = key.removeprefix(PREFIX).lower()
        # A setting may itself be the path of a file.
        plain = name if name in Settings.model_fields else name.removesuffix("_file")
        if plain in values:
            raise SettingsError(f"{PREFIX}{plain.upper()} is given both directly and as a file; keep one")
        values[plain] = value if name == plain else _read(key, value)
    return values


def _read(key: str, path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise SettingsError(f"{key}: cannot read {path}: {reason}; create the file or unset {key}") from error


def _fallbacks(environ: Mapping[str, str]) -> dict[str, object]:
    """Return what the seeds' own variable names say, for a site that already sets them."""
    values: dict[str, object] = {}
    if "REDIS_HOST" in environ:
        values["redis_url"] = f"redis://{environ['REDIS_HOST']}:{environ.get('REDIS_PORT', '6379')}/0"
    if "PROXMOX_HOST" in environ:
        # An inventory that reads PROXMOX_HOST, PROXMOX_USER and PROXMOX_SSH_OPTS itself.
        values["inventory"] = CHECKOUT / "inventories/environment"
    return values


def _explain(error: dict[str, object]) -> str:
    loc = error["loc"]
    if not isinstance(loc, tuple) or not loc:
        # A rule of several settings, which names them; its input is all of them, the secret ones too.
        return str(error["msg"]).removeprefix("Value error, ")
    name = PREFIX + str(loc[0]).upper()
    if error["type"] == "missing":
        hint = Settings.model_fields[name.removeprefix(PREFIX).lower()].description
        return f"{name} is not set ({hint}); set it, or run `cloudpods up`, which brings its own"
    if error["type"] == "extra_forbidden":
        return f"{name} is no setting of CloudPods; remove it or correct its spelling"
    said = "" if loc[0] in _SECRET else f"={error.get('input')!r}"
    return f"{name}{said}: {error['msg']}"
