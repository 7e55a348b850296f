"""Error budgets: one request in a hundred may be slower."""

from __future__ import annotations

import pytest

from gpuward.agent.detection.burn_rate import Count, HourOfCounts, burns_in_both


@pytest.mark.parametrize(
    ("short", "long", "burn"),
    [
        pytest.param(Count(100, 1), Count(500, 5), 1.0, id="it lasts"),
        pytest.param(Count(100, 20), Count(500, 25), 5.0, id="a hiccup of now"),
        pytest.param(Count(100, 0), Count(500, 100), 0.0, id="it is over"),
        pytest.param(Count(100, 30), Count(500, 200), 30.0, id="it goes on"),
        pytest.param(Count(0, 0), Count(500, 200), None, id="nobody asks now"),
        pytest.param(Count(10, 10), Count(10, 10), 100.0, id="nothing else is known"),
        pytest.param(Count(10, 1e300), Count(10, 1e300), 100.0, id="more slow ones than there are"),
    ],
)
def test_both_windows_must_burn(short, long, burn):
    """The slower of two speeds counts."""
    assert burns_in_both(short, long) == (None if burn is None else pytest.approx(burn))


def test_a_larger_budget_burns_more_slowly():
    assert burns_in_both(Count(100, 30), Count(500, 200), 0.05) == pytest.approx(6.0)


def test_an_hour_is_what_came_since_its_mark():
    """10 requests a second, one of them slow, for two hours: an hour's worth is counted."""
    hour = HourOfCounts()
    for second in range(0, 7_201, 5):
        hour.note(float(second), Count(10.0 * second, 1.0 * second))
    last = hour.last_hour(Count(72_000.0, 7_200.0))

    assert last.requests == pytest.approx(36_000, abs=600)
    assert last.burn_ratio() == pytest.approx(10.0)


def test_it_keeps_a_mark_a_minute():
    """An hour of five-second turns, and no more than an hour."""
    hour = HourOfCounts()
    for second in range(0, 20_000, 5):
        hour.note(float(second), Count(float(second), 0.0))

    assert len(hour.marks) <= 62
    assert hour.marks[-1][0] - hour.marks[0][0] <= 3_660.0


def test_a_restart_is_a_new_beginning():
    """Counters that fell are of another life: nothing negative, nothing of before."""
    hour = HourOfCounts()
    hour.note(0.0, Count(5_000.0, 4_000.0))
    hour.note(60.0, Count(10.0, 1.0))

    assert hour.last_hour(Count(20.0, 1.0)) == Count(10.0, 0.0)


def test_nothing_is_known_at_first():
    assert HourOfCounts().last_hour(Count(5_000.0, 4_000.0)) == Count(0.0, 0.0)
