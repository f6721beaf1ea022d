"""The command `cloudpods`. Each command loads what it needs only when it runs, so that all of them start fast."""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any, get_args

import click
import peewee

from shim import config, db, log, migrations
from shim.caller import UserRole
from shim.errors import CloudPodsError
from shim.jobs_cli import jobs


class _Commands(click.Group):
    """Says errors in a line, without a trace: they have a reason a person can act on."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except CloudPodsError as error:
            click.echo(f"cloudpods: {error.message}", err=True)
            ctx.exit(1)
        except peewee.ProgrammingError as error:
            click.echo(f"cloudpods: {db.first_line(error)}; run `cloudpods migrate` first", err=True)
            ctx.exit(1)


@click.group(cls=_Commands)
@click.option("--state-dir", type=click.Path(path_type=Path, file_okay=False), help="State folder (CLOUDPODS_STATE_DIR).")
@click.option("--verbose", "-v", is_flag=True, help="Say more on stderr.")
@click.version_option(package_name="migra-cloudpods")
@click.pass_context
def main(ctx: click.Context, state_dir: Path | None, verbose: bool) -> None:
    """CloudPods: a small cloud out of Proxmox nodes."""
    # What a person types speaks to a person; the processes ask the settings.
    log.configure("console", "INFO" if verbose else "WARNING")
    ctx.obj = {"state_dir": state_dir.absolute()} if state_dir else {}
    if verbose:
        ctx.obj["log_level"] = "INFO"


main.add_command(jobs)


@main.command()
@click.option(
    "--workers",
    default=2,
    show_default=True,
    type=click.IntRange(1, 64),
    help="Worker processes; of several, one takes no long jobs.",
)
@click.option("--host", help="Address the API listens on.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port the API listens on.")
@click.pass_obj
def up(obj: dict[str, Any], workers: int, host: str | None, port: int | None) -> None:
    """Run everything in this terminal: PostgreSQL and Redis unless settings name them, API, workers, scheduler."""
    from shim.embedded import up as all_in_one

    state_dir = obj.get("state_dir") or Path(str(config.given().get("state_dir", config.default_state_dir()))).absolute()
    given = {"host": host, "port": port, "log_level": obj.get("log_level")}
    overrides = {name: value for name, value in given.items() if value is not None}
    all_in_one.main(state_dir, workers=workers, **overrides)


@main.command()
@click.pass_obj
def api(obj: dict[str, Any]) -> None:
    """Serve the API (gunicorn)."""
    settings = _process(obj)
    # gunicorn's own processes read the settings again; the state folder is the only word they need for it.
    os.environ[f"{config.PREFIX}STATE_DIR"] = str(settings.state_dir)
    if settings.log_level:
        os.environ[f"{config.PREFIX}LOG_LEVEL"] = settings.log_level
    # The figures of gunicorn's processes; those of earlier ones would be added to them.
    figures = settings.state_dir / "metrics"
    shutil.rmtree(figures, ignore_errors=True)
    figures.mkdir(parents=True, mode=0o700)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(figures)
    options = {
        "bind": f"{settings.host}:{settings.port}",
        "workers": settings.api_processes,
        "threads": settings.api_threads + settings.api_streams,
        "worker-class": "shim.web.server.Server",
        "worker-connections": 500,
        "graceful-timeout": 10,
        "keep-alive": 30,
        "logger-class": "shim.log.GunicornLogger",
    }
    words = [f"--{name}={value}" for name, value in options.items()]
    os.execv(sys.executable, [sys.executable, "-m", "gunicorn", *words, "--no-control-socket", "shim.wsgi:application()"])


@main.command()
@click.option("--queues", help="Queues to listen to, with commas; all without it.")
@click.pass_obj
def worker(obj: dict[str, Any], queues: str | None) -> None:
    """Run jobs."""
    from shim.jobs.catalog import QUEUES
    from shim.worker.main import main as work

    chosen = tuple(queues.split(",")) if queues else QUEUES
    unknown = sorted(set(chosen) - set(QUEUES))
    if unknown:
        raise click.BadParameter(f"unknown queue {unknown[0]}; known are {', '.join(QUEUES)}", param_hint="--queues")
    work(_process(obj), chosen)


@main.command()
@click.pass_obj
def scheduler(obj: dict[str, Any]) -> None:
    """Announce queued jobs, settle lost ones, do what is due by the clock."""
    from shim.scheduler.main import main as schedule

    schedule(_process(obj))


@main.command()
@click.option("--sql", is_flag=True, help="Print the schema for `psql -f` instead of applying it.")
@click.pass_obj
def migrate(obj: dict[str, Any], sql: bool) -> None:
    """Bring the database's schema up to date. Only creates and adds; the panel's own tables stay untouched."""
    if sql:
        click.echo(migrations.as_sql(), nl=False)
        return
    _connect(obj)
    with db.session():
        applied = migrations.upgrade()
    click.echo("\n".join(f"applied {name}" for name in applied) or "nothing to do")


@main.command()
@click.option("--tenant", default="TENANT-123", show_default=True, help="The tenant's id: the panel's own string.")
@click.option("--plan", default="cloud-basic", show_default=True, help="The plan's id.")
@click.option("--owner", default="owner@example.com", show_default=True, help="The owner's e-mail address.")
@click.option("--node", default="lab1", show_default=True, help="The node's name in the inventory.")
@click.option("--region", default="migra-us-east-1", show_default=True)
@click.option("--pool", default="10.1.10.50-10.1.10.249", show_default=True, help="The node's address range.")
@click.option("--gateway", default="10.1.10.1", show_default=True, help="The gateway of that range.")
@click.option("--max-jobs", default=4, show_default=True, type=click.IntRange(1, 64), help="Jobs at a time on the node.")
@click.pass_obj
def seed(obj: dict[str, Any], /, **options: Any) -> None:
    """Make a first tenant with plan and quota, a node with its address pool, and the blueprints that come with the collection.

    What is there stays as it is.
    """
    from shim.blueprints import shipped
    from shim.cloudpods.seed import seed as sow

    settings = config.load(**obj)
    db.connect(settings.database_url, pool_size=1)
    with db.session():
        for line in [*sow(**options), *shipped.seed(settings)]:
            click.echo(line)


@main.command()
@click.option("--node", required=True, help="The node's name in the inventory.")
@click.option("--vmid", type=click.IntRange(100, 999_999_999), help="The container to take over; without it they are listed.")
@click.option("--tenant", help="The tenant it is to belong to.")
@click.option("--dry-run", is_flag=True, help="Say what would be written, and write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.option("--wait", "wait_s", default=300.0, show_default=True, help="Seconds to wait for each job.")
@click.pass_obj
def adopt(obj: dict[str, Any], /, **options: Any) -> None:
    """List the containers in a node's pool that are no pods of ours, or make one of them a pod. Needs a running worker."""
    from shim.cloudpods import adopt_by_hand
    from shim.jobs.queue import Wakeups

    if (options["vmid"] is None) != (options["tenant"] is None):
        raise click.UsageError("--vmid and --tenant belong together")
    if options["dry_run"] and options["vmid"] is None:
        raise click.UsageError("--dry-run needs --vmid and --tenant")
    settings = config.load(**obj)
    db.connect(settings.database_url, pool_size=1)
    for line in adopt_by_hand.run(Wakeups(settings.redis_url), **options):
        click.echo(line)


