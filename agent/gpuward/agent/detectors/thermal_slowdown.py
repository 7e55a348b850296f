"""Detect a GPU that is slowed because it is hot.

Hardware slows down at a limit that a healthy, cooled node never meets; the driver slows down a
little earlier, which some nodes do for minutes in a hot afternoon.  So the first is a fault and the
second a ticket once it lasts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpuward.agent.clock_reasons import Reason, held_ratio
from gpuward.agent.kind import Kind
from gpuward.agent.model import (
    Action,
    CauseDomain,
    Evidence,
    Finding,
    FindingClass,
    Outcome,
    Result,
    SeriesKey,
)
from gpuward.agent.subject import subject_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.agent.window import Window

MARGIN = "gpu_temperature_margin_celsius"

KIND = Kind(
    name="gpu.thermal.slowdown",
    default_class=FindingClass.TICKET,
    domain=CauseDomain.GPU,
    action=Action.DRAIN_NODE,
    meaning="Heat holds the clocks of a GPU down: by hardware, or by the driver for long.",
    clear_after_s=120.0,
    page_when_failed=True,
)


@dataclass(frozen=True, slots=True)
class Limits:
    """Shares of ``recent_s``; two for each, so that a value on the edge does not flap."""

    recent_s: float = 290.0
    hardware_ratio: float = 0.05
    driver_ratio: float = 0.5
    clear_ratio: float = 0.02


def detect(window: Window, limits: Limits = Limits()) -> Iterator[Finding]:
    """Yield per GPU: failed when hardware slows it, a warning when the driver does mostly."""
    for gpu in window.gpus:
        hardware = held_ratio(window, gpu.uuid, Reason.HW_THERMAL, limits.recent_s)
        driver = held_ratio(window, gpu.uuid, Reason.SW_THERMAL, limits.recent_s)
        subject = subject_of(window, gpu=gpu.uuid)
        if hardware is None or driver is None:
            text = f"Why GPU {gpu.index} is slowed is unknown."
            yield Finding(KIND.name, subject, text, outcome=Outcome.UNKNOWN)
            continue
        if max(hardware, driver) < limits.clear_ratio:
            continue
        failed = hardware >= limits.hardware_ratio
        bad = failed or driver >= limits.driver_ratio
        yield Finding(
            kind=KIND.name,
            subject=subject,
            summary=f"Heat holds the clocks of GPU {gpu.index} down.",
            outcome=Outcome.BAD if bad else Outcome.DOUBTFUL,
            result=Result.FAIL if failed else Result.WARN,
            evidence=(
                _share("gpu_hw_thermal_ratio", hardware, limits.hardware_ratio),
                _share("gpu_sw_thermal_ratio", driver, limits.driver_ratio),
                *_margin(window, gpu.uuid),
            ),
        )


def _share(name: str, value: float, threshold: float) -> Evidence:
    return Evidence(name, value, "ratio", threshold=threshold, source="nvml")


def _margin(window: Window, gpu: str) -> Iterator[Evidence]:
    sample = window.latest(SeriesKey(MARGIN, gpu=gpu))
    if sample is not None:
        yield Evidence(MARGIN, sample.value, "celsius", source="nvml", at_s=sample.at_s)
