"""Detect memory whose corrected errors come ever faster.

Each of them is harmless, so their number says little; their rate shows a part that is giving way.
A card that corrected 4,647 and later 17,657 errors a second was called healthy by every monitor in
sight until it failed (NVIDIA/NVSentinel#1748): nobody looked at the slope.
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

    from gpuward.agent.model import Subject
    from gpuward.agent.window import Window

COUNT = "gpu_ecc_corrected_total"

KIND = Kind(
    name="gpu.ecc.corrected_rate",
    default_class=FindingClass.TICKET,
    domain=CauseDomain.GPU,
    action=Action.REPLACE_HARDWARE,
    meaning="Corrected memory errors come so fast that the memory is giving way.",
    raise_after_s=120.0,
    clear_after_s=600.0,
)


@dataclass(frozen=True, slots=True)
class Limits:
    """Errors a second over ``recent_s``; healthy cards have a few a day."""

    recent_s: float = 290.0
    # As long as this must be seen, or a rate is one reading's chance.
    least_s: float = 120.0
    raise_per_second: float = 1.0
    clear_per_second: float = 0.3
    failing_per_second: float = 100.0


def detect(window: Window, limits: Limits = Limits()) -> Iterator[Finding]:
    """Yield per GPU: bad from ``raise_per_second``, doubtful above ``clear_per_second``."""
    for gpu in window.gpus:
        if COUNT in gpu.unsupported:
            continue
        key = SeriesKey(COUNT, gpu=gpu.uuid)
        since_s = window.now_s - limits.recent_s
        subject = subject_of(window, gpu=gpu.uuid)
        if window.latest(key) is None:
            text = f"Memory errors of GPU {gpu.index} are not known."
            yield Finding(KIND.name, subject, text, outcome=Outcome.UNKNOWN)
            continue
        rise = window.risen(key, since_s)
        if rise == 0:
            continue
        samples = window.values(key, since_s)
        rate = rise / max(limits.least_s, samples[-1].at_s - samples[0].at_s)
        if rate > limits.clear_per_second:
            yield _finding(subject, gpu.index, rate, limits)


def _finding(subject: Subject, index: int, rate: float, limits: Limits) -> Finding:
    return Finding(
        kind=KIND.name,
        subject=subject,
        summary=f"GPU {index} corrects {rate:.1f} memory errors a second.",
        outcome=Outcome.BAD if rate >= limits.raise_per_second else Outcome.DOUBTFUL,
        result=Result.FAIL if rate >= limits.failing_per_second else Result.WARN,
        evidence=(
            Evidence(
                "gpu_ecc_corrected_per_second",
                rate,
                "1/s",
                threshold=limits.raise_per_second,
                source="nvml",
            ),
        ),
    )
