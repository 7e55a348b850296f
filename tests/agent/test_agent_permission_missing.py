"""Calls that the driver refuses to the agent's user."""

from __future__ import annotations

from gpuward.agent.detectors.agent_permission_missing import detect
from gpuward.agent.model import Driver, Outcome, Result
from gpuward.agent.window import Window


def findings(**driver):
    return list(detect(Window.of(now_s=1_000.0, driver=Driver(**driver))))


def test_nothing_is_refused():
    assert findings(up=True) == []


def test_each_refused_call_is_named():
    (finding,) = findings(up=True, denied=("nvmlDeviceGetA", "nvmlDeviceGetB"))

    assert finding.result is Result.WARN
    assert [fact.text for fact in finding.evidence] == ["nvmlDeviceGetA", "nvmlDeviceGetB"]


def test_a_driver_that_is_down_refuses_nothing():
    (finding,) = findings(up=False, denied=("nvmlDeviceGetA",))

    assert finding.outcome is Outcome.UNKNOWN
