"""Memory of a GPU that is too hot."""

from __future__ import annotations

import pytest

from gpuward.agent.detectors.memory_temperature import detect
from gpuward.agent.model import Outcome, Result

SIGNAL = "gpu_memory_temperature_celsius"


@pytest.mark.parametrize(
    ("celsius", "expected"),
    [
        pytest.param(92, [], id="92 is warm"),
        pytest.param(93, [Outcome.DOUBTFUL], id="between the limits"),
        pytest.param(94, [Outcome.DOUBTFUL], id="94 is not 95"),
        pytest.param(95, [Outcome.BAD], id="95 is too hot"),
    ],
)
def test_detect(gpu_window, celsius, expected):
    """From 95 degrees on it is bad, above 92 an open finding stays open."""
    findings = list(detect(gpu_window({SIGNAL: celsius})))

    assert expected == [finding.outcome for finding in findings]
    assert {finding.result for finding in findings} <= {Result.WARN}


def test_stale_is_unknown_and_not_supported_is_silent(gpu_window):
    """A hung driver clears nothing; a card without the sensor has no such trouble."""
    assert [Outcome.UNKNOWN] == [f.outcome for f in detect(gpu_window({SIGNAL: 99}, late_s=10.1))]
    assert [] == list(detect(gpu_window({}, unsupported=[SIGNAL])))
