"""Detect a process whose room another process on the GPU has taken.

Restarting the victim would not help it: what it lacks is held by others.  It is the neighbours'
doing when they have grown, when the victim has too little room now, and when it would have enough
had they not grown.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gpuward.agent.fragmentation_cache import (
    DRIVER_USED,
    GIB,
    HEADROOM,
    HEADROOM_RATIO,
    LIMITS,
    RELEASABLE,
    cache_of,
    is_known,
    latest,
    tapped,
)
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

    from gpuward.agent.fragmentation_cache import Cache
    from gpuward.agent.model import Subject
    from gpuward.agent.window import Window

KIND = Kind(
    name="process.memory.neighbour_pressure",
    default_class=FindingClass.TICKET,
    domain=CauseDomain.CAPACITY,
    action=Action.CHECK_APPLICATION,
    meaning="Another process on the GPU grew and took the room that a torch process needs.",
    raise_after_s=15.0,
    clear_after_s=60.0,
)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much neighbours have grown, over how long."""

    span_s: float = 240.0
    least_growth_bytes: float = 1.0 * GIB
    headroom_ratio: float = LIMITS.headroom_warn_ratio
    clear_factor: float = 0.8
    # The driver lists processes every 5 to 20 s: a series that began later is of a new process.
    late_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Growth:
    """How much each holder of memory on the GPU has grown."""

    mine: float
    others: dict[str, float]

    @property
    def total(self) -> float:
        return sum(max(0.0, growth) for growth in self.others.values())


def detect(window: Window, limits: Limits = Limits()) -> Iterator[Finding]:
    """Yield per tapped process and GPU; unknown while allocator or driver are silent."""
    for process, gpu in tapped(window):
        subject = subject_of(window, gpu=gpu, process=process)
        key = SeriesKey("", gpu=gpu, process=process)
        if not is_known(window, process, gpu) or None in {
            latest(window, key, HEADROOM),
            latest(window, key, DRIVER_USED),
        }:
            yield Finding(KIND.name, subject, "Neighbours are unknown.", outcome=Outcome.UNKNOWN)
            continue
        ratio = latest(window, key, HEADROOM_RATIO)
        if ratio is None or ratio >= limits.headroom_ratio / limits.clear_factor:
            continue
        cache, growth = cache_of(window, process, gpu), growth_around(window, subject, limits)
        if cache is None or growth is None:
            continue
        if _is_pressed(cache, growth, limits, limits.clear_factor):
            finding = _finding(window, cache, subject, growth, limits)
            bad = _is_pressed(cache, growth, limits)
            yield finding if bad else replace(finding, outcome=Outcome.DOUBTFUL)


def growth_around(window: Window, subject: Subject, limits: Limits) -> Growth | None:
    """Return the growth of all on the GPU of ``subject``.

    ``None`` when the victim has no history to compare with.
    """
    since_s = window.now_s - limits.span_s
    grown: dict[str, float] = {}
    for key in window.keys(DRIVER_USED):
        if key.gpu != subject.gpu:
            continue
        values = window.values(key, since_s)
        if not values:
            continue
        is_new = values[0].at_s > since_s + limits.late_s
        if is_new and key.process == subject.process:
            return None
        grown[key.process] = values[-1].value - (0.0 if is_new else values[0].value)
    mine = grown.pop(subject.process, None)
    return None if mine is None else Growth(mine, grown)


def _is_pressed(cache: Cache, growth: Growth, limits: Limits, factor: float = 1.0) -> bool:
    if cache.headroom is None or cache.mean_request is None or cache.headroom_ratio is None:
        return False
    if growth.total < limits.least_growth_bytes * factor or growth.total < growth.mine:
        return False
    needed = limits.headroom_ratio * cache.mean_request
    is_low = cache.headroom_ratio < limits.headroom_ratio / factor
    return is_low and cache.headroom + growth.total >= needed * factor


def _finding(
    window: Window, cache: Cache, subject: Subject, growth: Growth, limits: Limits
) -> Finding:
    name, most = max(growth.others.items(), key=lambda other: other[1])
    headroom = cache.headroom or 0.0
    grown = Evidence(
        "neighbour_growth_bytes",
        most,
        "bytes",
        limits.least_growth_bytes,
        text=f"Process {name} grew by {most / GIB:.2f} GiB in {limits.span_s:.0f} s.",
        source="nvml",
    )
    return Finding(
        kind=KIND.name,
        subject=subject,
        summary=(
            f"Process {name} took {most / GIB:.2f} GiB on the GPU of {subject.process}, which has "
            f"{headroom / GIB:.2f} GiB of headroom left; restarting it would not help."
        ),
        result=Result.WARN,
        evidence=(*_room(cache, limits), grown, *_flush(window, name, subject.gpu)),
    )


def _room(cache: Cache, limits: Limits) -> Iterator[Evidence]:
    for name, value, unit, limit in (
        (HEADROOM, cache.headroom, "bytes", None),
        (HEADROOM_RATIO, cache.headroom_ratio, "ratio", limits.headroom_ratio),
    ):
        yield Evidence(name, value or 0.0, unit, limit, source="tap", at_s=cache.at_s)


def _flush(window: Window, neighbour: str, gpu: str) -> Iterator[Evidence]:
    """Yield what the neighbour could give back without losing anything."""
    releasable = window.latest(SeriesKey(RELEASABLE, gpu=gpu, process=neighbour))
    if releasable is not None and releasable.value > 0:
        yield Evidence(
            "remedy_neighbour_empty_cache_bytes",
            releasable.value,
            "bytes",
            text=f"torch.cuda.empty_cache() in {neighbour} gives back "
            f"{releasable.value / GIB:.2f} GiB.",
            source="tap",
        )
