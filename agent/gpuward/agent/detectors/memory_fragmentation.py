"""Detect a torch process that runs short of memory, or soon will, because its cache is in pieces.

Stranded memory is free, but in segments that a live block pins: the process can neither give it
back nor serve a large request from it.  It is a finding when it is a large share of the cache, or
when it is what stands between the process and enough headroom; memory that is simply all in use is
``gpu.memory.saturation``.  Never judged by reserved minus allocated, which shrinks to nothing just
when memory runs out.  While it costs nobody anything it is stored and no ticket: a server that
works is full of short-lived pieces (a hundred tickets a day in simulated weeks).  Shares: below 5 %
is normal for a server (STAlloc calls 10 % severe, GMLake removes up to 30 %); headroom limits: 98 %
of simulated out-of-memory errors came from a ratio below 24, 51 % from below 8 at 5 % false alarms.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

from gpuward.agent.fragmentation import EXPANDABLE_UNSURE_RATIO
from gpuward.agent.fragmentation_cache import (
    FRAGMENTATION,
    GIB,
    HEADROOM,
    HEADROOM_RATIO,
    LIMITS,
    MEAN_REQUEST,
    RESERVED,
    RETRIES,
    STRANDED,
    Limits,
    cache_of,
    judge,
    tapped,
)
from gpuward.agent.fragmentation_oom import OOM
from gpuward.agent.fragmentation_remedies import action, remedies
from gpuward.agent.kind import Kind
from gpuward.agent.memory_around import around, facts
from gpuward.agent.memory_exhaustion import exhaustion
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

    from gpuward.agent.fragmentation_cache import Cache
    from gpuward.agent.memory_around import Around
    from gpuward.agent.window import Window

MINUTE_S = 60.0
# One flush is a peak, and so are three when a cache fills the device for the first time.
LASTING_MINUTES = 4
GUESS = (
    f"A guess, {100 * EXPANDABLE_UNSURE_RATIO:.0f} % of what is reserved: of expandable segments"
    " only a walk over the blocks tells what can be given back, and there is none that still holds."
)

KIND = Kind(
    name=FRAGMENTATION,
    default_class=FindingClass.TICKET,
    domain=CauseDomain.CAPACITY,
    action=Action.RESTART_APPLICATION,
    meaning="A torch process holds memory that it can neither use nor give back.",
    raise_after_s=3.0,
    clear_after_s=30.0,
)


def detect(window: Window, limits: Limits = LIMITS) -> Iterator[Finding]:
    """Yield per process and GPU: warn, fail, or doubtful between raise and clear limits.

    Unknown while a tapped process's figures are stale or describe memory that is not mapped (sleep
    mode); nothing for a process that is gone.
    """
    for process, gpu in tapped(window):
        subject = subject_of(window, gpu=gpu, process=process)
        cache = cache_of(window, process, gpu, limits)
        if cache is None:
            yield Finding(
                KIND.name,
                subject,
                "The state of the allocator is unknown.",
                outcome=Outcome.UNKNOWN,
            )
            continue
        if result := judge(cache, limits):
            told = result if _hurts(window, cache, subject, limits) else Result.OK
            yield _finding(window, cache, subject, limits, told)
        elif judge(cache, limits, limits.clear_factor):
            finding = _finding(window, cache, subject, limits, Result.WARN)
            yield replace(finding, outcome=Outcome.DOUBTFUL)


def _hurts(window: Window, cache: Cache, subject: Subject, limits: Limits) -> bool:
    """Return whether pieces cost somebody something: an error, flushes without end, or the room.

    The room is spoken of when hardly anything has fitted for minutes, or when it is running out.
    Unknown room is taken for none; who asks for nothing large has enough.
    """
    if cache.oom is not None or cache.headroom is None:
        return True
    key = SeriesKey(RETRIES, gpu=subject.gpu, process=subject.process)
    since_s = [window.now_s - minute * MINUTE_S for minute in range(LASTING_MINUTES + 1)]
    risen = [window.risen(key, at_s) for at_s in since_s]
    if all(more > less for less, more in pairwise(risen)):
        return True
    key = SeriesKey(HEADROOM_RATIO, gpu=subject.gpu, process=subject.process)
    ratios = window.figures(key, since_s[1])
    if not ratios or max(ratios) >= limits.headroom_warn_ratio:
        return False
    if exhaustion(window, process=subject.process, gpu=subject.gpu) is not None:
        return True
    return max(window.figures(key, since_s[-1])) < limits.headroom_critical_ratio


def _finding(
    window: Window, cache: Cache, subject: Subject, limits: Limits, result: Result
) -> Finding:
    known = around(window, cache, subject)
    headroom = "unknown" if cache.headroom is None else f"{cache.headroom / GIB:.2f} GiB"
    serving = f" of {subject.service}" if subject.service else ""
    return Finding(
        kind=KIND.name,
        subject=subject,
        summary=(
            f"Process {subject.process}{serving} has {cache.stranded / GIB:.2f} GiB of GPU memory "
            f"stranded in a cache of {cache.reserved / GIB:.2f} GiB; headroom {headroom}."
        ),
        result=result,
        evidence=(
            *_evidence(cache, limits, known),
            *facts(window, subject),
            *remedies(cache, known),
        ),
        action=action(cache, known),
    )


def _evidence(cache: Cache, limits: Limits, known: Around) -> Iterator[Evidence]:
    def fact(name: str, value: float, unit: str, threshold: float | None = None) -> Evidence:
        return Evidence(name, value, unit, threshold, source="tap", at_s=cache.at_s)

    is_guess = cache.expandable and not known.is_walked
    stranded = fact(STRANDED, cache.stranded, "bytes", limits.least_bytes)
    yield replace(stranded, text=GUESS if is_guess else "")
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
