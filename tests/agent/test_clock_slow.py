"""A busy GPU that runs far below its clock."""

from __future__ import annotations

import pytest

from gpuward.agent.detectors.clock_slow import detect
from gpuward.agent.model import Outcome, Result

CLOCK, HIGHEST = "gpu_sm_clock_hertz", "gpu_sm_clock_max_hertz"
ACTIVE, UTILIZED = "gpu_sm_active_ratio", "gpu_utilization_ratio"
BEST = "gpu_sm_clock_best_hertz"
REASONS = "gpu_clock_event_reasons"
BUSY = {HIGHEST: 1.98e9, ACTIVE: 0.9, REASONS: 0x0}
SLOW_HZ = 0.7 * 1.98e9


@pytest.mark.parametrize(
    ("signals", "is_found"),
    [
        pytest.param({CLOCK: SLOW_HZ}, True, id="slow and busy"),
        pytest.param({CLOCK: 0.75 * 1.98e9}, False, id="three quarters are enough"),
        pytest.param({CLOCK: 0.749 * 1.98e9}, True, id="a little less is not"),
        pytest.param({CLOCK: [1.98e9] * 241 + [SLOW_HZ] * 60}, False, id="for a minute only"),
        pytest.param({CLOCK: [SLOW_HZ] * 299 + [1.98e9]}, False, id="fast again"),
        pytest.param({CLOCK: SLOW_HZ, ACTIVE: 0.49}, False, id="half idle"),
        pytest.param({CLOCK: SLOW_HZ, ACTIVE: []}, False, id="nobody knows whether it is busy"),
        pytest.param({CLOCK: SLOW_HZ, ACTIVE: [], UTILIZED: 0.95}, True, id="busy, coarsely"),
        pytest.param({CLOCK: SLOW_HZ, ACTIVE: [], UTILIZED: 0.89}, False, id="idle, coarsely"),
        pytest.param({CLOCK: SLOW_HZ, REASONS: 0x4}, False, id="at its power limit"),
        pytest.param({CLOCK: SLOW_HZ, REASONS: 0x2}, False, id="somebody set the clock"),
        pytest.param({CLOCK: SLOW_HZ, REASONS: 0x40}, False, id="hot: another finding"),
        pytest.param({CLOCK: SLOW_HZ, REASONS: []}, False, id="the reasons are unknown"),
        pytest.param({CLOCK: 1.6e9, BEST: 1.8e9}, False, id="near what it once held"),
        pytest.param({CLOCK: 1.6e9, BEST: 1.9e9}, True, id="it once held much more"),
        pytest.param({CLOCK: 1.6e9, BEST: 1.9e9, REASONS: 0x4}, False, id="and so it did uncapped"),
        pytest.param({CLOCK: SLOW_HZ, HIGHEST: []}, False, id="its clock is unknown"),
    ],
)
def test_detect(gpu_window, signals, is_found):
    """Only a clock that is low for minutes, under load and without a reason is a finding."""
    findings = list(detect(gpu_window(BUSY | signals)))

    assert is_found == bool(findings)
    assert {finding.outcome for finding in findings} <= {Outcome.BAD}
    assert {finding.result for finding in findings} <= {Result.WARN}
