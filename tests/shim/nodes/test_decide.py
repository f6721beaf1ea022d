"""The choice of a node by what is known of all: no node takes more than it has, and the same nodes give the same choice."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from shim.nodes.candidates import Candidate, Size, Wish
from shim.nodes.placement import decide

DIMENSIONS = ("cores", "memory_mb", "disk_gb")
STORAGES = ("clients-main", "clients-fast")
SIZES = st.builds(Size, st.integers(0, 8), st.integers(0, 64), st.integers(0, 64))
RATIOS = st.sampled_from([0.5, 1.0, 1.1, 4.0])


@st.composite
def nodes(draw):
    """Return up to six nodes of different names."""
    names = draw(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=6, unique=True))
    return [draw(_node(name)) for name in names]


def _node(name):
    return st.builds(
        Candidate,
        id=st.just(name),
        name=st.just(name),
        status=st.sampled_from(["active", "active", "active", "cordoned", "draining", "offline"]),
        total=st.builds(Size, st.integers(0, 16), st.integers(0, 128), st.integers(0, 128)),
        overcommit=st.tuples(RATIOS, RATIOS, RATIOS),
        used=SIZES,
        storages=st.none() | st.lists(st.sampled_from(STORAGES), unique=True),
        addresses=st.none() | st.integers(0, 5),
        addresses_used=st.integers(0, 5),
        pool_has_ip=st.sampled_from([None, True, False]),
        pods_of_tenant=st.integers(0, 3),
        pods_of_role=st.integers(0, 3),
    )


WISHES = st.builds(
    Wish, SIZES, region=st.just("r"), ip=st.none() | st.just("10.1.10.50"), storage=st.none() | st.sampled_from(STORAGES)
).flatmap(lambda wish: st.just(replace(wish, has_ip=wish.ip is not None)))


def grown(node, size):
    used = Size(node.used.cores + size.cores, node.used.memory_mb + size.memory_mb, node.used.disk_gb + size.disk_gb)
    return replace(node, used=used, addresses_used=node.addresses_used + 1, pods_of_tenant=node.pods_of_tenant + 1)


@examples(max_examples=200, deadline=None)
@given(found=nodes(), wishes=st.lists(WISHES, max_size=12))
def test_pod_after_pod_no_node_takes_more_than_it_may(found, wishes):
    for wish in wishes:
        best, *_ = decide(found, wish)
        if best.refused:
            continue
        node = best.node
        assert node.status == "active"
        assert wish.ip is None or node.pool_has_ip is not False
        assert wish.storage is None or node.storages is None or wish.storage in node.storages
        assert wish.ip is not None or node.addresses is None or node.addresses_used < node.addresses
        after = grown(node, wish.size)
        for name in DIMENSIONS:
            total, asked = getattr(node.total, name), getattr(wish.size, name)
            ratio = node.overcommit[DIMENSIONS.index(name)]
            assert not total or not asked or getattr(after.used, name) <= total * ratio
        found = [after if each is node else each for each in found]


@examples(max_examples=200, deadline=None)
@given(data=st.data(), found=nodes(), wish=WISHES)
def test_the_same_nodes_in_any_order_give_the_same_answer(data, found, wish):
    shuffled = data.draw(st.permutations(found))
    assert decide(shuffled, wish) == decide(found, wish)


@examples(max_examples=200, deadline=None)
@given(found=nodes(), wish=WISHES)
def test_a_node_is_refused_only_when_none_that_fits_comes_behind_it(found, wish):
    judged = decide(found, wish)
    assert sorted(each.node.name for each in judged) == sorted(node.name for node in found)
    assert [bool(each.refused) for each in judged] == sorted(bool(each.refused) for each in judged)
    scores = [each.score for each in judged if not each.refused]
    assert scores == sorted(scores, reverse=True)


ALIKE = {"status": "active", "total": Size(16, 128, 128), "overcommit": (1.0, 1.0, 1.0), "used": Size(0, 0, 0)}
WISH = Wish(Size(1, 1, 1), region="r")


@pytest.mark.parametrize(
    ("worse", "refused"),
    [
        ({"pods_of_tenant": 1}, False),
        ({"pods_of_role": 1}, False),
        ({"used": Size(0, 64, 0)}, False),
        ({"storages": ["clients-fast"]}, True),
        ({"addresses": 3, "addresses_used": 3}, True),
        ({"status": "cordoned"}, True),
    ],
)
def test_what_speaks_against_a_node_moves_it_behind_one_that_is_otherwise_alike(worse, refused):
    found = [Candidate(id="a", name="a", **{**ALIKE, **worse}), Candidate(id="b", name="b", **ALIKE)]
    best, other = decide(found, replace(WISH, storage="clients-main"))
    assert (best.node.name, bool(best.refused), bool(other.refused)) == ("b", False, refused)


def test_a_pod_that_brings_its_address_needs_no_free_one():
    full = Candidate(id="a", name="a", addresses=3, addresses_used=3, **ALIKE)
    assert decide([full], WISH)[0].refused == ("address: all 3 of its address pool are taken",)
    assert decide([full], replace(WISH, has_ip=True))[0].refused == ()
