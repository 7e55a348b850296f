"""Detect memory of a GPU that is hotter than it should be for long.

HBM corrects more errors and ages faster when hot, and nothing slows the GPU before its own limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

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

TEMPERATURE = "gpu_memory_temperature_celsius"

KIND = Kind(
    name="gpu.thermal.memory",
    default_class=FindingClass.TICKET,
    domain=CauseDomain.GPU,
    action=Action.DRAIN_NODE,
    meaning="The memory of a GPU is too hot for too long.",
    raise_after_s=300.0,
    clear_after_s=300.0,
)


@dataclass(frozen=True, slots=True)
class Limits:
    """HBM3 is specified up to 95 degrees and doubles its refresh above 85."""

    raise_celsius: float = 95.0
    clear_celsius: float = 92.0


def detect(window: Window, limits: Limits = Limits()) -> Iterator[Finding]:
    """Yield per GPU: bad from ``raise_celsius``, doubtful above ``clear_celsius``."""
    for gpu in window.gpus:
        if TEMPERATURE in gpu.unsupported:
            continue
        sample = window.latest(SeriesKey(TEMPERATURE, gpu=gpu.uuid))
        subject = subject_of(window, gpu=gpu.uuid)
        if sample is None:
            text = f"The temperature of GPU {gpu.index}'s memory is unknown."
            yield Finding(KIND.name, subject, text, outcome=Outcome.UNKNOWN)
        elif sample.value > limits.clear_celsius:
            yield Finding(
                kind=KIND.name,
                subject=subject,
                summary=f"The memory of GPU {gpu.index} is at {sample.value:.0f} degrees.",
                outcome=Outcome.BAD if sample.value >= limits.raise_celsius else Outcome.DOUBTFUL,
                result=Result.WARN,
                evidence=(
                    Evidence(
                        TEMPERATURE,
                        sample.value,
                        "celsius",
                        threshold=limits.raise_celsius,
                        source="nvml",
                        at_s=sample.at_s,
                    ),
                ),
            )
