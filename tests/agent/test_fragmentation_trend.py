"""A trend is told when it is certain, and a forecast's interval holds what it promises."""

from __future__ import annotations

import random
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuward.agent.fragmentation_trend import forecast, theil_sen, trend_of
from gpuward.agent.model import Sample, SeriesKey

GIB = 2**30
KEY = SeriesKey("process_memory_headroom_floor_bytes", gpu="GPU-1", process="vllm")


def floors(values):
    return [Sample(KEY, 1_000.0 + 60.0 * minute, value) for minute, value in enumerate(values)]


def ramp(chance, *, fall, noise, follows=0.0, points=60, level=20.0):
    """A level that falls by ``fall`` in all, with noise that follows itself (AR 1)."""
    wander, values = 0.0, []
    for minute in range(points):
        wander = follows * wander + chance.gauss(0, noise) * (1 - follows**2) ** 0.5
        values.append(level - fall * minute / (points - 1) + wander)
    return values


def test_the_slope_is_the_median_of_all_pairs():
    slope = theil_sen([(0.0, 0.0), (1.0, 1.0), (2.0, 2.0), (3.0, 99.0)], 0.0)

    assert 1.0 <= slope.middle <= 33.0
    assert slope.lowest <= slope.middle <= slope.highest


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param([5.0] * 60, None, id="level"),
        pytest.param([float(m) for m in range(19)], None, id="nineteen points"),
        pytest.param([float(m) for m in range(20)], 19.0, id="twenty points"),
        pytest.param([float(-m) for m in range(60)], -59.0, id="falls"),
        pytest.param([float(min(m, 40)) for m in range(60)], None, id="a plateau"),
        pytest.param([float(m) for m in range(200)], 59.0, id="the last hour counts"),
        pytest.param([m / 100 + 5.0 * (m % 2) for m in range(60)], None, id="noise"),
    ],
)
def test_trend(values, expected):
    trend = trend_of(floors(values))

    assert expected == (trend and pytest.approx(trend.change))


def test_an_exact_ramp_arrives_when_it_must():
    """20 GiB fall by 250 MiB a minute; the level counts as of the middle of the last three."""
    ahead = forecast(floors([20.0 * GIB - minute * GIB / 4 for minute in range(60)]))

    assert ahead.middle_s == pytest.approx((20 - 58 / 4) / (1 / 4) * 60)
    assert ahead.earliest_s == pytest.approx(ahead.middle_s)
    assert ahead.latest_s == pytest.approx(ahead.middle_s)


@pytest.mark.parametrize("follows", [0.0, 0.5, 0.8], ids=["white", "AR 0.5", "AR 0.8"])
@pytest.mark.parametrize("ratio", [4.0, 8.0])
def test_the_interval_covers_what_it_promises(ratio, follows):
    """Of seeded ramps that are forecast, at least 75 % end within the 80 % interval."""
    inside = told = 0
    for seed in range(150):
        chance = random.Random(seed)
        ahead = forecast(floors(ramp(chance, fall=10.0, noise=10.0 / ratio, follows=follows)))
        if ahead is None:
            continue
        told += 1
        truth_s = (20.0 - 10.0) / (10.0 / 59) * 60.0
        inside += ahead.earliest_s <= truth_s <= ahead.latest_s
    assert told >= 15
    assert inside >= 0.75 * told


def test_a_rising_level_is_never_exhausted():
    assert forecast(floors([float(minute) for minute in range(60)])) is None


@given(st.lists(st.floats(0, 80 * GIB), max_size=60).map(sorted))
def test_a_level_that_never_fell_is_never_foretold_to_end(values):
    assert forecast(floors(values)) is None


def test_what_is_remembered_of_a_series_is_little():
    """An hour of floors was nine KiB as tuples, and those of eight GPUs grew for 84 minutes."""
    series = [[float(first + minute) for minute in range(60)] for first in range(16)]
    asked = [floors(values) for values in series]
    trend_of(asked[0])
    tracemalloc.start()
    try:
        for one in asked:
            trend_of(one)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert kept / len(asked) < 2 * 1_024
