"""A PCIe link that is narrower or slower than it can be."""

from __future__ import annotations

import pytest

from gpuward.agent.detectors.pcie_degraded import detect
from gpuward.agent.model import Outcome, Result

WHOLE = {
    "gpu_pcie_link_width": 16,
    "gpu_pcie_link_width_max": 16,
    "gpu_pcie_link_generation": 5,
    "gpu_pcie_link_generation_max": 5,
}
BUSY, IDLE = {"gpu_sm_active_ratio": 0.9}, {"gpu_sm_active_ratio": 0.0}
FAIL, WARN = Result.FAIL, Result.WARN


@pytest.mark.parametrize(
    ("signals", "expected"),
    [
        pytest.param(BUSY, [], id="whole"),
        pytest.param(IDLE | {"gpu_pcie_link_width": 8}, [(Outcome.BAD, FAIL)], id="x8 of x16"),
        pytest.param(
            IDLE | {"gpu_pcie_link_generation": 1},
            [(Outcome.UNKNOWN, WARN)],
            id="Gen1 at rest is normal, and clears nothing",
        ),
        pytest.param(BUSY | {"gpu_pcie_link_generation": 4}, [(Outcome.BAD, WARN)], id="Gen4 busy"),
        pytest.param(
            {"gpu_pcie_link_generation": 4, "gpu_sm_active_ratio": [0.0] * 31 + [0.9] * 30},
            [(Outcome.UNKNOWN, WARN)],
            id="busy for less than half a minute",
        ),
        pytest.param(
            BUSY | {"gpu_pcie_link_width_best": 16, "gpu_pcie_link_generation_best": 5},
            [],
            id="as good as it ever was",
        ),
        pytest.param(
            IDLE
            | {
                "gpu_pcie_link_width": 8,
                "gpu_pcie_link_width_max": 8,
                "gpu_pcie_link_width_best": 16,
            },
            [(Outcome.BAD, WARN)],
            id="x8 is all in this slot, and it had x16",
        ),
        pytest.param(
            BUSY
            | {
                "gpu_pcie_link_generation": 4,
                "gpu_pcie_link_generation_max": 4,
                "gpu_pcie_link_generation_best": 5,
            },
            [(Outcome.BAD, WARN)],
            id="Gen4 is all in this slot, and it had Gen5",
        ),
        pytest.param(
            {"gpu_pcie_link_width": []}, [(Outcome.UNKNOWN, FAIL)], id="the width is unknown"
        ),
    ],
)
def test_detect(gpu_window, signals, expected):
    """Width counts always, generation under load."""
    window = gpu_window(WHOLE | signals)

    assert expected == [(finding.outcome, finding.result) for finding in detect(window)]


@pytest.mark.parametrize(
    ("signals", "fails_after_s"),
    [
        pytest.param({"gpu_pcie_link_generation": 4}, 600.0, id="slower than it can be here"),
        pytest.param(
            {
                "gpu_pcie_link_generation": 4,
                "gpu_pcie_link_generation_max": 4,
                "gpu_pcie_link_generation_best": 5,
            },
            None,
            id="all that this slot can do",
        ),
    ],
)
def test_a_link_that_stays_slow_under_load_becomes_a_failure(gpu_window, signals, fails_after_s):
    """A ticket, and after ten minutes a page; a poorer slot is nobody's emergency."""
    (finding,) = detect(gpu_window(WHOLE | BUSY | signals))

    assert finding.fails_after_s == fails_after_s


def test_not_supported_is_silent(gpu_window):
    assert [] == list(detect(gpu_window({}, unsupported=["gpu_pcie_link_width"])))


@pytest.mark.parametrize(("load", "says_busy"), [(BUSY, True), (IDLE, False)])
def test_of_a_gpu_at_rest_nobody_says_that_it_is_busy(gpu_window, load, says_busy):
    """`gpuward agent scan` shows why it could not be judged."""
    (finding,) = detect(gpu_window(WHOLE | load | {"gpu_pcie_link_generation": 1}))

    assert ("is busy" in finding.summary) == says_busy
