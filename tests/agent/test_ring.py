"""Points of a series: the ring says what a plain list of the same points would say."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuward.agent.model import Sample, SeriesKey
from gpuward.agent.ring import Ring

KEPT_S, POINTS = 310.0, 310
KEY = SeriesKey("process_allocation_retries_total", gpu="GPU-1", process="server")
# Few values, so that most of a series stands still, as counters do.
STEPS = st.lists(st.tuples(st.integers(-2, 9), st.sampled_from((0.0, 3.0, 3.0, 5.5, 9.0))))


def filled(steps, first=100):
    """Return a ring that was given a point for each step in time, and the points it shall hold."""
    at_s = first
    ring = Ring(Sample(KEY, float(at_s), 3.0))
    expected = [Sample(KEY, float(at_s), 3.0)]
    for step_s, value in steps:
        at_s += step_s
        sample = Sample(KEY, float(at_s), value)
        ring.append(sample)
        if sample.at_s > expected[-1].at_s:
            expected.append(sample)
    return ring, expected[-POINTS:]


def naive_rise(points):
    return sum((max(0.0, now.value - then.value) for then, now in pairwise(points)), 0.0)


@given(STEPS, st.integers(0, 700), st.integers(1, 40), st.floats(0, KEPT_S))
def test_it_is_as_good_as_a_list(steps, calm, every_s, ago_s):
    """Of points in any order, and of a ring that has come round: the newest, and the rise."""
    ring, points = filled([(every_s, 3.0)] * calm + steps)
    since_s = points[-1].at_s - ago_s
    wanted = [point for point in points if point.at_s >= since_s]

    assert ring.since(since_s) == tuple(wanted)
    assert list(ring.figures(since_s)) == [point.value for point in wanted]
    assert ring.rise(since_s) == naive_rise(wanted)
    assert ring.newest == points[-1]


@given(STEPS)
def test_a_point_in_time_counts_from_its_own_second(steps):
    """The limits that matter are those at which a point lies."""
    ring, points = filled(steps)
    points = [point for point in points if point.at_s >= points[-1].at_s - KEPT_S]

    for place, point in enumerate(points):
        assert ring.since(point.at_s) == tuple(points[place:])
        assert ring.rise(point.at_s) == naive_rise(points[place:])


@pytest.mark.parametrize(
    ("every_s", "kept_s", "full"),
    [
        pytest.param(1, 310.0, 310, id="a second"),
        pytest.param(5, 310.0, 63, id="five seconds"),
        pytest.param(30, 310.0, 11, id="half a minute"),
        pytest.param(60, 3_690.0, 62, id="a minute, kept for an hour"),
        pytest.param(600, 310.0, 1, id="seldom"),
    ],
)
def test_a_ring_is_full_after_the_time_that_it_keeps(every_s, kept_s, full):
    """How much memory it takes does not grow for hours, however seldom its points come."""
    ring = Ring(Sample(KEY, 0.0, 0.0), kept_s)
    sizes = []
    for place in range(1, 1_000):
        ring.append(Sample(KEY, float(place * every_s), 0.0))
        sizes.append(len(ring.since(0.0)))

    assert max(sizes) == full
    assert sizes.index(full) * every_s <= kept_s


def test_points_that_come_more_often_than_before_are_all_kept():
    """A lane that was slowed down, and a ring that had come round, do not cost what is new."""
    ring, _ = filled([(30, 1.0)] * 25 + [(1, 2.0)] * 200)

    assert len(ring.since(ring.newest.at_s - 200)) == 201
    assert ring.rise(ring.newest.at_s - KEPT_S) == 1.0


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 3)), max_size=60))
def test_what_is_remembered_is_what_would_be_worked_out(steps):
    """However points come and go out of sight between two questions."""
    ring, _ = filled([])
    since_s, at_s = 0.0, 100.0
    for later_s, points in steps:
        since_s += later_s
        for _ in range(points):
            at_s += 60.0
            ring.append(Sample(KEY, at_s, at_s % 7))

        assert ring.over(since_s, len) == len(ring.since(since_s))
        assert ring.over(since_s, naive_rise) == naive_rise(ring.since(since_s))


def test_of_the_same_points_it_works_out_once():
    """A minute's worth of asking every second costs one answer, until a point is new or gone."""
    asked = []

    def count(points):
        asked.append(len(points))
        return len(points)

    ring, _ = filled([(60, 5.0), (60, 6.0)])
    for since_s in (0.0, 50.0, 100.0, 100.5, 130.0, 160.0):
        ring.over(since_s, count)
    ring.append(Sample(KEY, 280.0, 7.0))
    ring.over(160.0, count)

    assert asked == [3, 2, 3]
