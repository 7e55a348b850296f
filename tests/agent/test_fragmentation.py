"""The arithmetic of fragmentation, and its agreement with the replica of torch's allocator."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuward.agent.fragmentation import (
    AllocatorState,
    LargeRequests,
    Walked,
    headroom_fast,
    headroom_ratio,
    headroom_safe,
    is_virtual,
    rounding_waste_ratio,
    unusable_free_ratio,
)

MIB = 2**20
GIB = 2**30


@pytest.mark.parametrize(
    ("state", "free", "releasable", "stranded"),
    [
        pytest.param(AllocatorState(100, 100, 0), 0, 0, 0, id="all in use"),
        pytest.param(AllocatorState(100, 60, 0), 40, 40, 0, id="whole segments are free"),
        pytest.param(AllocatorState(100, 60, 40), 40, 0, 40, id="all of it is split"),
        pytest.param(AllocatorState(100, 60, 15), 40, 25, 15, id="some of each"),
        pytest.param(AllocatorState(100, 120, 0), 0, 0, 0, id="more active than reserved"),
        pytest.param(AllocatorState(100, 60, 90), 40, 0, 40, id="more split than free"),
        pytest.param(AllocatorState(0, 0, 0), 0, 0, 0, id="nothing"),
        pytest.param(
            AllocatorState(1000, 900, 0, expandable=True), 100, 50, 50, id="expandable: 5 % unsure"
        ),
        pytest.param(
            AllocatorState(1000, 960, 0, expandable=True), 40, 0, 40, id="expandable: below that"
        ),
        pytest.param(
            AllocatorState(1000, 900, 0, expandable=True, private_reserved=30),
            *(100, 20, 50),
            id="expandable, with a graph's pool",
        ),
        pytest.param(
            AllocatorState(100, 60, 15, private_reserved=10),
            *(40, 15, 15),
            id="a graph's pool: perhaps all of it is free",
        ),
        pytest.param(
            AllocatorState(100, 60, 15, private_reserved=90), 40, 0, 15, id="a large graph's pool"
        ),
        pytest.param(
            AllocatorState(1000, 900, 0, expandable=True, walked=Walked(99, 1)),
            *(100, 99, 1),
            id="expandable: walked",
        ),
        pytest.param(
            AllocatorState(1000, 900, 7, private_reserved=80, walked=Walked(60, 30, 10)),
            *(100, 60, 30),
            id="walked: what graphs keep is neither",
        ),
        pytest.param(
            AllocatorState(1000, 900, 7, walked=Walked(110, 10, pending=20)),
            *(100, 110, 10),
            id="walked: streams will soon be done with some",
        ),
        pytest.param(
            AllocatorState(1000, 900, 7, walked=Walked(500, 400)),
            *(100, 100, 0),
            id="walked: more than there is",
        ),
        pytest.param(
            AllocatorState(1000, 900, 7, walked=Walked(60, 400)),
            *(100, 60, 40),
            id="walked: more stranded than there is",
        ),
    ],
)
def test_releasable_and_stranded(state, free, releasable, stranded):
    assert (free, releasable, stranded) == (state.free, state.releasable, state.stranded)


SIZES = st.integers(0, 2**50)


@given(
    st.builds(
        AllocatorState,
        *[SIZES] * 3,
        expandable=st.booleans(),
        private_reserved=st.one_of(st.just(0), SIZES),
        walked=st.one_of(st.none(), st.builds(Walked, *[SIZES] * 5)),
    )
)
def test_free_memory_is_releasable_or_stranded_or_of_a_private_pool(state):
    is_all = state.walked is None and not state.private_reserved
    pending = state.walked.pending if state.walked else 0
    idle = min(state.reserved, state.free + pending)

    assert 0 <= state.releasable
    assert 0 <= state.stranded
    assert state.releasable + state.stranded <= idle
    assert not is_all or state.releasable + state.stranded == state.free


@pytest.mark.parametrize(
    ("largest_free", "device_free", "safe", "fast"),
    [
        pytest.param(None, 30, 70, 30, id="largest block unknown"),
        pytest.param(20, 30, 70, 30, id="a small hole"),
        pytest.param(90, 30, 90, 90, id="a large hole"),
        pytest.param(50, 30, 70, 50, id="a hole for which no flush is needed"),
    ],
)
def test_headroom(largest_free, device_free, safe, fast):
    walked = Walked(40, 60, largest_free=largest_free)
    state = AllocatorState(200, 100, 60, walked=walked)

    assert safe == headroom_safe(state, device_free)
    assert fast == headroom_fast(state, device_free)


def test_headroom_without_a_walk():
    state = AllocatorState(200, 100, 60)

    assert (70, 30) == (headroom_safe(state, 30), headroom_fast(state, 30))


@pytest.mark.parametrize(
    ("history", "mean"),
    [
        pytest.param([], None, id="nothing"),
        pytest.param([(5, 500)], None, id="one point"),
        pytest.param([(5, 500), (5, 500)], None, id="no request"),
        pytest.param([(5, 500), (7, 800)], 150.0, id="two requests"),
        pytest.param([(5, 500), (7, 800), (0, 0), (1, 10)], 310 / 3, id="reset in between"),
        pytest.param([(5, 500), (6, 400)], None, id="one of both reset"),
    ],
)
def test_mean_large_request(history, mean):
    requests = LargeRequests()
    for at_s, (count, size) in enumerate(history):
        requests.add(at_s, count, size)

    assert mean == requests.mean


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9), st.integers(0, 9), st.booleans())))
def test_the_mean_is_of_the_last_minute_alone(steps):
    """As if what came before the last minute had never been; a reset at any place counts once."""
    requests, seen, now_s = LargeRequests(), [], 0
    count = size = 0
    for passes_s, more, larger, is_reset in steps:
        now_s += passes_s
        count, size = (more, larger) if is_reset else (count + more, size + more * larger)
        requests.add(now_s, count, size)
        requests.forget_before(now_s - 60)
        seen.append((now_s, count, size))
        recent = [one for one in seen if one[0] >= now_s - 60]

        anew = LargeRequests()
        for one in recent:
            anew.add(*one)

        assert anew.mean == requests.mean


@pytest.mark.parametrize(
    ("headroom", "mean", "ratio"), [(100, None, None), (100, 50.0, 2.0), (0, 50.0, 0.0)]
)
def test_headroom_ratio(headroom, mean, ratio):
    assert ratio == headroom_ratio(headroom, mean)


@pytest.mark.parametrize(
    ("reserved", "driver_used", "expected"),
    [
        pytest.param(GIB, GIB, False, id="equal"),
        pytest.param(GIB + 64 * MIB, GIB, False, id="readings of two instants"),
        pytest.param(GIB + 64 * MIB + 1, GIB, True, id="asleep"),
    ],
)
def test_counters_of_memory_that_is_not_mapped(reserved, driver_used, expected):
    assert expected == is_virtual(reserved, driver_used)


@pytest.mark.parametrize(
    ("blocks", "size", "expected"),
    [
        pytest.param([(0, 0)] * 28, 4 * MIB, 1.0, id="nothing free"),
        pytest.param([(8 * MIB, 8)], 4 * MIB, 1.0, id="all in small blocks"),
        pytest.param([(8 * MIB, 1)], 4 * MIB, 0.0, id="one large block"),
        pytest.param([(6 * MIB, 6), (18 * MIB, 2)], 4 * MIB, 0.25, id="a quarter in small ones"),
        pytest.param([(12 * MIB, 3)], 4 * MIB, 0.0, id="just large enough on average"),
        pytest.param([(12 * MIB - 1, 3)], 4 * MIB, 1.0, id="just too small"),
        pytest.param([(8 * MIB, 0), (8 * MIB, 8)], 4 * MIB, 0.5, id="a count that was lost"),
    ],
)
def test_unusable_free_memory(blocks, size, expected):
    """The share of what is free that lies in blocks smaller than a request."""
    assert expected == unusable_free_ratio(blocks, size)


@pytest.mark.parametrize(
    ("active", "requested", "expected"),
    [
        pytest.param(0, 0, 0.0, id="nothing"),
        pytest.param(100, 100, 0.0, id="exact"),
        pytest.param(100, 75, 0.25, id="a quarter"),
        pytest.param(100, 120, 0.0, id="contradicting counters"),
    ],
)
def test_rounding_waste(active, requested, expected):
    assert expected == rounding_waste_ratio(active, requested)
