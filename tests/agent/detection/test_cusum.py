"""CUSUM against its recursion, Siegmund's approximation, and the onset that it tells."""

from __future__ import annotations

import random
import statistics
from math import exp

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuward.agent.detection.cusum import new_cusum

DEVIATIONS = st.lists(st.floats(-5.0, 5.0), max_size=200)
NO_BOUND = float("inf")


@given(DEVIATIONS)
def test_both_sides_follow_the_recursion(deviations):
    """S = max(0, S + z - k) upwards, and the same of -z downwards."""
    cusum, up, down = new_cusum(0.0), 0.0, 0.0
    for place, deviation in enumerate(deviations):
        cusum.add(deviation, 0.5, float(place), NO_BOUND)
        up, down = max(0.0, up + deviation - 0.5), max(0.0, down - deviation - 0.5)

    assert (cusum.up.total, cusum.down.total) == pytest.approx((up, down))


@given(DEVIATIONS)
def test_the_onset_is_the_last_zero(deviations):
    cusum, totals = new_cusum(-1.0), []
    for place, deviation in enumerate(deviations):
        cusum.add(deviation, 0.5, float(place), NO_BOUND)
        totals.append(cusum.up.total)
    zeros = [place for place, total in enumerate(totals) if total == 0.0]

    assert cusum.up.zero_s == (float(zeros[-1]) if zeros else -1.0)


@given(DEVIATIONS)
def test_each_excursion_ends_with_its_peak(deviations):
    """Once, when it is at 0 again; what never left 0 ends with 0."""
    cusum, told, peaks, peak = new_cusum(0.0), [], [], 0.0
    for place, deviation in enumerate([*deviations, -5.0] * 3):
        told.append(cusum.add(deviation, 0.5, float(place), NO_BOUND))
        peak = max(peak, cusum.up.total)
        if cusum.up.total == 0.0:
            peaks.append(peak)
            peak = 0.0

    assert [p for p in peaks if p] == [t for t in told if t]


def test_one_wild_point_is_one_points_evidence():
    """A thousand standard deviations count as six."""
    cusum = new_cusum(0.0)
    cusum.add(1_000.0, 0.5, 1.0, NO_BOUND)

    assert (cusum.up.total, cusum.down.total) == (5.5, 0.0)


def test_what_is_over_is_over_soon():
    """However long it lasted, the sum is held at its bound."""
    cusum = new_cusum(0.0)
    for place in range(1_000):
        cusum.add(3.0, 0.5, float(place), 15.0)
    points = 0
    while cusum.up.total >= 5.0:
        cusum.add(0.0, 0.5, 0.0, 15.0)
        points += 1

    assert points == 21


def run_length(chance, shift, limit):
    """Return points until an alarm of the upper side."""
    cusum, points = new_cusum(0.0), 0
    while cusum.up.total < limit:
        cusum.add(chance.gauss(shift, 1.0), 0.5, float(points), NO_BOUND)
        points += 1
    return points


def siegmund(drift, limit):
    """Return the mean run length of a one-sided CUSUM of unit noise (Siegmund, 1985)."""
    b = limit + 1.166
    return (exp(-2 * drift * b) + 2 * drift * b - 1) / (2 * drift**2)


@pytest.mark.parametrize(
    ("shift", "limit", "runs"),
    [
        pytest.param(0.0, 4.0, 300, id="false alarms"),
        pytest.param(1.0, 8.0, 1_000, id="a shift of one"),
        pytest.param(2.0, 8.0, 1_000, id="a shift of two"),
    ],
)
def test_mean_run_lengths_are_siegmunds(shift, limit, runs):
    chance = random.Random(1)
    mean = statistics.fmean(run_length(chance, shift, limit) for _ in range(runs))

    assert mean == pytest.approx(siegmund(shift - 0.5, limit), rel=0.12)
