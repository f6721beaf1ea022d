"""`cloudpods jobs`: what a person at a terminal does with jobs. Each command loads what it needs only when it runs."""

from typing import TYPE_CHECKING, Any, get_args

import click

from shim import config, db

if TYPE_CHECKING:
    from shim.jobs.models import CloudPodJob

WITHIN = click.option("--within", "within_s", default=600.0, show_default=True, help="Seconds to follow it, which goes on.")
AS_JSON = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON instead of lines, of what is followed once it is over."
)


@click.group()
def jobs() -> None:
    """What is to be done, is being done and was done to nodes and pods."""


@jobs.command("list")
@click.option("--status", help="queued, running, success, failed or cancelled.")
@click.option("--type", "type_", help="BACKUP, say; also written in small letters.")
@click.option("--node", help="The node's name.")
@click.option("--tenant", help="The tenant's id.")
@click.option("--pod", help="The pod's vmid or id.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 200), help="How many, the newest first.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.pass_obj
def jobs_list(obj: dict[str, Any], /, **options: Any) -> None:
    """List jobs, newest first."""
    from shim.jobs import by_hand
    from shim.jobs.schemas import JobsQuery, Status

    if options["status"] not in (None, *get_args(Status)):
        raise click.BadParameter(f"must be one of: {', '.join(get_args(Status))}", param_hint="--status")
    _connect(obj)
    with db.session():
        asked = JobsQuery(
            status=options["status"],
            type=by_hand.known_type(options["type_"]),
            node=_node(options["node"]),
            tenantId=options["tenant"],
            cloudPodId=_pod(options["pod"]),
            limit=str(options["limit"]),
        )
    for line in by_hand.listed(asked, as_json=options["as_json"]):
        click.echo(line)


@jobs.command("show")
@click.argument("job_id", metavar="JOB")
@click.option("--follow", "-f", is_flag=True, help="First say what happens to it, to its end; 1 unless that is a success.")
@WITHIN
@AS_JSON
@click.pass_obj
def jobs_show(obj: dict[str, Any], job_id: str, follow: bool, within_s: float, as_json: bool) -> None:
    """Say what is known of a job."""
    _connect(obj)
    _show(job_id, follow, within_s, as_json)


@jobs.command("cancel")
@click.argument("job_id", metavar="JOB")
@click.option("--wait", is_flag=True, help="Say what happens to it, to its end; 1 if it could not be cancelled any more.")
@WITHIN
@AS_JSON
@click.pass_obj
def jobs_cancel(obj: dict[str, Any], job_id: str, wait: bool, within_s: float, as_json: bool) -> None:
    """End a job before it is done: at once if nobody began it, else its run is ended and what it left is looked for."""
    from shim.jobs import by_hand, cancel, unblocked
    from shim.jobs.queue import Wakeups

    settings = _connect(obj)
    with db.session():
        job = cancel.cancel(job_id, by="the operator")
    unblocked.wake_after_cancel(Wakeups(settings.redis_url), job)
    if wait:
        _follow(job_id, within_s, quiet=as_json)
    for line in by_hand.shown(job_id, as_json=as_json):
        click.echo(line)
    if wait:
        by_hand.require(job_id, "cancelled")


@jobs.command("retry")
@click.argument("job_id", metavar="JOB")
@click.option("--follow", "-f", is_flag=True, help="Say what happens to the new job, to its end; 1 unless that is a success.")
@WITHIN
@AS_JSON
@click.pass_obj
def jobs_retry(obj: dict[str, Any], job_id: str, follow: bool, within_s: float, as_json: bool) -> None:
    """Order anew what a failed or cancelled job was to do; shows the new job."""
    from shim.cloudpods import retrying
    from shim.jobs.models import CloudPodJob
    from shim.jobs.schemas import RetryJob

    settings = _connect(obj)
    with db.session():
        job, _, _ = retrying.retry(job_id, RetryJob(), settings)
        first = CloudPodJob.find(job.after_job_id) if job.after_job_id else job
    _announce(settings, first)
    _show(job.id, follow, within_s, as_json)


@jobs.command("tail")
@click.argument("job_id", metavar="JOB")
@click.option("--follow", "-f", is_flag=True, help="Go on to the job's end; 1 unless that is a success.")
@click.pass_obj
def jobs_tail(obj: dict[str, Any], job_id: str, follow: bool) -> None:
    """Print what ansible-playbook printed for a job, in all its attempts and looks at its node."""
    from shim.jobs import by_hand, log_by_hand

    _connect(obj)
    for text in log_by_hand.tailed(job_id, follow=follow):
        click.echo(text, nl=False)
    if follow:
        by_hand.require(job_id, "success")


def _announce(settings: config.Settings, job: "CloudPodJob") -> None:
    from shim.jobs.queue import Wakeups

    Wakeups(settings.redis_url).announce([(job.id, job.type)])


def _show(job_id: str, follow: bool, within_s: float, as_json: bool) -> None:
    from shim.jobs import by_hand

    if follow:
        _follow(job_id, within_s, quiet=as_json)
    for line in by_hand.shown(job_id, as_json=as_json):
        click.echo(line)
    if follow:
        by_hand.require(job_id, "success")


def _follow(job_id: str, within_s: float, *, quiet: bool) -> None:
    from shim.jobs import by_hand

    for line in by_hand.followed(job_id, within_s):
        if not quiet:
            click.echo(line)


def _node(name: str | None) -> str | None:
    """Return the name of a node that is there: a list of one that is not would be empty, and say nothing."""
    from shim.nodes.models import CloudPodNode

    return None if name is None else str(CloudPodNode.named(name).name)


def _pod(reference: str | None) -> str | None:
    from shim.cloudpods.models import CloudPod

    return None if reference is None else str(CloudPod.find(reference).id)


def _connect(obj: dict[str, Any]) -> config.Settings:
    settings = config.load(**obj)
    db.connect(settings.database_url, pool_size=1)
    return settings