@main.group()
def quota() -> None:
    """What tenants may use and use."""


@quota.command("recount")
@click.option("--tenant", help="Of this tenant only.")
@click.option("--nodes", is_flag=True, help="Also look at the nodes, and take the pods' real sizes. Needs a running worker.")
@click.option("--dry-run", is_flag=True, help="Say what differs, and write nothing; ends with 1 if something does.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of lines.")
@click.option("--wait", "wait_s", default=300.0, show_default=True, help="Seconds to wait for each node's look.")
@click.pass_obj
def quota_recount(obj: dict[str, Any], /, **options: Any) -> None:
    """Compare pods, ledger, quotas and shares of nodes, while everything runs, and mend what differs."""
    from shim.cloudpods import recount_by_hand
    from shim.jobs.queue import Wakeups

    settings = config.load(**obj)
    db.connect(settings.database_url, pool_size=1)
    for line in recount_by_hand.run(Wakeups(settings.redis_url) if options["nodes"] else None, **options):
        click.echo(line)


@main.group()
def nodes() -> None:
    """The nodes that pods run on."""


@nodes.command("sync")
@click.argument("names", metavar="[NODE]...", nargs=-1)
@click.option("--wait", "wait_s", default=300.0, show_default=True, help="Seconds to wait for each job.")
@click.pass_obj
def nodes_sync(obj: dict[str, Any], names: tuple[str, ...], wait_s: float) -> None:
    """Ask nodes for their cores, memory and storages, all of them without a name. Needs a running worker."""
    from shim.cloudpods import sync_by_hand
    from shim.jobs.queue import Wakeups

    settings = config.load(**obj)
    db.connect(settings.database_url, pool_size=1)
    for line in sync_by_hand.run(Wakeups(settings.redis_url), names, wait_s):
        click.echo(line)


