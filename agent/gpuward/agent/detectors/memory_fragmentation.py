"""Detect a torch process that runs short of memory, or soon will, because its cache is in pieces.

Stranded memory is free, but in segments that a live block pins: the process can neither give it
back nor serve a large request from it.  It is a finding when it is a large share of the cache, or
when it is what stands between the process and enough headroom; memory that is simply all in use is
``gpu.memory.saturation``.  Never judged by reserved minus allocated, which shrinks to nothing just
when memory runs out.  Shares: below 5 % is normal for a server (STAlloc calls 10 % severe, GMLake
removes up to 30 %); headroom limits: 92 % of simulated out-of-memory errors came from a ratio below
24, 52 % from below 8 at 3 % false alarms.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from gpuward.agent.fragmentation import Attribution, attribute, is_virtual
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
    Subject,
)
from gpuward.agent.subject import subject_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.agent.model import Event
    from gpuward.agent.window import Window

OOM = "process.memory.oom"
RESERVED = "process_memory_reserved_bytes"
STRANDED = "process_memory_stranded_bytes"
HEADROOM = "process_memory_headroom_bytes"
HEADROOM_RATIO = "process_memory_headroom_ratio"
MEAN_REQUEST = "process_memory_mean_large_request_bytes"
RETRIES = "process_allocation_retries_total"
OOMS = "process_out_of_memory_total"
DRIVER_USED = "process_gpu_memory_bytes"
GIB = 2**30

KIND = Kind(
    name="process.memory.fragmentation",
    default_class=FindingClass.TICKET,
    domain=CauseDomain.CAPACITY,
    action=Action.RESTART_APPLICATION,
    meaning="A torch process holds memory that it can neither use nor give back.",
    raise_after_s=3.0,
    clear_after_s=30.0,
)


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits that raise; what raised them clears a fifth away from them."""

    # Share of reserved memory, from ``least_bytes`` on.
    stranded_warn_ratio: float = 0.10
    stranded_critical_ratio: float = 0.25
    least_bytes: float = 1.0 * GIB
    # Headroom in mean large requests.
    headroom_warn_ratio: float = 24.0
    headroom_critical_ratio: float = 8.0
    headroom_samples: int = 3
    # Less is no explanation for anything: from 5 % and 256 MiB on, or from ``least_bytes`` on.
    notable_ratio: float = 0.05
    notable_bytes: float = 0.25 * GIB
    recent_s: float = 60.0
    clear_factor: float = 0.8


@dataclass(frozen=True, slots=True)
class Cache:
    """What the window knows of one process's cache on one GPU."""

    at_s: float
    reserved: float
    stranded: float
    # ``None`` while the driver is silent, the others when nothing large was asked for.
    headroom: float | None
    mean_request: float | None
    headroom_ratio: float | None
    # The best of the last few samples; ``None`` with fewer.
    lasting_ratio: float | None
    # Flushes after which the request succeeded: stalls that unbroken memory would have saved.
    retries: float
    # The last out-of-memory error that the free memory, in one piece, would have prevented.
    oom: Event | None

    @property
    def stranded_ratio(self) -> float:
        return self.stranded / self.reserved if self.reserved > 0 else 0.0


def detect(window: Window, limits: Limits = Limits()) -> Iterator[Finding]:
    """Yield per process and GPU: warn, fail, or doubtful between raise and clear limits.

    Unknown while a tapped process's figures are stale or describe memory that is not mapped (sleep
    mode); nothing for a process that is gone.
    """
    for process, gpu in _tapped(window):
        subject = subject_of(window, gpu=gpu, process=process)
        cache = _cache(window, SeriesKey("", gpu=gpu, process=process), limits)
        if cache is None:
            yield Finding(
                KIND.name,
                subject,
                "The state of the allocator is unknown.",
                outcome=Outcome.UNKNOWN,
            )
            continue
        if result := _judge(cache, limits):
            yield _finding(cache, subject, limits, Outcome.BAD, result)
        elif _judge(cache, limits, limits.clear_factor):
            yield _finding(cache, subject, limits, Outcome.DOUBTFUL, Result.WARN)


def _tapped(window: Window) -> list[tuple[str, str]]:
    return sorted(
        {
            (process.key, gpu)
            for process in window.processes
            if process.tapped
            for gpu in process.gpus
        }
    )


def _cache(window: Window, key: SeriesKey, limits: Limits) -> Cache | None:
    reserved = window.latest(replace(key, signal=RESERVED))
    stranded = window.latest(replace(key, signal=STRANDED))
    if reserved is None or stranded is None:
        return None
    driver_used = window.latest(replace(key, signal=DRIVER_USED))
    if driver_used is not None and is_virtual(int(reserved.value), int(driver_used.value)):
        return None
    since_s = window.now_s - limits.recent_s
    oomed = _risen(window, replace(key, signal=OOMS), since_s)
    return Cache(
        at_s=reserved.at_s,
        reserved=reserved.value,
        stranded=stranded.value,
        headroom=_latest(window, replace(key, signal=HEADROOM)),
        mean_request=_latest(window, replace(key, signal=MEAN_REQUEST)),
        headroom_ratio=_latest(window, replace(key, signal=HEADROOM_RATIO)),
        lasting_ratio=_lasting_ratio(window, replace(key, signal=HEADROOM_RATIO), limits),
        # Every error was preceded by a flush in vain.
        retries=max(0.0, _risen(window, replace(key, signal=RETRIES), since_s) - oomed),
        oom=_fragmentation_oom(window, key, since_s),
    )


