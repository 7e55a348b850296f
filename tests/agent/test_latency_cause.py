"""When a cause is looked for at all; what is found is in ``diagnosis``."""

from __future__ import annotations

import pytest

from gpuward.agent.detectors.latency_cause import detect

HEAT, POWER_CAP = 0x20, 0x4
CALM = {
    "gpu_clock_event_reasons": 0x0,
    "gpu_ecc_corrected_total": 0,
    "gpu_ecc_uncorrected_total": 0,
    "gpu_pcie_link_width": 16,
    "gpu_pcie_link_width_max": 16,
    "gpu_pcie_link_generation": 5,
    "gpu_pcie_link_generation_max": 5,
}


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        pytest.param({}, [], id="all is well"),
        pytest.param({"gpu_clock_event_reasons": POWER_CAP}, [], id="busy at its power limit"),
        pytest.param({"gpu_clock_event_reasons": HEAT}, ["thermal"], id="heat for a minute"),
        pytest.param(
            {"gpu_clock_event_reasons": [0] * 48 + [HEAT] * 12}, ["thermal"], id="for a fifth of it"
        ),
        pytest.param(
            {"gpu_clock_event_reasons": [0] * 50 + [HEAT] * 11}, [], id="for less than a fifth"
        ),
        pytest.param({"gpu_pcie_link_width": 8}, ["pcie_downgrade"], id="half the lanes"),
        pytest.param({"gpu_ecc_uncorrected_total": 2}, [], id="an old memory error"),
        pytest.param(
            {"gpu_ecc_uncorrected_total": [0] * 30 + [1] * 30}, ["gpu_fault"], id="a new one"
        ),
    ],
)
def test_detect(serving_window, first, expected):
    """A GPU in trouble is a reason before anybody is slow; what is normal under load is none."""
    found = list(detect(serving_window(CALM, first=first, gpus=2)))

    assert [finding.evidence[0].text for finding in found] == expected
    assert [finding.subject.service for finding in found] == ["chat"] * len(expected)
    assert all(finding.kind == "service.latency.cause" for finding in found)
