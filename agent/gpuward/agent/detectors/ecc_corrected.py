"""Detect memory whose corrected errors come ever faster.

Each of them is harmless, so their number says little; their rate shows a part that is giving way.
A card that corrected 4,647 and later 17,657 errors a second was called healthy by every monitor in
sight until it failed (NVIDIA/NVSentinel#1748): nobody looked at the slope.  That is a hundred times
what a failing part begins with, so a hundred a second for two minutes wakes somebody: the card
stalled its node's monitoring, and what comes next is an error that nothing corrects.
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
    page_when_failed=True,
)


@dataclass(frozen=True, slots=True)
class Limits:
    """Errors a second over ``recent_s``; healthy cards have a few a day."""

    recent_s: float = 290.0
    # As long as this must be seen, or a rate is one reading's chance.
    least_s: float = 120.0
    raise_per_second: float = 1.0
    clear_per_second: float = 0.3
    # Over the last of them, so that one burst is no page: two minutes of readings, and one on time.
    failing_s: float = 150.0
    failing_per_second: float = 100.0


def detect(window: Window, limits: Limits = Limits()) -> Iterator[Finding]:
    """Yield per GPU: bad from ``raise_per_second``, doubtful above ``clear_per_second``.

    Failed while they come at ``failing_per_second``, and go on.
    """
    for gpu in window.gpus:
        if COUNT in gpu.unsupported:
            continue
        key = SeriesKey(COUNT, gpu=gpu.uuid)
        subject = subject_of(window, gpu=gpu.uuid)
        if window.latest(key) is None:
            text = f"Memory errors of GPU {gpu.index} are not known."
            yield Finding(KIND.name, subject, text, outcome=Outcome.UNKNOWN)
            continue
        rate = _per_second(window, key, limits.recent_s, limits)
        if rate > limits.clear_per_second:
            yield _finding(window, subject, gpu.index, rate, limits)


def _per_second(window: Window, key: SeriesKey, for_s: float, limits: Limits) -> float:
    rise = window.risen(key, window.now_s - for_s)
    if rise == 0:
        return 0.0
    samples = window.values(key, window.now_s - for_s)
    return rise / max(limits.least_s, samples[-1].at_s - samples[0].at_s)


def _finding(window: Window, subject: Subject, index: int, rate: float, limits: Limits) -> Finding:
    lately = _per_second(window, SeriesKey(COUNT, gpu=subject.gpu), limits.failing_s, limits)
    return Finding(
        kind=KIND.name,
        subject=subject,
        summary=f"GPU {index} corrects {rate:.1f} memory errors a second.",
        outcome=Outcome.BAD if rate >= limits.raise_per_second else Outcome.DOUBTFUL,
        result=Result.FAIL if lately >= limits.failing_per_second else Result.WARN,
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
