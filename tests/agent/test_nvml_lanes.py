"""Lanes give way when NVML is slow."""

from __future__ import annotations

import pytest

from gpuward.agent.nvml_call import Lane
from gpuward.agent.nvml_lanes import next_period_s


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
