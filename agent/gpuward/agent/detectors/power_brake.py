"""Detect a GPU that its power supply holds down.

A supply that cannot deliver pulls the power brake, and the GPU drops to a fraction of its clock:
it answers and computes as before, only slower.  Nine nodes ran so for 36 hours while a noisy watch
of the harmless software power cap was on (NVIDIA/NVSentinel#1666); the cap is no part of this.
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
)
from gpuward.agent.subject import subject_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.agent.window import Window

KIND = Kind(
    name="gpu.power.brake",
    default_class=FindingClass.PAGE,
    domain=CauseDomain.GPU,
    action=Action.DRAIN_NODE,
    meaning="The power supply of the node or rack holds the clocks of a GPU down.",
    clear_after_s=60.0,
)


@dataclass(frozen=True, slots=True)
class Limits:
    """Share of ``recent_s`` under the brake; a single flicker is less."""

    recent_s: float = 30.0
    braked_ratio: float = 0.1


def detect(window: Window, limits: Limits = Limits()) -> Iterator[Finding]:
    """Yield one finding per braked GPU; unknown while nobody can say."""
    for gpu in window.gpus:
        ratio = held_ratio(window, gpu.uuid, Reason.HW_POWER_BRAKE, limits.recent_s)
        subject = subject_of(window, gpu=gpu.uuid)
        if ratio is None:
            text = f"Why GPU {gpu.index} is slowed is unknown."
            yield Finding(KIND.name, subject, text, outcome=Outcome.UNKNOWN)
        elif ratio >= limits.braked_ratio:
            yield Finding(
                kind=KIND.name,
                subject=subject,
                summary=f"The power supply holds the clocks of GPU {gpu.index} down.",
                evidence=(
                    Evidence(
                        name="gpu_power_brake_ratio",
                        value=ratio,
                        unit="ratio",
                        threshold=limits.braked_ratio,
                        source="nvml",
                    ),
                ),
            )
