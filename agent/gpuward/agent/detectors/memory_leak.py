"""Detect a process whose memory does not come down to where it was.

The floor of each minute, what stays when requests are gone, rises with certainty over twenty
minutes or more: of what the program asked torch for (tensors that somebody keeps), or beside
torch's allocator (NCCL, cuBLAS, graphs, an extension).  Never judged while a process starts, when
weights and caches rightly grow; and a level that has stopped growing is no leak.  A restart wins
the rise back and the leak goes on, so the application is to be looked at.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf
from typing import TYPE_CHECKING

from gpuward.agent.fragmentation_cache import GIB, HEADROOM, members, tapped
from gpuward.agent.fragmentation_trend import LEAST_POINTS, trend_of
from gpuward.agent.kind import Kind
from gpuward.agent.memory_exhaustion import EXHAUSTED_IN
from gpuward.agent.model import (
    Action,
    CauseDomain,
    Evidence,
    Finding,
    FindingClass,
    Outcome,
    Result,
)
from gpuward.agent.series_key import series_key
from gpuward.agent.subject import subject_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.agent.fragmentation_trend import Slope, Trend
    from gpuward.agent.model import Sample, SeriesKey, Subject
    from gpuward.agent.window import Window

REQUESTED_FLOOR = "process_memory_requested_floor_bytes"
OVERHEAD_FLOOR = "process_memory_overhead_floor_bytes"
# Of /proc/PID/stat, on every architecture that has GPUs: USER_HZ.
TICKS_PER_S = 100
# A floor a minute, as many as a trend takes in.
SPAN_S = 3_660.0

KIND = Kind(
    name="process.memory.leak_suspected",
    default_class=FindingClass.TICKET,
    domain=CauseDomain.CAPACITY,
    action=Action.CHECK_APPLICATION,
    meaning="Memory that a process keeps when it is quiet grows and does not stop growing.",
    clear_after_s=600.0,
)


@dataclass(frozen=True, slots=True)
class Limits:
    """``start_s``: weights, graphs and caches of a large model are in place after that.

    ``least_rise_bytes`` is of the certain part of the rise: its interval's lower end.  What lasts
    longer than ``soon_s`` at its pace is stored and no ticket: a morning's traffic rises as a leak
    does, by half a day's swing at most, and that much room is there in a process that is well.
    """

    start_s: float = 900.0
    least_rise_bytes: float = 0.25 * GIB
    soon_s: float = 4 * 3_600.0
    clear_factor: float = 0.8


def detect(window: Window, limits: Limits = Limits()) -> Iterator[Finding]:
    """Yield per process and GPU; unknown while there was a history and its end is missing."""
    for process, gpu in tapped(window):
        subject = subject_of(window, gpu=gpu, process=process)
        looks = (
            (series_key(REQUESTED_FLOOR, gpu, process), "tensors"),
            (series_key(OVERHEAD_FLOOR, gpu, process), "memory beside the allocator"),
        )
        found = (_look(window, subject, key, where, limits) for key, where in looks)
        said = [finding for finding in found if finding is not None]
        # Bad before doubtful before unknown, loud before stored, and of two the first.
        order = (Outcome.BAD, Outcome.DOUBTFUL, Outcome.UNKNOWN)
        yield from sorted(
            said, key=lambda one: (order.index(one.outcome), one.result is Result.OK)
        )[:1]


def _look(
    window: Window, subject: Subject, key: SeriesKey, where: str, limits: Limits
) -> Finding | None:
    count, trend = window.over(key, _since_s(window, key, limits), _count_and_trend)
    if count < LEAST_POINTS:
        return None
    if window.latest(key) is None:
        return Finding(KIND.name, subject, "The floor is unknown.", outcome=Outcome.UNKNOWN)
    if trend is None or trend.change < limits.least_rise_bytes * limits.clear_factor:
        return None
    headroom = window.latest(series_key(HEADROOM, key.gpu, key.process))
    left_s = headroom.value / trend.slope.middle if headroom is not None else None
    finding = _finding(subject, key.signal, where, trend, limits, left_s=left_s)
    if trend.sure_rise < limits.least_rise_bytes:
        return replace(finding, outcome=Outcome.DOUBTFUL)
    return finding


def _since_s(window: Window, key: SeriesKey, limits: Limits) -> float:
    """Return from when floors count: the youngest process of the key had started up."""
    ticks = [one.start_ticks for one in members(window, key.process, key.gpu)]
    oldest_s = window.now_s - SPAN_S
    if not ticks or not all(ticks):
        # Nobody knows when it started: not before its first floor, as far as is known.
        return max(oldest_s, window.over(key, oldest_s, _first_s) + limits.start_s)
    # The window's time counts from boot, as start ticks do.
    ready_s = max(ticks) / TICKS_PER_S + limits.start_s
    return max(oldest_s, ready_s) if ready_s < window.now_s else inf


def _first_s(floors: tuple[Sample, ...]) -> float:
    return floors[0].at_s if floors else inf


def _count_and_trend(floors: tuple[Sample, ...]) -> tuple[int, Trend | None]:
    return len(floors), trend_of(floors)


def _finding(
    subject: Subject,
    signal: str,
    where: str,
    trend: Trend,
    limits: Limits,
    *,
    left_s: float | None,
) -> Finding:
    hour = 3_600.0
    slope = trend.slope
    return Finding(
        kind=KIND.name,
        subject=subject,
        summary=(
            f"Process {subject.process} keeps {trend.change / GIB:.2f} GiB more than "
            f"{trend.span_s / 60:.0f} minutes ago in {where}: a leak is suspected."
        ),
        result=Result.OK if left_s is not None and left_s > limits.soon_s else Result.WARN,
        evidence=(
            *_time_left(left_s, slope, limits),
            Evidence(signal, trend.level, "bytes", source="tap"),
            Evidence(
                "process_memory_floor_rise_bytes",
                trend.change,
                "bytes",
                limits.least_rise_bytes,
                text=f"{slope.middle * hour / GIB:.2f} GiB an hour, between "
                f"{slope.lowest * hour / GIB:.2f} and {slope.highest * hour / GIB:.2f} (99 %).",
                source="tap",
            ),
            Evidence(
                "remedy_restart_bytes",
                trend.change,
                "bytes",
                text="A restart wins the rise back; it comes again at the same pace.",
                source="tap",
            ),
        ),
    )


def _time_left(left_s: float | None, slope: Slope, limits: Limits) -> Iterator[Evidence]:
    if left_s is None or left_s > limits.soon_s or slope.lowest <= 0:
        return
    soonest_s, latest_s = (left_s * slope.middle / pace for pace in (slope.highest, slope.lowest))
    yield Evidence(
        EXHAUSTED_IN,
        left_s,
        "seconds",
        text=f"At this pace the headroom is gone in {soonest_s / 60:.0f} to {latest_s / 60:.0f} "
        "minutes (99 %).",
        source="tap",
    )
