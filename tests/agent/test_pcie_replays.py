"""A PCIe link that damages packets."""

from __future__ import annotations

import pytest

from gpuward.agent.detectors.pcie_replays import detect
from gpuward.agent.model import Outcome, Result

REPLAYS, FATAL = "gpu_pcie_replays_total", "gpu_pcie_errors_fatal_total"
AER = "gpu_aer_fatal_total"
LINK = {"gpu_pcie_link_generation": 5, "gpu_pcie_link_width": 16}
SLOW = {"period_s": 30.0}


@pytest.mark.parametrize(
    ("signals", "expected"),
    [
        pytest.param({REPLAYS: 1_000}, [], id="old ones"),
        # 31 a minute are normal for 16 lanes of generation 5: 149.8 within 290 s.
        pytest.param({REPLAYS: [0] * 8 + [149]}, [], id="31 a minute at Gen5 x16"),
        pytest.param({REPLAYS: [0] * 8 + [150]}, [Result.WARN], id="more"),
        pytest.param(
            {REPLAYS: [0] * 8 + [15], "gpu_pcie_link_generation": 1},
            [Result.WARN],
            id="3 a minute at Gen1",
        ),
        pytest.param({REPLAYS: 0, FATAL: [0] * 8 + [1]}, [Result.FAIL], id="a fatal error"),
        pytest.param({REPLAYS: 0, FATAL: 1}, [], id="an old fatal error"),
        pytest.param({REPLAYS: 0, AER: [0] * 8 + [1]}, [Result.FAIL], id="one that AER reports"),
        pytest.param({REPLAYS: 0, AER: 1}, [], id="an old one of AER"),
    ],
)
def test_detect(gpu_window, signals, expected):
    """Replays count by what the link's speed and width allow; a fatal error always."""
    window = gpu_window(LINK | signals, **SLOW)

    assert expected == [finding.result for finding in detect(window)]


def test_an_unknown_link_may_have_what_the_fastest_may(gpu_window):
    """62 a minute: 299.7 within 290 s."""
    assert [] == list(detect(gpu_window({REPLAYS: [0] * 8 + [299]}, **SLOW)))
    assert [Result.WARN] == [
        finding.result for finding in detect(gpu_window({REPLAYS: [0] * 8 + [300]}, **SLOW))
    ]


def test_stale_is_unknown_and_not_supported_is_silent(gpu_window):
    """A hung driver clears nothing; a virtual GPU counts no replays."""
    stale = gpu_window({REPLAYS: [1]}, late_s=90.1)

    assert [Outcome.UNKNOWN] == [finding.outcome for finding in detect(stale)]
    assert [] == list(detect(gpu_window({}, unsupported=[REPLAYS])))