@nodes.command("list")
@click.pass_obj
def nodes_list(obj: dict[str, Any]) -> None:
    """List the nodes, their states and pods, and what is free of each."""
    from shim.cloudpods import fleet_by_hand

    _connect(obj)
    for line in fleet_by_hand.table():
        click.echo(line)


@nodes.command("cordon")
@click.argument("names", metavar="NODE...", nargs=-1, required=True)
@click.pass_obj
def nodes_cordon(obj: dict[str, Any], names: tuple[str, ...]) -> None:
    """Keep new pods away from nodes."""
    _set_status(obj, names, "cordoned")


@nodes.command("drain")
@click.argument("names", metavar="NODE...", nargs=-1, required=True)
@click.pass_obj
def nodes_drain(obj: dict[str, Any], names: tuple[str, ...]) -> None:
    """Keep new pods away from nodes that are to be emptied, and say how many pods remain; Proxmox moves them."""
    _set_status(obj, names, "draining")


@nodes.command("uncordon")
@click.argument("names", metavar="NODE...", nargs=-1, required=True)
@click.pass_obj
def nodes_uncordon(obj: dict[str, Any], names: tuple[str, ...]) -> None:
    """Let new pods in again, after a cordon or drain."""
    _set_status(obj, names, "active")


def _set_status(obj: dict[str, Any], names: tuple[str, ...], status: str) -> None:
    from shim.cloudpods import fleet_by_hand

    _connect(obj)
    for line in fleet_by_hand.set_status(names, status):
        click.echo(line)


@main.group()
def token() -> None:
    """Credentials of the API."""


@token.command("create")
@click.argument("name", default="panel")
@click.option("--tenant", help="The tenant a user's token is for; without it, it is a service's.")
@click.option("--role", type=click.Choice(get_args(UserRole)), help="What the user may do there.")
@click.option("--user", help="The user's id: the panel's own string.")
@click.option("--expires-days", type=click.IntRange(1, 3650), help="Days it is good for; without it, until it is revoked.")
@click.pass_obj
def token_create(obj: dict[str, Any], /, **options: Any) -> None:
    """Make a token and print its secret; it is not shown again."""
    from shim.tenants.grant import grant
    from shim.tenants.token_schemas import CreateToken
    from shim.web.body import parse

    names = {"name": "name", "tenant": "tenantId", "role": "role", "user": "userId", "expires_days": "expiresInDays"}
    wanted = parse(CreateToken, {names[name]: value for name, value in options.items() if value is not None})
    _connect(obj)
    with db.session():
        click.echo(grant(wanted).secret)


@token.command("list")
@click.option("--tenant", help="Only those bound to this tenant.")
@click.pass_obj
def token_list(obj: dict[str, Any], tenant: str | None) -> None:
    """List the tokens, newest first, also expired and revoked ones."""
    from shim.tenants.tokens import ApiToken

    _connect(obj)
    with db.session():
        for found in ApiToken.newest(tenant):
            click.echo(found.as_line())


@token.command("revoke")
@click.argument("token_id")
@click.pass_obj
def token_revoke(obj: dict[str, Any], token_id: str) -> None:
    """Make a token worthless from now on; `token list` shows the ids."""
    from shim.tenants.grant import revoke

    _connect(obj)
    with db.session():
        revoke(token_id)
    click.echo(f"token {token_id}: revoked")


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of lines.")
@click.pass_obj
def check(obj: dict[str, Any], as_json: bool) -> None:
    """Try what the settings name and every node, and say what to do about each fault."""
    from shim.worker.check import run

    tried = []
    for each in run(config.load(**obj)):
        tried.append(each)
        if not as_json:
            click.echo(f"{'ok   ' if each.fine else 'FAULT'} {each.name}" + ("" if each.fine else f": {each.hint}"))
    if as_json:
        click.echo(json.dumps([each.as_json() for each in tried]))
    faults = sum(not each.fine for each in tried)
    if faults:
        raise CloudPodsError(f"{faults} fault{'s' if faults > 1 else ''}")


def _process(obj: dict[str, Any]) -> config.Settings:
    """Return the settings of a process that stays, which speaks as they say."""
    settings = config.load(**obj)
    log.configure(settings.log_format, settings.log_level)
    return settings


@main.command()
def openapi() -> None:
    """Print the API's OpenAPI document, which the API itself serves at /openapi.json."""
    from shim import app

    click.echo(json.dumps(app.document(), indent=2))


def _connect(obj: dict[str, Any]) -> None:
    db.connect(config.load(**obj).database_url, pool_size=1)


if __name__ == "__main__":
    main()
