"""Detect a torch process that keeps flushing its cache to find memory.

A retry waits for all streams, gives every unsplit block back to the driver, which stops the device,
and asks anew: the request succeeds, late, and so do all others.  One is a peak; one in every third
of a minute is a way of living.  A sign and not a cause, so it is stored; fragmentation is named as
its cause where it is found.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from gpuward.agent.fragmentation_cache import (
    OOMS,
    RETRIES,
    STRANDED,
    cache_of,
    cause_of,
    is_known,
    latest,
    risen,
    tapped,
)
from gpuward.agent.fragmentation_remedies import action, remedies
from gpuward.agent.kind import Kind
from gpuward.agent.memory_around import around
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

    from gpuward.agent.fragmentation_cache import Cache
    from gpuward.agent.model import Subject
    from gpuward.agent.window import Window

COUNTED_BESIDE = (
    "process_allocation_stream_syncs_total",
    "process_allocation_driver_calls_total",
    OOMS,
)

KIND = Kind(
    name="process.memory.alloc_retries",
    default_class=FindingClass.STORE,
    domain=CauseDomain.CAPACITY,
    action=Action.CHECK_APPLICATION,
    meaning="A torch process keeps flushing its cache, which stalls the device, to find memory.",
    clear_after_s=30.0,
)


@dataclass(frozen=True, slots=True)
class Limits:
    """Retries in each of so many stretches of time, one after the other."""

    stretches: int = 3
    stretch_s: float = 20.0


def detect(window: Window, limits: Limits = Limits()) -> Iterator[Finding]:
    """Yield per process and GPU: bad when it retries in every stretch, doubtful in one."""
    for process, gpu in tapped(window):
        subject = subject_of(window, gpu=gpu, process=process)
        key = SeriesKey(RETRIES, gpu=gpu, process=process)
        if window.latest(key) is None or not is_known(window, process, gpu):
            yield Finding(KIND.name, subject, "Retries are unknown.", outcome=Outcome.UNKNOWN)
            continue
        span_s = limits.stretches * limits.stretch_s
        if risen(window, key, RETRIES, window.now_s - span_s) <= 0:
            continue
        since = [
            risen(window, key, RETRIES, window.now_s - (back + 1) * limits.stretch_s)
            for back in range(limits.stretches)
        ]
        # Each count holds the later stretches too.
        stretches = [since[0], *(more - less for less, more in pairwise(since))]
        if cache := cache_of(window, process, gpu):
            finding = _finding(window, cache, subject, since[-1], limits)
            bad = min(stretches) > 0
            yield finding if bad else replace(finding, outcome=Outcome.DOUBTFUL)


def _finding(
    window: Window, cache: Cache, subject: Subject, retries: float, limits: Limits
) -> Finding:
    known = around(window, cache, subject)
    span_s = limits.stretches * limits.stretch_s
    return Finding(
        kind=KIND.name,
        subject=subject,
        summary=(
            f"Process {subject.process} had to flush its cache {retries:.0f} times in the last "
            f"{span_s:.0f} s to find memory."
        ),
        result=Result.WARN,
        evidence=(
            Evidence(
                "process_allocation_retries", retries, "1", 0.0, source="tap", at_s=cache.at_s
            ),
            *_beside(window, subject, window.now_s - span_s),
            Evidence(STRANDED, cache.stranded, "bytes", source="tap", at_s=cache.at_s),
            *remedies(cache, known),
        ),
        action=action(cache, known),
        causes=cause_of(cache, subject),
    )


def _beside(window: Window, subject: Subject, since_s: float) -> Iterator[Evidence]:
    """Yield how often the allocator waited for the device, asked the driver or gave up since."""
    key = SeriesKey("", gpu=subject.gpu, process=subject.process)
    for signal in COUNTED_BESIDE:
        if latest(window, key, signal) is not None:
            times = risen(window, key, signal, since_s)
            yield Evidence(signal.removesuffix("_total"), times, "1", source="tap")
