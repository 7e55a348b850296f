"""A GPU that its power supply holds down."""

from __future__ import annotations

import pytest

from gpuward.agent.detectors.power_brake import detect
from gpuward.agent.model import Outcome, Result

REASONS = "gpu_clock_event_reasons"
COUNTED = "gpu_clock_event_hw_power_brake_seconds_total"
# Bits of nvml.h, restated.
IDLE, POWER_CAP, THERMAL, BRAKE = 0x1, 0x4, 0x40, 0x80


def counted(*, braked_s, of_s=30):
    """A counter of seconds that rose by ``braked_s`` over the last ``of_s`` seconds."""
    return {COUNTED: [braked_s * second / of_s for second in range(of_s + 1)]}


@pytest.mark.parametrize(
    ("signals", "expected"),
    [
        pytest.param({}, [Outcome.UNKNOWN], id="nobody has looked"),
        pytest.param({COUNTED: 7.0}, [], id="the brake was on before"),
        pytest.param(counted(braked_s=2.9), [], id="for a little less than a tenth"),
        pytest.param(counted(braked_s=3.0), [Outcome.BAD], id="for a tenth of the time"),
        pytest.param(counted(braked_s=30.0), [Outcome.BAD], id="all the time"),
        pytest.param({REASONS: [BRAKE] * 9}, [Outcome.UNKNOWN], id="bits: too few samples"),
        pytest.param({REASONS: POWER_CAP}, [], id="bits: a power cap is healthy"),
        pytest.param({REASONS: THERMAL}, [], id="bits: heat is another finding"),
        pytest.param({REASONS: [IDLE] * 28 + [BRAKE] * 3}, [], id="bits: 3 of 31"),
        pytest.param({REASONS: [IDLE] * 27 + [BRAKE] * 4}, [Outcome.BAD], id="bits: 4 of 31"),
    ],
)
def test_detect(gpu_window, signals, expected):
    """A tenth of half a minute under the brake is bad, by the counter or else by the bits."""
    assert expected == [finding.outcome for finding in detect(gpu_window(signals))]


def test_the_finding_pages_and_names_the_share(gpu_window):
    (finding,) = detect(gpu_window(counted(braked_s=15.0)))

    assert (Result.FAIL, "GPU-1") == (finding.result, finding.subject.gpu)
    assert [("gpu_power_brake_ratio", pytest.approx(0.5), 0.1)] == [
        (fact.name, fact.value, fact.threshold) for fact in finding.evidence
    ]
