"""NVLink links that are down or carry errors."""

from __future__ import annotations

import pytest

from gpuward.agent.detectors.nvlink import detect
from gpuward.agent.model import Outcome, Result

LINKS, ACTIVE = "gpu_nvlink_links", "gpu_nvlink_links_active"
CRC, REPLAYS = "gpu_nvlink_crc_errors_total", "gpu_nvlink_replay_errors_total"
SLOW = {"period_s": 30.0}
HGX = {LINKS: 18, ACTIVE: 18}


@pytest.mark.parametrize(
    ("signals", "expected"),
    [
        pytest.param({}, [], id="all up"),
        pytest.param({ACTIVE: 17}, [Result.FAIL], id="one of 18 down"),
        pytest.param({ACTIVE: 0}, [], id="no bridge"),
        pytest.param({CRC: 5_000}, [], id="old errors"),
        pytest.param({CRC: [0] * 8 + [60], REPLAYS: [0] * 8 + [40]}, [], id="a hundred"),
        pytest.param({CRC: [0] * 8 + [60], REPLAYS: [0] * 8 + [41]}, [Result.WARN], id="more"),
    ],
)
def test_detect(gpu_window, signals, expected):
    """A link that is down fails, more than a hundred errors in five minutes warn."""
    window = gpu_window(HGX | signals, **SLOW)

    assert expected == [finding.result for finding in detect(window)]


def test_stale_is_unknown_and_not_supported_is_silent(gpu_window):
    """A hung driver clears nothing; a PCIe card has no links."""
    assert [Outcome.UNKNOWN] == [f.outcome for f in detect(gpu_window({LINKS: 18}, **SLOW))]
    assert [] == list(detect(gpu_window({}, unsupported=[LINKS])))
