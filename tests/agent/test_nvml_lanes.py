"""Lanes give way when NVML is slow."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuward.agent.nvml_call import Lane
from gpuward.agent.nvml_lanes import next_due_s, next_period_s


@pytest.mark.parametrize(
    ("lane", "period_s", "cost_s", "expected_s"),
    [
        pytest.param(Lane.FAST, 1.0, 0.0050, 1.0, id="at the limit is in the limit"),
        pytest.param(Lane.FAST, 1.0, 0.0051, 2.0, id="above 5 ms a second doubles"),
        pytest.param(Lane.FAST, 8.0, 1.0, 8.0, id="never so rare that values go stale"),
        pytest.param(Lane.FAST, 4.0, 0.0051, 4.0, id="a cost that fits the longer period stays"),
        pytest.param(Lane.FAST, 4.0, 0.0049, 2.0, id="cheap again comes back"),
        pytest.param(Lane.FAST, 1.0, 0.0, 1.0, id="never oftener than the lane"),
        pytest.param(Lane.MEDIUM, 5.0, 0.0251, 10.0, id="the limit is a share of the period"),
        pytest.param(Lane.SLOW, 30.0, 9.0, 60.0, id="slow lane doubles once"),
    ],
)
def test_next_period(lane, period_s, cost_s, expected_s):
    """A lane that takes over 5 ms a second of a GPU is made half as often."""
    assert next_period_s(lane, period_s, cost_s) == expected_s


@pytest.mark.parametrize(
    ("now_s", "period_s", "expected_s"),
    [
        pytest.param(100.0, 1.0, 101.0, id="on the second"),
        pytest.param(100.007, 1.0, 101.0, id="after the turns of others"),
        pytest.param(100.499, 1.0, 101.0, id="late: the next is a little nearer"),
        pytest.param(100.75, 1.0, 102.0, id="later: it is a little farther"),
        pytest.param(103.001, 5.0, 108.0, id="a longer period"),
    ],
)
def test_all_gpus_are_due_at_once(now_s, period_s, expected_s):
    """On whole seconds, so that one can be read after the other; a stall brings no burst."""
    assert expected_s == next_due_s(now_s, period_s)


@given(st.floats(0, 1e7), st.sampled_from([1.0, 2.0, 5.0, 30.0]))
def test_a_turn_is_never_far(now_s, period_s):
    """Within half a second of a period: after the longest of them no value is stale yet."""
    wait_s = next_due_s(now_s, period_s) - now_s

    assert abs(wait_s - period_s) <= 0.501
