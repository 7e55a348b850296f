"""More GPUs on the bus than the driver lists."""

from __future__ import annotations

import pytest

from gpuward.agent.detectors.gpu_missing import detect
from gpuward.agent.model import Driver, Outcome, Sample, SeriesKey
from gpuward.agent.window import Window


def findings(expected, present, *, up=True):
    samples = [
        Sample(SeriesKey(name), 1_000.0, float(value))
        for name, value in (("node_gpus_expected", expected), ("node_gpus_present", present))
        if value is not None
    ]
    return list(detect(Window.of(samples, now_s=1_000.0, driver=Driver(up=up))))


@pytest.mark.parametrize(
    ("expected", "present", "outcomes"),
    [
        pytest.param(8, 8, [], id="all there"),
        pytest.param(8, 9, [], id="more than PCI knows"),
        pytest.param(8, 7, [Outcome.BAD], id="one is missing"),
        pytest.param(8, 0, [Outcome.BAD], id="none is there"),
        pytest.param(None, 8, [Outcome.UNKNOWN], id="PCI was not looked at"),
        pytest.param(8, None, [Outcome.UNKNOWN], id="the driver has not listed any"),
    ],
)
def test_detect(expected, present, outcomes):
    """Fewer than PCI has bound to the driver is bad."""
    assert outcomes == [finding.outcome for finding in findings(expected, present)]


def test_without_a_driver_nothing_is_missing():
    assert [Outcome.UNKNOWN] == [finding.outcome for finding in findings(8, 0, up=False)]


def test_the_finding_counts():
    (finding,) = findings(8, 7)

    assert "7 of 8 GPUs are there." == finding.summary
    assert [("node_gpus_present", 7.0, 8.0), ("node_gpus_expected", 8.0, None)] == [
        (fact.name, fact.value, fact.threshold) for fact in finding.evidence
    ]
