"""Detect that less of a GPU's memory is in sight of a tap than a while ago.

An upgrade that drops the tap, or a restart without its path, breaks nothing today: the findings
that would have come are silently missing.  Judged against the best of the last minutes, because
how much can be seen depends on what runs.
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

TAPPED_RATIO = "gpu_memory_tapped_ratio"

KIND = Kind(
    name="gpu.memory.coverage_fell",
    default_class=FindingClass.TICKET,
    domain=CauseDomain.CAPACITY,
    action=Action.CHECK_APPLICATION,
    meaning="Less of a GPU's memory is seen by a tap than some minutes ago.",
    # A restart takes a while until it is seen again.
    raise_after_s=60.0,
    clear_after_s=10.0,
)


@dataclass(frozen=True, slots=True)
class Limits:
    """By how much the share of the memory in sight fell, below the best of ``since_s``."""

    since_s: float = 1_200.0
    raise_fall: float = 0.25
    clear_fall: float = 0.20


def detect(window: Window, limits: Limits = Limits()) -> Iterator[Finding]:
    """Yield per GPU; unknown while nobody can say how much is in sight."""
    for gpu in window.gpus:
        key = SeriesKey(TAPPED_RATIO, gpu=gpu.uuid)
        before = window.figures(key, window.now_s - limits.since_s)
        latest = window.latest(key)
        if latest is None:
            if before:
                about = subject_of(window, gpu=gpu.uuid)
                words = "What is in sight is unknown."
                yield Finding(KIND.name, about, words, outcome=Outcome.UNKNOWN)
            continue
        best = max(before)
        if best - latest.value < limits.clear_fall:
            continue
        yield Finding(
            kind=KIND.name,
            subject=subject_of(window, gpu=gpu.uuid),
            summary=(
                f"{latest.value:.0%} of the memory of GPU {gpu.index} is in sight of a tap; it was "
                f"{best:.0%} within {limits.since_s / 60:.0f} minutes."
            ),
            outcome=(Outcome.BAD if best - latest.value >= limits.raise_fall else Outcome.DOUBTFUL),
            result=Result.WARN,
            evidence=(
                Evidence(
                    TAPPED_RATIO,
                    latest.value,
                    "ratio",
                    best - limits.raise_fall,
                    source="tap",
                    at_s=latest.at_s,
                ),
            ),
        )
