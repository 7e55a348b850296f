"""An hour of some signals by the second, and a day of them by ten seconds."""

from __future__ import annotations

from itertools import chain, pairwise
from math import inf, isnan, nan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuward.agent.history import History
from gpuward.agent.history_signals import SIGNALS_KEPT
from gpuward.agent.model import Sample, SeriesKey
from gpuward.agent.signals import SIGNALS

USED = SeriesKey("gpu_memory_used_bytes", gpu="GPU-1")
ERRORS = SeriesKey("gpu_ecc_uncorrected_total", gpu="GPU-1")
# Neither ten seconds nor a minute begin at the boot.
WALL_S = 1_800_000_003.0
HOUR_S = 3_600
DAY_S = 86_400


def new(now_s=0.0, boot_id="boot-1", wall_offset_s=WALL_S):
    return History(boot_id, now_s=now_s, wall_s=now_s + wall_offset_s)


def history(*points, key=USED):
    kept = new()
    kept.add(Sample(key, at_s, value) for at_s, value in points)
    return kept


def all_of(kept, key=USED, since_s=-inf, until_s=inf, wall_offset_s=WALL_S):
    points = kept.points(key, since_s, until_s, wall_offset_s)
    return list(chain.from_iterable(points))


def seconds_of(kept, *args, **kwargs):
    return [(at_s, value) for at_s, value, *_ in all_of(kept, *args, **kwargs)]


def let_pass(kept, seconds, value_of, key=USED):
    """Let the agent live through ``seconds``, with the value in each that ``value_of`` returns."""
    for second in seconds:
        if (value := value_of(second)) is not None:
            kept.add([Sample(key, second + 0.4, value)])
        kept.advance(second + 0.5, second + 0.5 + WALL_S)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9_000), st.integers(0, 100)), max_size=40))
def test_it_is_a_dictionary_of_the_last_hour(points):
    """One value a second, the last one; nothing for seconds without; older than an hour is gone."""
    kept, expected, newest = new(), {}, 0
    for at, value in points:
        kept.add([Sample(USED, float(at), float(value))])
        kept.advance(float(at), at + WALL_S)
        if at > newest - HOUR_S and at >= points[0][0]:
            expected[at] = value
        newest = max(newest, at)

    border = newest + 10 - HOUR_S
    found = [(at_s, value) for at_s, value in seconds_of(kept) if at_s >= border]
    assert found == [(at, v) for at, v in sorted(expected.items()) if at >= border]


OTHERS = (USED, USED._replace(gpu="GPU-2"), USED._replace(signal="gpu_power_draw_watts"))


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(OTHERS),
            st.sampled_from([0.0, 0.2, 0.9, 1.0, 1.5, 7.0, 3_605.0]),
            st.integers(0, 9),
        ),
        max_size=30,
    )
)
def test_a_batch_is_what_its_samples_are(samples):
    """Of whatever series and moments, in whatever order."""
    batch = [Sample(key, at_s, float(value)) for key, at_s, value in samples]
    whole, single = new(), new()

    whole.add(batch)
    for one in batch:
        single.add([one])

    assert [all_of(single, key) for key in OTHERS] == [all_of(whole, key) for key in OTHERS]


@pytest.mark.parametrize(
    ("since_s", "until_s", "seconds"),
    [
        pytest.param(-inf, inf, [10, 11, 12], id="all"),
        pytest.param(11.0, 12.0, [11], id="since is in, until is out"),
        pytest.param(11.1, 99.0, [12], id="a part of a second later"),
        pytest.param(13.0, 99.0, [], id="nothing there"),
    ],
)
def test_span(since_s, until_s, seconds):
    kept = history((10.9, 1.0), (11.0, 2.0), (12.5, 3.0))

    assert [at for at, _ in seconds_of(kept, since_s=since_s, until_s=until_s)] == seconds


def test_a_gap_is_a_gap():
    assert seconds_of(history((10.0, 1.0), (14.0, 2.0))) == [(10.0, 1.0), (14.0, 2.0)]


@pytest.mark.parametrize("value", [nan, inf, -inf])
def test_what_is_no_number_is_no_value(value):
    assert seconds_of(history((10.0, value))) == []


def test_seven_digits_are_kept():
    """float32: 80 GiB is right to 4 KiB."""
    exact = 80.0 * 2**30 - 123_456.0

    ((_, value),) = seconds_of(history((10.0, exact)))

    assert abs(value - exact) <= 4_096


def test_other_signals_are_not_kept():
    key = SeriesKey("gpu_power_limit_watts", gpu="GPU-1")

    assert history((10.0, 1.0), key=key).series == 0


def test_every_signal_that_is_kept_exists():
    assert SIGNALS_KEPT <= SIGNALS.keys()


def test_after_the_hour_there_is_the_mean_of_ten_seconds():
    """Steps lie on tens of the wall clock's seconds; a missing second does not count."""
    kept = new()
    let_pass(kept, range(100), lambda second: None if second == 10 else float(second))
    let_pass(kept, range(100, HOUR_S + 60), lambda _: 0.0)

    points = dict(seconds_of(kept, until_s=40.0))

    assert points[7.0] == pytest.approx(sum((7, 8, 9, 11, 12, 13, 14, 15, 16)) / 9)
    assert points[17.0] == pytest.approx(21.5)
    assert sorted(points) == [-3.0, 7.0, 17.0, 27.0, 37.0]


