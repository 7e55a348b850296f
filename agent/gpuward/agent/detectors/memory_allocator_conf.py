"""Detect two settings of torch's allocator that are good alone and bad together.

A request below ``max_split_size_mb`` is never served from a free block above it, and expandable
segments join free blocks into large ones: so what is freed is not used again, new memory is mapped
instead, and the cache grows without bound.  pytorch issue 193400 shows 14,060 MiB reserved for 266
in use, and each setting alone at most 422.  A finding of its own, because it is certain before
anything is lost, and because the remedy is a line of configuration and not a restart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuward.agent.fragmentation_cache import (
    EXPANDABLE,
    MIB,
    RESERVED,
    cache_of,
    latest,
    tapped,
)
from gpuward.agent.fragmentation_remedies import remedies
from gpuward.agent.kind import Kind
from gpuward.agent.memory_around import MAX_SPLIT, around
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

WITHOUT_MAX_SPLIT = "remedy_without_max_split_size_bytes"

KIND = Kind(
    name="process.memory.allocator_conf",
    default_class=FindingClass.TICKET,
    domain=CauseDomain.CAPACITY,
    action=Action.CHECK_APPLICATION,
    meaning="Settings of torch's allocator let its cache grow without bound.",
    raise_after_s=3.0,
    clear_after_s=30.0,
)


def detect(window: Window) -> Iterator[Finding]:
    """Yield per process and GPU with both settings; unknown while the tap is silent."""
    for process, gpu in tapped(window):
        key = SeriesKey("", gpu=gpu, process=process)
        expandable = latest(window, key, EXPANDABLE)
        if expandable is None:
            about = subject_of(window, gpu=gpu, process=process)
            yield Finding(KIND.name, about, "Settings are unknown.", outcome=Outcome.UNKNOWN)
            continue
        max_split = latest(window, key, MAX_SPLIT)
        if expandable and max_split is not None:
            yield _finding(window, subject_of(window, gpu=gpu, process=process), max_split)


def _finding(window: Window, subject: Subject, max_split: float) -> Finding:
    return Finding(
        kind=KIND.name,
        subject=subject,
        summary=(
            f"Process {subject.process} has expandable_segments and max_split_size_mb "
            f"({max_split / MIB:.0f}) set: together they let its cache grow without bound."
        ),
        result=Result.WARN,
        evidence=tuple(_evidence(window, subject, max_split)),
    )


def _evidence(window: Window, subject: Subject, max_split: float) -> Iterator[Evidence]:
    yield Evidence(EXPANDABLE, 1.0, "1", source="tap")
    yield Evidence(MAX_SPLIT, max_split, "bytes", source="tap")
    cache = cache_of(window, subject.process, subject.gpu)
    if cache is None:
        return
    yield Evidence(RESERVED, cache.reserved, "bytes", source="tap", at_s=cache.at_s)
    for remedy in remedies(cache, around(window, cache, subject)):
        if remedy.name == WITHOUT_MAX_SPLIT:
            yield remedy
