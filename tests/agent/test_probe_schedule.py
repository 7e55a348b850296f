"""When probes are due, and how much of the GPU they may take."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuward.agent.probe_schedule import GpuTime, Schedule


def schedule():
    return Schedule(random.Random(1))


def test_periods_and_jitter():
    """Bursts come every 8 to 12 s, copies every 48 to 72 s, and never at a fixed beat."""
    mine, at_s, ran = schedule(), 0.0, {}
    while at_s < 3_600.0:
        due = mine.due(at_s)
        if due is None:
            at_s += 0.1
            continue
        ran.setdefault(due[1], []).append(at_s)
        mine.ran(due[1], at_s)
    between = {
        probe: [after - before for before, after in pairwise(times)] for probe, times in ran.items()
    }

    assert set(between) == {"latency", "host_copy", "device_copy"}
    for probe, period_s in (("latency", 10.0), ("host_copy", 60.0), ("device_copy", 60.0)):
        assert 0.8 * period_s <= min(between[probe])
        assert max(between[probe]) <= 1.2 * period_s + 0.2
        assert len({round(pause, 1) for pause in between[probe]}) > 5


def test_a_busy_engine_doubles_them():
    mine = schedule()
    mine.ran("latency", 100.0, 2.0)

    assert 116.0 <= mine.due_s["latency"] <= 124.0


def test_failures_make_them_seldom_and_success_ends_that():
    mine, pauses = schedule(), []
    for _ in range(12):
        mine.due_s.clear()
        mine.failed(0.0)
        pauses.append(mine.due_s["latency"])
    mine.ran("latency", 0.0)

    assert 16.0 <= pauses[0] <= 24.0
    assert 32.0 <= pauses[1] <= 48.0
    assert mine.due_s["host_copy"] >= 480.0
    assert 480.0 <= pauses[-1] <= 720.0
    assert 8.0 <= mine.due_s["latency"] <= 12.0


def test_put_off_keeps_what_is_later():
    mine = schedule()
    mine.ran("host_copy", 0.0)
    later_s = mine.due_s["host_copy"]
    mine.put_off(0.0)

    assert mine.due_s["host_copy"] == later_s
    assert 8.0 <= mine.due_s["latency"] <= 12.0


def test_the_longest_overdue_is_first():
    mine = Schedule(random.Random(1), due_s={"latency": 9.0, "host_copy": 5.0, "device_copy": 7.0})

    assert mine.due(10.0) == (5.0, "host_copy")
    assert mine.due(5.0) == (5.0, "host_copy")
    assert mine.due(4.9) is None


def test_what_is_spent_comes_back_after_a_minute():
    mine = GpuTime()
    mine.spend(0.05, 100.0)

    assert mine.left_s(100.0) == pytest.approx(0.01)
    assert mine.left_s(159.9) == pytest.approx(0.01)
    assert mine.left_s(160.0) == pytest.approx(0.06)
    assert mine.total_s == 0.05


@given(st.lists(st.tuples(st.floats(0.0, 20.0), st.floats(0.0, 0.03)), max_size=100))
def test_no_minute_has_more_than_its_60_ms(bursts):
    """Whatever bursts want: each is given no more than what is left."""
    mine, now_s, ran = GpuTime(), 0.0, []
    for pause_s, wanted_s in bursts:
        now_s += pause_s
        spent_s = min(wanted_s, max(0.0, mine.left_s(now_s)))
        mine.spend(spent_s, now_s)
        ran.append((now_s, spent_s))

    for end_s, _ in ran:
        assert sum(s for at_s, s in ran if end_s - 60.0 < at_s <= end_s) <= 0.06 + 1e-9
