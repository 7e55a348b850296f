"""Detect a busy GPU whose clock is low for no reason that is known.

A GPU that runs at 60 % of its clock answers everything, only later, and no counter calls it sick.
What it can do is what its data sheet says or, where that is more, what it was once seen to hold.
Idle GPUs, GPUs at their power limit and GPUs whose clock somebody set are slow on purpose; heat and
the power brake have findings of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from gpuward.agent.clock_reasons import Reason, held_ratio
from gpuward.agent.gpu_load import was_busy
from gpuward.agent.kind import Kind
from gpuward.agent.learned_best import CLOCK_BEST
from gpuward.agent.model import (
    Action,
    CauseDomain,
    Evidence,
    Finding,
    FindingClass,
    Result,
    SeriesKey,
)
from gpuward.agent.subject import subject_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.agent.window import Window

CLOCK = "gpu_sm_clock_hertz"
HIGHEST = "gpu_sm_clock_max_hertz"
# Each explains a low clock.
EXPLAINED = (
    Reason.APPLICATION_CLOCKS,
    Reason.SW_POWER_CAP,
    Reason.SYNC_BOOST,
    Reason.SW_THERMAL,
    Reason.HW_THERMAL,
    Reason.HW_POWER_BRAKE,
)

KIND = Kind(
    name="gpu.clock.slow_under_load",
    default_class=FindingClass.TICKET,
    domain=CauseDomain.GPU,
    action=Action.RESET_GPU,
    meaning="A busy GPU runs far below its clock, and nothing says why.",
    raise_after_s=60.0,
    clear_after_s=120.0,
)


@dataclass(frozen=True, slots=True)
class Limits:
    """Median clock of ``recent_s`` by the highest and the best; share that explains a low one."""

    recent_s: float = 240.0
    # NVIDIA's own benchmarks discard a run below this (nvbench, throttle threshold 0.75).
    slow_ratio: float = 0.75
    # A clock that was held for minutes is a closer yardstick than a peak that hardly any load has.
    best_ratio: float = 0.85
    explained_ratio: float = 0.2


def detect(window: Window, limits: Limits = Limits()) -> Iterator[Finding]:
    """Yield one finding per GPU that is busy, slow and unexplained."""
    for gpu in window.gpus:
        figures = window.figures(SeriesKey(CLOCK, gpu=gpu.uuid), window.now_s - limits.recent_s)
        highest = window.latest(SeriesKey(HIGHEST, gpu=gpu.uuid))
        if not figures or highest is None or highest.value <= 0:
            continue
        best = window.latest(SeriesKey(CLOCK_BEST, gpu=gpu.uuid))
        low_hertz = max(
            limits.slow_ratio * highest.value,
            limits.best_ratio * (0.0 if best is None else best.value),
        )
        # The newest first: a median of minutes is only worth it when this one is low.
        if figures[-1] >= low_hertz:
            continue
        ratio = median(figures) / highest.value
        if (
            ratio * highest.value < low_hertz
            and was_busy(window, gpu.uuid, limits.recent_s)
            and not _is_explained(window, gpu.uuid, limits)
        ):
            yield Finding(
                kind=KIND.name,
                subject=subject_of(window, gpu=gpu.uuid),
                summary=f"GPU {gpu.index} is busy at {ratio:.0%} of its clock; nothing says why.",
                result=Result.WARN,
                evidence=(
                    Evidence(
                        "gpu_sm_clock_ratio",
                        ratio,
                        "ratio",
                        threshold=low_hertz / highest.value,
                        source="nvml",
                    ),
                ),
            )


def _is_explained(window: Window, gpu: str, limits: Limits) -> bool:
    shares = (held_ratio(window, gpu, reason, limits.recent_s) for reason in EXPLAINED)
    return any(share is None or share >= limits.explained_ratio for share in shares)
