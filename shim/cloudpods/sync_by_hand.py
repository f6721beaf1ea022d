"""`cloudpods nodes sync`: asks nodes what they have, through the same jobs as the clock's, and waits for them."""

from collections.abc import Iterator

from shim import db
from shim.cloudpods import node_sync
from shim.jobs import looks
from shim.jobs.follow import finished
from shim.jobs.queue import Wakeups
from shim.nodes.models import CloudPodNode


def run(wakeups: Wakeups, names: tuple[str, ...], wait_s: float) -> Iterator[str]:
    """Yield a line for each node, all of them without names. Raises CloudPodsError for the first that could not be asked."""
    with db.session():
        chosen = names or looks.may_be_asked()
        jobs = [looks.order(node_sync.TYPE, name, {}) for name in chosen]
    wakeups.announce([(job.id, job.type) for job in jobs])
    for name, job in zip(chosen, jobs, strict=True):
        finished(job.id, wait_s)
        with db.session():
            node = CloudPodNode.named(name)
        storages = ", ".join(node.storages or []) or "none"
        size = f"{node.total_cpu_cores} cores, {node.total_memory_mb} MB, {node.total_disk_gb} GB"
        yield f"{name}: {size}, storages {storages}"
