"""A GPU that heat holds down."""

from __future__ import annotations

import pytest

from gpuward.agent.detectors.thermal_slowdown import detect
from gpuward.agent.model import Outcome, Result

HARDWARE = "gpu_clock_event_hw_thermal_seconds_total"
DRIVER = "gpu_clock_event_sw_thermal_seconds_total"
BAD, DOUBTFUL, UNKNOWN = Outcome.BAD, Outcome.DOUBTFUL, Outcome.UNKNOWN
FAIL, WARN = Result.FAIL, Result.WARN


def share(ratio):
    """A counter of seconds that rises by ``ratio`` each second, for five minutes."""
    return [ratio * second for second in range(301)]


@pytest.mark.parametrize(
    ("hardware", "driver", "expected"),
    [
        pytest.param(0.0, 0.0, [], id="cool"),
        pytest.param(0.019, 0.0, [], id="a moment"),
        pytest.param(0.021, 0.0, [(DOUBTFUL, WARN)], id="between the limits"),
        pytest.param(0.049, 0.0, [(DOUBTFUL, WARN)], id="a little less than 5 % by hardware"),
        pytest.param(0.051, 0.0, [(BAD, FAIL)], id="more than 5 % by hardware"),
        pytest.param(0.0, 0.49, [(DOUBTFUL, WARN)], id="the driver, less than half the time"),
        pytest.param(0.0, 0.51, [(BAD, WARN)], id="the driver, more than half the time"),
        pytest.param(1.0, 1.0, [(BAD, FAIL)], id="both all the time"),
    ],
)
def test_detect(gpu_window, hardware, driver, expected):
    """Hardware that slows down is a fault, a driver that does is a ticket once it lasts."""
    window = gpu_window({HARDWARE: share(hardware), DRIVER: share(driver)})

    assert expected == [(finding.outcome, finding.result) for finding in detect(window)]


@pytest.mark.parametrize(
    ("held_s", "expected"),
    [
        pytest.param(1.1, [], id="a second"),
        pytest.param(2.9, [(DOUBTFUL, WARN)], id="a little less than 5 % of a minute"),
        pytest.param(3.1, [(BAD, FAIL)], id="more"),
    ],
)
def test_an_agent_that_has_seen_little_does_not_page(gpu_window, held_s, expected):
    """It has looked for ten seconds: a share is of a minute at least."""
    window = gpu_window({HARDWARE: [0.0] * 10 + [held_s], DRIVER: 0.0})

    assert expected == [(finding.outcome, finding.result) for finding in detect(window)]


def test_nobody_can_say(gpu_window):
    assert [UNKNOWN] == [finding.outcome for finding in detect(gpu_window({HARDWARE: 0.0}))]


def test_the_margin_is_evidence(gpu_window):
    signals = {HARDWARE: share(1.0), DRIVER: 0.0, "gpu_temperature_margin_celsius": -3}
    (finding,) = detect(gpu_window(signals))

    assert [
        ("gpu_hw_thermal_ratio", 1.0),
        ("gpu_sw_thermal_ratio", 0.0),
        ("gpu_temperature_margin_celsius", -3.0),
    ] == [(fact.name, fact.value) for fact in finding.evidence]
