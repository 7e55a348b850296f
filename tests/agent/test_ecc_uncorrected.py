"""Memory errors that were not corrected."""

from __future__ import annotations

import pytest

from gpuward.agent.detectors.ecc_uncorrected import detect
from gpuward.agent.model import Outcome, Result

COUNT = "gpu_ecc_uncorrected_total"
# Read every half minute.
SLOW = {"period_s": 30.0}


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        pytest.param([0] * 9, [], id="none"),
        pytest.param([2] * 9, [Result.WARN], id="old ones stand"),
        pytest.param([0] * 8 + [1], [Result.FAIL], id="one just now"),
        pytest.param([1] + [2] * 9, [Result.FAIL], id="270 s ago is news"),
        pytest.param([1] + [2] * 10, [Result.WARN], id="300 s ago is not"),
        pytest.param([7] * 4 + [0] * 5, [], id="a reset of the GPU sets it back"),
    ],
)
def test_detect(gpu_window, counts, expected):
    """A rise within five minutes fails, a count that stands warns."""
    window = gpu_window({COUNT: counts}, **SLOW)

    assert expected == [finding.result for finding in detect(window)]


def test_where_the_errors_were(gpu_window):
    signals = {COUNT: [0, 3], "gpu_ecc_sram_uncorrected_total": [0, 3]}
    (finding,) = detect(gpu_window(signals, **SLOW))

    assert [
        ("gpu_ecc_uncorrected_new", 3.0),
        ("gpu_ecc_uncorrected_total", 3.0),
        ("gpu_ecc_sram_uncorrected_total", 3.0),
    ] == [(fact.name, fact.value) for fact in finding.evidence]


def test_stale_is_unknown_and_not_supported_is_silent(gpu_window):
    """A hung driver clears nothing; a card without ECC has no such trouble."""
    stale = gpu_window({COUNT: [1]}, late_s=90.1)

    assert [Outcome.UNKNOWN] == [finding.outcome for finding in detect(stale)]
    assert [] == list(detect(gpu_window({}, unsupported=[COUNT])))
