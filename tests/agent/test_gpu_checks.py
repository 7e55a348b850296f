"""What was checked of a GPU, and what was not."""

from __future__ import annotations

import pytest

from gpuward.agent.detectors import DETECTORS
from gpuward.agent.gpu_checks import NEEDS, State, states
from gpuward.agent.model import Driver, Gpu, Sample, SeriesKey, Snapshot
from gpuward.agent.signals import SIGNALS, Scope

# About a GPU by name, and not by its figures: the driver's list, its log, PCI's count.
BY_OTHER_MEANS = {
    "gpu.init_failed",
    "gpu.lost",
    "gpu.missing",
    "gpu.reset_required",
    "gpu.sxid",
    "gpu.xid",
}


def snapshot(*signals):
    keys = [SeriesKey(signal, gpu="GPU-1") for signal in signals]
    samples = {key: Sample(key, 1.0, 1.0) for key in keys}
    return Snapshot("n", "b", 1.0, 0.0, Driver(up=True), samples=samples)


def gpu(*unsupported):
    return Gpu("GPU-1", 0, "NVIDIA H100", "1B:00.0", unsupported=frozenset(unsupported))


BRAKED, REASONS = "gpu_clock_event_hw_power_brake_seconds_total", "gpu_clock_event_reasons"


@pytest.mark.parametrize(
    ("fresh", "unsupported", "expected"),
    [
        pytest.param([BRAKED], [], State.CHECKED, id="by its counter"),
        pytest.param([REASONS], [BRAKED], State.CHECKED, id="by the other way"),
        pytest.param([], [], State.UNKNOWN, id="nothing was read lately"),
        pytest.param([], [BRAKED], State.UNKNOWN, id="the other way was not read"),
        pytest.param([], [BRAKED, REASONS], State.UNSUPPORTED, id="neither way is supported"),
    ],
)
def test_states(fresh, unsupported, expected):
    """A check is made when one way to make it has all its figures."""
    assert expected is dict(states(snapshot(*fresh), gpu(*unsupported)))["gpu.power.brake"]


def test_half_of_the_figures_is_not_a_check():
    one = dict(states(snapshot("gpu_power_limit_watts"), gpu()))

    assert one["gpu.power.limit_lowered"] is State.UNKNOWN


def test_each_kind_about_a_gpu_says_what_it_needs():
    """A new kind that is missing here would be neither checked nor unchecked."""
    judged = {detector.kind.name for detector in DETECTORS}

    assert {kind for kind in judged if kind.startswith("gpu.")} - BY_OTHER_MEANS == NEEDS.keys()


def test_each_need_is_a_signal_of_a_gpu():
    needed = {signal for ways in NEEDS.values() for way in ways for signal in way}

    assert [] == [name for name in needed if SIGNALS[name].scope is not Scope.GPU]
