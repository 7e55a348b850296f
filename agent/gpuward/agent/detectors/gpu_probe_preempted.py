"""Detect a GPU whose time is shared: a kernel of 200 us stands still because others have the GPU.

Processes without MPS take turns of a millisecond or two, so whoever shares a GPU waits for its
neighbour's turn again and again, which no counter of the driver shows.  A single engine on its GPU
makes the probe wait too; that is its own work and is left out.  Evidence for whoever looks for a
cause, not an alarm.
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
from gpuward.agent.probe_process import is_worker
from gpuward.agent.subject import subject_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.agent.model import Gpu
    from gpuward.agent.window import Window

GAPS, LONGEST = "gpu_probe_gap_ratio", "gpu_probe_longest_gap_seconds"

KIND = Kind(
    name="gpu.probe.preempted",
    default_class=FindingClass.STORE,
    domain=CauseDomain.CAPACITY,
    action=Action.NONE,
    meaning="Work on a GPU stands still while other processes have their turn there.",
    clear_after_s=300.0,
)


@dataclass(frozen=True, slots=True)
class Limits:
    """A burst counts that stood still for ``gap_ratio`` of its time; as a share of all of them."""

    recent_s: float = 120.0
    least_bursts: int = 5
    gap_ratio: float = 0.05
    raise_ratio: float = 0.5
    clear_ratio: float = 0.25


def detect(window: Window, limits: Limits = Limits()) -> Iterator[Finding]:
    """Yield one finding per GPU that is shared by two processes, or by some that nobody knows."""
    for gpu in window.gpus:
        gaps = window.figures(SeriesKey(GAPS, gpu=gpu.uuid), window.now_s - limits.recent_s)
        if len(gaps) < limits.least_bursts:
            continue
        ratio = sum(gap >= limits.gap_ratio for gap in gaps) / len(gaps)
        if ratio < limits.clear_ratio:
            continue
        tenants = {
            process.key
            for process in window.processes
            if gpu.uuid in process.gpus and not is_worker(process)
        }
        if len(tenants) != 1:
            outcome = Outcome.BAD if ratio >= limits.raise_ratio else Outcome.DOUBTFUL
            yield _finding(window, gpu, outcome, ratio, tenants)


def _finding(
    window: Window, gpu: Gpu, outcome: Outcome, ratio: float, tenants: set[str]
) -> Finding:
    longest = window.latest(SeriesKey(LONGEST, gpu=gpu.uuid))
    who = ", ".join(sorted(tenants)) or "nobody that is known"
    return Finding(
        kind=KIND.name,
        subject=subject_of(window, gpu=gpu.uuid),
        summary=f"GPU {gpu.index} is shared, and work waits for its turn: on it is {who}.",
        outcome=outcome,
        result=Result.WARN,
        evidence=(
            Evidence("interrupted_bursts", ratio, "ratio", source="probe"),
            Evidence("longest_gap", longest.value if longest else 0.0, "seconds", source="probe"),
        ),
    )