def _latest(window: Window, key: SeriesKey) -> float | None:
    sample = window.latest(key)
    return None if sample is None else sample.value


def _lasting_ratio(window: Window, key: SeriesKey, limits: Limits) -> float | None:
    last = window.values(key, window.now_s - limits.recent_s)[-limits.headroom_samples :]
    return max(sample.value for sample in last) if len(last) == limits.headroom_samples else None


def _risen(window: Window, key: SeriesKey, since_s: float) -> float:
    """Return how much a counter has risen; a fall is a reset and counts as nothing."""
    values = [sample.value for sample in window.values(key, since_s)]
    return sum(max(0.0, now - before) for before, now in pairwise(values))


def _fragmentation_oom(window: Window, key: SeriesKey, since_s: float) -> Event | None:
    for event in reversed(window.events(OOM, since_s)):
        if event.gpu != key.gpu or event.process != key.process:
            continue
        verdict = attribute(
            request=int(event.values.get("requested_bytes", 0)),
            device_free=int(event.values.get("device_free_bytes", 0)),
            free=int(event.values.get("cache_free_bytes", 0)),
            releasable=0,
            neighbours_releasable=0,
        )
        if verdict is Attribution.FRAGMENTATION:
            return event
    return None


def _judge(cache: Cache, limits: Limits, factor: float = 1.0) -> Result | None:
    """Return how bad it is; ``factor`` below 1 makes every limit that much easier to reach."""
    share = cache.stranded_ratio / factor
    large = cache.stranded >= limits.least_bytes * factor
    notable = large or (
        cache.stranded >= limits.notable_bytes * factor and share >= limits.notable_ratio
    )
    if large and share >= limits.stranded_critical_ratio:
        return Result.FAIL
    if cache.oom is not None or (notable and cache.retries > 0):
        return Result.FAIL
    if notable and _is_why(cache, cache.headroom_ratio, limits.headroom_critical_ratio, factor):
        return Result.FAIL
    if large and share >= limits.stranded_warn_ratio:
        return Result.WARN
    if notable and _is_why(cache, cache.lasting_ratio, limits.headroom_warn_ratio, factor):
        return Result.WARN
    return None


def _is_why(cache: Cache, ratio: float | None, limit: float, factor: float) -> bool:
    """Return whether headroom is below ``limit``, and in one piece the cache would put it above."""
    if cache.headroom is None or cache.mean_request is None or ratio is None:
        return False
    in_one_piece = cache.headroom + cache.stranded
    return ratio < limit / factor and in_one_piece >= limit * factor * cache.mean_request


def _finding(
    cache: Cache, subject: Subject, limits: Limits, outcome: Outcome, result: Result
) -> Finding:
    headroom = "unknown" if cache.headroom is None else f"{cache.headroom / GIB:.2f} GiB"
    serving = f" of {subject.service}" if subject.service else ""
    return Finding(
        kind=KIND.name,
        subject=subject,
        summary=(
            f"Process {subject.process}{serving} has {cache.stranded / GIB:.2f} GiB of GPU memory "
            f"stranded in a cache of {cache.reserved / GIB:.2f} GiB; headroom {headroom}."
        ),
        outcome=outcome,
        result=result,
        evidence=tuple(_evidence(cache, limits)),
    )


def _evidence(cache: Cache, limits: Limits) -> Iterator[Evidence]:
    def fact(name: str, value: float, unit: str, threshold: float | None = None) -> Evidence:
        return Evidence(name, value, unit, threshold, source="tap", at_s=cache.at_s)

    yield fact(STRANDED, cache.stranded, "bytes", limits.least_bytes)
    yield fact(
        "process_memory_stranded_ratio", cache.stranded_ratio, "ratio", limits.stranded_warn_ratio
    )
    yield fact(RESERVED, cache.reserved, "bytes")
    if cache.headroom is not None:
        yield fact(HEADROOM, cache.headroom, "bytes")
    if cache.headroom_ratio is not None:
        yield fact(HEADROOM_RATIO, cache.headroom_ratio, "ratio", limits.headroom_warn_ratio)
    if cache.mean_request is not None:
        yield fact(MEAN_REQUEST, cache.mean_request, "bytes")
    yield fact("process_allocation_retries", cache.retries, "1", 0.0)
    if cache.oom is not None:
        yield replace(
            fact(OOM, cache.oom.values["requested_bytes"], "bytes"),
            text=cache.oom.text,
            at_s=cache.oom.at_s,
        )
