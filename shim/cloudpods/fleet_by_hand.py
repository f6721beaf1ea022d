"""`cloudpods nodes list`, `cordon`, `uncordon` and `drain`: what the routes of nodes do, for a terminal."""

from collections.abc import Iterator
from typing import Any

from shim import db
from shim.cloudpods import fleet
from shim.nodes.figures import NodeView
from shim.nodes.models import CloudPodNode

_LEFT = {"freeCpuCores": "cores", "freeMemoryMb": "MB", "freeDiskGb": "GB"}


def table() -> Iterator[str]:
    """Yield a line for each node, by name: its state, its pods, and what is left of it."""
    with db.session():
        views = NodeView.of(list(CloudPodNode.listed().order_by(CloudPodNode.name)))
    for node in (view.as_json() for view in views):
        left = ", ".join(f"{_left(node[name])} {unit}" for name, unit in _LEFT.items())
        yield f"{node['name']}: {node['status']}, region {node['region']}, {_pods(node)}, free: {left}"


def set_status(names: tuple[str, ...], status: str) -> Iterator[str]:
    """Write a status and yield a line for each node. Raises CloudPodsError for the first that cannot have it."""
    for name in names:
        with db.session():
            node = fleet.set_status(name, status).as_json()
        yield f"{name}: {node['status']}, {_pods(node)}"


def _left(number: int | None) -> str:
    return "unknown" if number is None else str(number)


def _pods(node: dict[str, Any]) -> str:
    return f"{node['pods']} pod{'' if node['pods'] == 1 else 's'}"
