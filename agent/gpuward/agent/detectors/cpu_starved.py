"""Detect a node on which what wants to run has to wait for a core.

An engine's own threads feed the GPU: while they wait the GPU does, and from outside it looks slow.
Three views of it: a thread that only looks at the clock and finds moments missing, kernels whose
launch takes many times what the GPU needs for them, and the kernel's account of tasks that waited.
Evidence for whoever looks for a cause, not an alarm.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean, median
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
    Subject,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.agent.window import Window

STOLEN, PRESSURE = "probe_cpu_stolen_ratio", "node_cpu_pressure_ratio"
LAUNCH, EVENT = "probe_launch_seconds", "gpu_probe_event_seconds"

KIND = Kind(
    name="node.cpu.starved",
    default_class=FindingClass.STORE,
    domain=CauseDomain.CAPACITY,
    action=Action.NONE,
    meaning="Threads of the node wait for a core; a GPU that they feed looks slow.",
    raise_after_s=30.0,
    clear_after_s=300.0,
)


@dataclass(frozen=True, slots=True)
class Limits:
    """Over ``recent_s``; cleared at ``clear_ratio`` of each limit.

    A launch takes about 10 us by the wall for 2 us of the GPU where nobody waits.
    """

    recent_s: float = 120.0
    least_bursts: int = 5
    stolen_ratio: float = 0.1
    pressure_ratio: float = 0.6
    launch_by_event: float = 10.0
    launch_s: float = 100e-6
    clear_ratio: float = 0.5


def detect(window: Window, limits: Limits = Limits()) -> Iterator[Finding]:
    """Yield one finding of the node, with each view that shows it."""
    seen = [
        evidence
        for evidence in (
            *_stolen(window, limits),
            *_launches(window, limits),
            *_waits(window, limits),
        )
        if evidence.threshold and evidence.value >= limits.clear_ratio * evidence.threshold
    ]
    if not seen:
        return
    is_bad = any(evidence.value >= (evidence.threshold or 0.0) for evidence in seen)
    yield Finding(
        kind=KIND.name,
        subject=Subject(),
        summary=f"Threads wait for a core: {', '.join(_WORDS[e.name].format(e) for e in seen)}.",
        outcome=Outcome.BAD if is_bad else Outcome.DOUBTFUL,
        result=Result.WARN,
        evidence=tuple(seen),
    )


_WORDS = {
    "stolen": "a spinning one did not run for {0.value:.0%} of its time",
    "launch": "launches take {0.value:.0f} times what the GPU needs",
    "pressure": "some waited for {0.value:.0%} of the time",
}


def _stolen(window: Window, limits: Limits) -> Iterator[Evidence]:
    ratios = window.figures(SeriesKey(STOLEN), window.now_s - limits.recent_s)
    if len(ratios) >= limits.least_bursts:
        yield Evidence("stolen", median(ratios), "ratio", limits.stolen_ratio, source="probe")


def _waits(window: Window, limits: Limits) -> Iterator[Evidence]:
    ratios = window.figures(SeriesKey(PRESSURE), window.now_s - limits.recent_s)
    if len(ratios) >= limits.least_bursts:
        yield Evidence("pressure", fmean(ratios), "ratio", limits.pressure_ratio, source="proc")


def _launches(window: Window, limits: Limits) -> Iterator[Evidence]:
    """Yield the GPU of which it is worst: a thread of each launches."""
    since_s = window.now_s - limits.recent_s
    worst = 0.0
    for key in window.keys(EVENT):
        events_s = window.figures(key, since_s)
        walls_s = window.figures(key._replace(signal=LAUNCH), since_s)
        if min(len(events_s), len(walls_s)) < limits.least_bursts:
            continue
        wall_s, event_s = median(walls_s), median(events_s)
        if wall_s >= limits.launch_s and event_s > 0.0:
            worst = max(worst, wall_s / event_s)
    if worst:
        yield Evidence("launch", worst, "ratio", limits.launch_by_event, source="probe")