def test_of_a_counter_there_is_the_last_value():
    kept = new()
    let_pass(kept, range(60), lambda second: float(second // 15), key=ERRORS)
    let_pass(kept, range(60, HOUR_S + 70), lambda _: 0.0)

    points = seconds_of(kept, ERRORS)

    assert points[:3] == [(-3.0, 0.0), (7.0, 1.0), (17.0, 1.0)]


def test_a_dip_of_one_second_is_in_the_least_of_its_minute():
    kept = new()
    let_pass(kept, range(120), lambda second: 1.0 if second == 70 else 9.0 + (second == 75))
    let_pass(kept, range(120, HOUR_S + 130), lambda _: 9.0)

    points = {point.at_s: point for point in all_of(kept)}

    assert (points[67.0].least, points[67.0].most) == (1.0, 10.0)
    # The same minute began at 57.
    assert (points[57.0].least, points[57.0].most) == (1.0, 10.0)
    assert (points[47.0].least, points[47.0].most) == (9.0, 9.0)


def test_seconds_carry_no_least_and_most():
    ((_, _, least, most),) = all_of(history((10.0, 1.0)))

    assert (least, most) == (None, None)


def test_seconds_and_tens_meet_without_a_hole_or_an_overlap():
    kept = new()
    let_pass(kept, range(5_000), float)

    at = [at_s for at_s, _ in seconds_of(kept)]
    steps = {round(after - before) for before, after in pairwise(at)}

    assert steps == {1, 10}
    assert at == sorted(at)
    assert at[-1] - at[at.index(next(a for a in at if a + 1 in at))] >= HOUR_S - 10


def test_a_day_is_kept():
    kept = new()
    kept.add([Sample(USED, 5.0, 1.0)])
    kept.advance(20.0, 20.0 + WALL_S)
    kept.add([Sample(USED, DAY_S - 20.0, 2.0)])
    kept.advance(DAY_S - 5.0, DAY_S - 5.0 + WALL_S)
    within = seconds_of(kept)
    kept.add([Sample(USED, DAY_S + 60.0, 3.0)])
    kept.advance(DAY_S + 90.0, DAY_S + 90.0 + WALL_S)

    assert within == [(-3.0, 1.0), (DAY_S - 20.0, 2.0)]
    assert seconds_of(kept) == [(DAY_S - 20.0, 2.0), (DAY_S + 60.0, 3.0)]


def test_a_wall_clock_that_is_corrected_corrects_the_past():
    """Monotonic times are answered: the reader's offset makes wall times of them."""
    kept = history((10.0, 1.0))
    kept.advance(11.0, 11.0 + WALL_S - 500.0)
    kept.add([Sample(USED, 12.0, 2.0)])

    assert seconds_of(kept, wall_offset_s=WALL_S - 500.0) == [(10.0, 1.0), (12.0, 2.0)]


def test_what_does_not_fit_is_counted():
    kept = new()
    kept.add(Sample(SeriesKey(USED.signal, gpu=f"GPU-{i}"), 10.0, 1.0) for i in range(252))

    assert (kept.series, kept.refused) == (250, 2)


def test_processes_leave_room_for_gpus():
    kept = new()
    kept.add(
        Sample(SeriesKey("process_memory_reserved_bytes", process=f"p{i}"), 10.0, 1.0)
        for i in range(251)
    )
    kept.add(Sample(SeriesKey(USED.signal, gpu=f"GPU-{i}"), 10.0, 1.0) for i in range(140))

    assert (kept.series, kept.refused) == (250, 141)


@pytest.mark.parametrize(
    ("later_s", "is_given"),
    [pytest.param(3_599, False, id="silent for less"), pytest.param(3_600, True, id="an hour")],
)
def test_a_silent_series_gives_its_place_to_a_new_one(later_s, is_given):
    """What lies in the place from before is nobody's."""
    kept = new()
    kept.add(Sample(SeriesKey(USED.signal, gpu=f"GPU-{i}"), 10.0, 1.0) for i in range(250))
    kept.advance(30.0, 30.0 + WALL_S)
    others = [SeriesKey(USED.signal, gpu=f"GPU-{i}") for i in range(1, 250)]
    kept.add(Sample(key, 20.0, 1.0) for key in others)
    new_key = SeriesKey(USED.signal, gpu="GPU-new")
    kept.add([Sample(new_key, 10.0 + later_s, 7.0)])
    kept.advance(40.0 + later_s, 40.0 + later_s + WALL_S)

    expected = [(10.0 + later_s, 7.0)] if is_given else []
    assert seconds_of(kept, new_key) == expected


@pytest.mark.parametrize(
    "name", [pytest.param("x" * 2_000, id="too long"), pytest.param("\udcff", id="no UTF-8")]
)
def test_a_name_that_cannot_be_written_has_no_history(name):
    key = SeriesKey("process_memory_reserved_bytes", process=name)

    kept = history((10.0, 1.0), key=key)

    assert (kept.series, kept.refused, seconds_of(kept, key)) == (0, 1, [])


def test_of_an_unknown_series_there_is_nothing():
    assert all_of(new()) == []


def test_nothing_that_is_answered_is_nan():
    kept = new()
    let_pass(kept, range(4_000), lambda second: float(second) if second % 45 == 0 else None)

    assert not any(isnan(value) for _, value in seconds_of(kept))
