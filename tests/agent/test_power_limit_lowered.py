"""A power limit below the default."""

from __future__ import annotations

import pytest

from gpuward.agent.detectors.power_limit_lowered import detect
from gpuward.agent.model import Outcome, Result

LIMIT, DEFAULT = "gpu_power_limit_watts", "gpu_power_default_limit_watts"


@pytest.mark.parametrize(
    ("limit", "is_found"),
    [
        pytest.param(700, False, id="the default"),
        pytest.param(630, False, id="nine tenths"),
        pytest.param(629, True, id="less"),
        pytest.param([], False, id="unknown"),
    ],
)
def test_detect(gpu_window, limit, is_found):
    """Evidence only, below nine tenths of the default."""
    findings = list(detect(gpu_window({LIMIT: limit, DEFAULT: 700})))

    assert is_found == bool(findings)
    assert {(finding.outcome, finding.result) for finding in findings} <= {(Outcome.BAD, Result.OK)}
