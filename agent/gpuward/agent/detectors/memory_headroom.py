"""Detect a torch process that hardly another large request fits into.

Headroom is the largest request that succeeds, a flush of the cache included, measured in mean large
requests: of all that was tried the best foreteller of an out-of-memory error with one threshold for
all workloads (AUC 0.91 over simulated loads, reserved minus allocated 0.4).  It is a sign and not a
cause: what took the room is a finding of its own, which this one names, so this one is only stored.
When the room runs out is told only where its fall is certain, and at most an hour ahead.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gpuward.agent.fragmentation_cache import (
    GIB,
    HEADROOM,
    HEADROOM_RATIO,
    LIMITS,
    MEAN_REQUEST,
    Cache,
    Limits,
    cache_of,
    cause_of,
    is_known,
    latest,
    tapped,
)
from gpuward.agent.fragmentation_remedies import action, remedies, utilization_change
from gpuward.agent.kind import Kind
from gpuward.agent.memory_around import around, facts
from gpuward.agent.memory_exhaustion import EXHAUSTED_IN, exhaustion
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

    from gpuward.agent.memory_around import Around
    from gpuward.agent.model import Subject
    from gpuward.agent.window import Window

GPU_TOTAL = "gpu_memory_total_bytes"

KIND = Kind(
    name="process.memory.headroom_low",
    default_class=FindingClass.STORE,
    domain=CauseDomain.CAPACITY,
    action=Action.CHECK_APPLICATION,
    meaning="Hardly another large request fits into the memory that a torch process can get.",
    raise_after_s=3.0,
    # A busy server comes and goes around the limit: that is one story, not a hundred.
    clear_after_s=600.0,
)


def detect(window: Window, limits: Limits = LIMITS) -> Iterator[Finding]:
    """Yield per process and GPU: warn below 24 requests, fail below 8, doubtful below 30.

    Unknown while allocator or driver are silent, or the counters are of memory that is not mapped.
    """
    for process, gpu in tapped(window):
        subject = subject_of(window, gpu=gpu, process=process)
        key = SeriesKey("", gpu=gpu, process=process)
        if not is_known(window, process, gpu) or latest(window, key, HEADROOM) is None:
            yield Finding(KIND.name, subject, "The headroom is unknown.", outcome=Outcome.UNKNOWN)
            continue
        ratio = latest(window, key, HEADROOM_RATIO)
        if ratio is None or ratio >= limits.headroom_warn_ratio / limits.clear_factor:
            continue
        if cache := cache_of(window, process, gpu, limits):
            result = _judge(cache, limits)
            finding = _finding(window, cache, subject, limits, result or Result.WARN)
            yield finding if result else replace(finding, outcome=Outcome.DOUBTFUL)


def _judge(cache: Cache, limits: Limits) -> Result | None:
    if cache.headroom_ratio is not None and cache.headroom_ratio < limits.headroom_critical_ratio:
        return Result.FAIL
    if cache.lasting_ratio is not None and cache.lasting_ratio < limits.headroom_warn_ratio:
        return Result.WARN
    return None


def _finding(
    window: Window, cache: Cache, subject: Subject, limits: Limits, result: Result
) -> Finding:
    known = around(window, cache, subject)
    return Finding(
        kind=KIND.name,
        subject=subject,
        summary=(
            f"Process {subject.process} can get {(cache.headroom or 0.0) / GIB:.2f} GiB more GPU "
            f"memory: room for {cache.headroom_ratio or 0.0:.0f} of its large requests."
        ),
        result=result,
        evidence=tuple(_evidence(window, cache, subject, limits, known)),
        action=action(cache, known),
        causes=cause_of(cache, subject),
    )


def _evidence(
    window: Window, cache: Cache, subject: Subject, limits: Limits, known: Around
) -> Iterator[Evidence]:
    for name, value, unit, limit in (
        (HEADROOM, cache.headroom, "bytes", None),
        (HEADROOM_RATIO, cache.headroom_ratio, "ratio", limits.headroom_warn_ratio),
        (MEAN_REQUEST, cache.mean_request, "bytes", None),
    ):
        if value is not None:
            yield Evidence(name, value, unit, limit, source="tap", at_s=cache.at_s)
    if ahead := exhaustion(window, process=subject.process, gpu=subject.gpu):
        yield Evidence(
            EXHAUSTED_IN,
            ahead.middle_s,
            "seconds",
            text=f"At this pace the headroom is gone in {ahead.earliest_s / 60:.0f} to "
            f"{ahead.latest_s / 60:.0f} minutes (80 %).",
            source="tap",
        )
    yield from facts(window, subject)
    yield from remedies(cache, known)
    total = window.latest(SeriesKey(GPU_TOTAL, gpu=subject.gpu))
    yield from utilization_change(cache, total.value if total else None, subject.engine, known)
