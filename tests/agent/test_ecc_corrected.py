"""Corrected memory errors that come ever faster."""

from __future__ import annotations

import pytest

from gpuward.agent.detectors.ecc_corrected import detect
from gpuward.agent.model import Outcome, Result

COUNT = "gpu_ecc_corrected_total"
SLOW = {"period_s": 30.0}


def rising(per_second, readings=10):
    """A counter read every half minute."""
    return [1_000_000 + per_second * 30 * reading for reading in range(readings)]


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        pytest.param([54_700_000_000] * 10, [], id="a large number that stands"),
        pytest.param(rising(0.29), [], id="a few"),
        pytest.param(rising(0.31), [(Outcome.DOUBTFUL, Result.WARN)], id="between the limits"),
        pytest.param(rising(0.99), [(Outcome.DOUBTFUL, Result.WARN)], id="less than one a second"),
        pytest.param(rising(1.0), [(Outcome.BAD, Result.WARN)], id="one a second"),
        pytest.param(rising(99.0), [(Outcome.BAD, Result.WARN)], id="less than a hundred"),
        pytest.param(rising(100.0), [(Outcome.BAD, Result.FAIL)], id="a hundred a second"),
        pytest.param(
            [0] * 4 + [40_000] * 6, [(Outcome.BAD, Result.WARN)], id="a burst that is over"
        ),
        pytest.param(
            [0] * 5 + rising(100.0, 5), [(Outcome.BAD, Result.FAIL)], id="two minutes of a hundred"
        ),
        pytest.param([0, 37], [(Outcome.DOUBTFUL, Result.WARN)], id="37 in one half minute"),
        pytest.param([0, 36], [], id="36 in one half minute"),
    ],
)
def test_detect(gpu_window, counts, expected):
    """The rate decides, over two minutes at least, never the number."""
    window = gpu_window({COUNT: counts}, **SLOW)

    assert expected == [(finding.outcome, finding.result) for finding in detect(window)]


def test_stale_is_unknown_and_not_supported_is_silent(gpu_window):
    """A hung driver clears nothing; a card without ECC has no such trouble."""
    stale = gpu_window({COUNT: rising(5.0)}, late_s=90.1, **SLOW)

    assert [Outcome.UNKNOWN] == [finding.outcome for finding in detect(stale)]
    assert [] == list(detect(gpu_window({}, unsupported=[COUNT])))
