"""Detect that less of a GPU's memory is in sight of a tap than a while ago.

An upgrade that drops the tap, or a restart without its path, breaks nothing today: the findings
that would have come are silently missing.  Judged against the best of the last minutes, because
how much can be seen depends on what runs; and it is not over because minutes pass, but when the
memory is in sight again, or what hides it is gone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gpuward.agent.coverage import coverage_of
from gpuward.agent.fragmentation_cache import DRIVER_USED, GIB
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
    from collections.abc import Iterator, Sequence

    from gpuward.agent.coverage import Coverage
    from gpuward.agent.model import Gpu, Sample, Subject
    from gpuward.agent.window import Window

TAPPED_RATIO = "gpu_memory_tapped_ratio"
# Named in the evidence, the largest first.
NAMED = 5

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


@dataclass(frozen=True, slots=True)
class _Holder:
    """A process that holds memory on a GPU, and how much of it can be seen."""

    held: float
    process: str
    coverage: Coverage


def detect(window: Window, limits: Limits = Limits()) -> Iterator[Finding]:
    """Yield per GPU: bad when it fell, doubtful while what could be in sight again is not.

    Unknown while nobody can say how much is in sight.
    """
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
        # Most of the time nothing is hidden, and nobody need be asked.
        if 1.0 - latest.value < limits.clear_fall:
            continue
        best, holders = max(before), _holders(window, gpu.uuid)
        fall = best - latest.value
        if fall >= limits.clear_fall or _could_be_seen(holders) >= limits.clear_fall:
            about = subject_of(window, gpu=gpu.uuid)
            finding = _finding(gpu, about, latest, best, limits)
            evidence = (*finding.evidence, *_unseen(holders))
            outcome = Outcome.BAD if fall >= limits.raise_fall else Outcome.DOUBTFUL
            yield replace(finding, evidence=evidence, outcome=outcome)


def _holders(window: Window, gpu: str) -> list[_Holder]:
    """Return who holds memory on ``gpu``, the largest first."""
    found = [
        _Holder(sample.value, key.process, coverage_of(window, key.process, gpu))
        for key in window.keys(DRIVER_USED)
        if key.gpu == gpu and (sample := window.latest(key)) is not None
    ]
    return sorted(found, key=lambda one: (-one.held, one.process))


def _could_be_seen(holders: Sequence[_Holder]) -> float:
    """Return the share of the memory that a tap could show and does not."""
    total = sum(one.held for one in holders)
    hidden = sum(one.held for one in holders if one.coverage.could_be_more)
    return hidden / total if total > 0 else 0.0


def _finding(gpu: Gpu, subject: Subject, latest: Sample, best: float, limits: Limits) -> Finding:
    return Finding(
        kind=KIND.name,
        subject=subject,
        summary=(
            f"{latest.value:.0%} of the memory of GPU {gpu.index} is in sight of a tap; it was "
            f"{best:.0%} within {limits.since_s / 60:.0f} minutes."
        ),
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


def _unseen(holders: Sequence[_Holder]) -> Iterator[Evidence]:
    unseen = [one for one in holders if one.coverage.reason]
    for one in unseen[:NAMED]:
        text = f"{one.process} holds {one.held / GIB:.2f} GiB out of sight: {one.coverage.reason}."
        yield Evidence("unseen_process_memory_bytes", one.held, "bytes", text=text, source="nvml")
