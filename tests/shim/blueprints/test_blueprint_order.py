"""Orders: each behind what it comes after, as they were given where that says nothing, and circles found."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from shim.blueprints.order import circle, in_order

NAMES = st.sampled_from("abcdefg")
GRAPHS = st.dictionaries(NAMES, st.lists(NAMES, max_size=4), max_size=7)


@given(GRAPHS)
def test_either_there_is_a_circle_or_all_stand_behind_what_they_come_after(graph):
    found = circle(graph)
    if found:
        assert found[0] == found[-1]
        # Each comes after the one before it, or the other way round: it is a walk in the graph.
        steps = list(pairwise(found))
        assert all(a in graph[b] for a, b in steps) or all(b in graph[a] for a, b in steps)
        return
    ordered = in_order(graph)
    assert sorted(ordered) == sorted(graph)
    for name, before in graph.items():
        assert all(ordered.index(other) < ordered.index(name) for other in before if other in graph)


@given(st.lists(NAMES, unique=True))
def test_what_waits_for_nothing_stays_as_it_was_given(names):
    assert in_order({name: [] for name in names}) == names
    assert in_order({name: ["unknown"] for name in names}) == names


def test_only_what_must_move_moves():
    assert in_order({"wordpress": ["database"], "database": [], "dns": []}) == ["database", "wordpress", "dns"]


def test_one_that_comes_after_itself_is_a_circle():
    assert circle({"a": ["a"]}) == ["a", "a"]
