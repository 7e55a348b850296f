"""An hour of some signals, one slot a second."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuward.agent.history import SIGNALS_KEPT, History
from gpuward.agent.model import Sample, SeriesKey
from gpuward.agent.signals import SIGNALS

USED = SeriesKey("gpu_memory_used_bytes", gpu="GPU-1")
ALWAYS = (float("-inf"), float("inf"))


def history(*points, key=USED):
    kept = History()
    kept.add(Sample(key, at_s, value) for at_s, value in points)
    return kept


@given(st.lists(st.tuples(st.integers(0, 9_000), st.integers(0, 100)), max_size=80))
def test_it_is_a_dictionary_of_the_last_hour(points):
    """One value a second, the last one; nothing for seconds without; older than an hour is gone."""
    kept, expected, newest = History(), {}, -1
    for at, value in points:
        kept.add([Sample(USED, float(at), float(value))])
        if at >= newest:
            expected[at], newest = value, at

    assert list(kept.points(USED, *ALWAYS)) == [
        (float(at), float(value)) for at, value in sorted(expected.items()) if at > newest - 3_600
    ]


@pytest.mark.parametrize(
    ("since_s", "until_s", "seconds"),
    [
        pytest.param(*ALWAYS, [10, 11, 12], id="all"),
        pytest.param(11.0, 12.0, [11], id="since is in, until is out"),
        pytest.param(11.1, 99.0, [12], id="a part of a second later"),
        pytest.param(13.0, 99.0, [], id="nothing there"),
    ],
)
def test_span(since_s, until_s, seconds):
    kept = history((10.9, 1.0), (11.0, 2.0), (12.5, 3.0))

    assert [int(at) for at, _ in kept.points(USED, since_s, until_s)] == seconds


def test_a_gap_is_a_gap():
    assert [at for at, _ in history((10.0, 1.0), (14.0, 2.0)).points(USED, *ALWAYS)] == [10.0, 14.0]


def test_seven_digits_are_kept():
    """float32: 80 GiB is right to 4 KiB."""
    exact = 80.0 * 2**30 - 123_456.0

    ((_, value),) = history((10.0, exact)).points(USED, *ALWAYS)

    assert abs(value - exact) <= 4_096


def test_other_signals_are_not_kept():
    key = SeriesKey("gpu_power_limit_watts", gpu="GPU-1")

    assert history((10.0, 1.0), key=key).series == 0


def test_every_signal_that_is_kept_exists():
    assert SIGNALS_KEPT <= SIGNALS.keys()


def test_what_does_not_fit_is_counted():
    kept = History()
    kept.add(Sample(SeriesKey(USED.signal, gpu=f"GPU-{i}"), 10.0, 1.0) for i in range(252))

    assert (kept.series, kept.refused) == (250, 2)


def test_a_series_without_values_for_an_hour_gives_its_place_back():
    kept = history((10.0, 1.0))

    kept.forget_old(3_609.9)
    before = kept.series
    kept.forget_old(3_610.0)

    assert (before, kept.series) == (1, 0)


def test_of_an_unknown_series_there_is_nothing():
    assert list(History().points(USED, *ALWAYS)) == []
