"""In which order things come that name what they come after. Pure functions: pods by role, steps by name."""

from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter


def circle(after: Mapping[str, Sequence[str]]) -> list[str]:
    """Given what each comes after, return a circle among them, its first one again at its end; none: an empty list."""
    try:
        TopologicalSorter(_known_only(after)).prepare()
    except CycleError as error:
        return [str(name) for name in error.args[1]]
    return []


def in_order(after: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the names, each behind all that it comes after; those that are free stand as they were given.

    What is come after and is not there itself is ignored. There must be no circle.
    """
    left = dict(_known_only(after))
    ordered: list[str] = []
    while left:
        # The first that is free, each time: whoever wrote the list meant something by its order.
        name = next(name for name, before in left.items() if not left.keys() & before)
        ordered.append(name)
        del left[name]
    return ordered


def _known_only(after: Mapping[str, Sequence[str]]) -> dict[str, set[str]]:
    return {name: {other for other in before if other in after} for name, before in after.items()}
