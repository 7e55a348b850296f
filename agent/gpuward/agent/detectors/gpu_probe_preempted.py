"""Detect a GPU whose time is shared: a kernel of 200 us stands still because others have the GPU.

Processes without MPS take turns of a millisecond or two, so whoever shares a GPU waits for its
neighbour's turn again and again, which no counter of the driver shows.  A single engine on its GPU
makes the probe wait too; that is its own work and is left out.  Evidence for whoever looks for a
cause, not an alarm.

MIG devices have multiprocessors of their own and take no turns with one another, so each is judged
by its own worker and by the processes in it; NVML says of a process which one that is.
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
from gpuward.agent.probe_rules import Device
from gpuward.agent.subject import subject_of

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    """Yield one finding per device that is shared by two processes, or by some nobody knows."""
    for device in _devices(window):
        gaps = window.figures(SeriesKey(GAPS, gpu=device.uuid), window.now_s - limits.recent_s)
        if len(gaps) < limits.least_bursts:
            continue
        ratio = sum(gap >= limits.gap_ratio for gap in gaps) / len(gaps)
        if ratio >= limits.clear_ratio:
            outcome = Outcome.BAD if ratio >= limits.raise_ratio else Outcome.DOUBTFUL
            yield from _judge(window, device, outcome, ratio)


def _devices(window: Window) -> Iterator[Device]:
    for card in window.gpus:
        yield from (Device(card, each.uuid) for each in card.mig)
        if not card.mig:
            yield Device(card)


def _judge(window: Window, device: Device, outcome: Outcome, ratio: float) -> Iterator[Finding]:
    """Yield the finding of a device whose bursts stand still, unless that is one engine's work."""
    others = [p for p in window.processes if device.card.uuid in p.gpus and not is_worker(p)]
    tenants = {p.key for p in others if device.uuid in (*p.gpus, *p.slices)}
    if device.slice_uuid and len(tenants) < 2 and any(not p.slices for p in others):  # noqa: PLR2004
        # Of a process that may be in this slice or in another nothing follows.
        yield _finding(window, device, Outcome.UNKNOWN, ratio, tenants)
    elif len(tenants) != 1:
        yield _finding(window, device, outcome, ratio, tenants)


def _finding(
    window: Window, device: Device, outcome: Outcome, ratio: float, tenants: set[str]
) -> Finding:
    longest = window.latest(SeriesKey(LONGEST, gpu=device.uuid))
    who = ", ".join(sorted(tenants)) or "nobody that is known"
    what = f"GPU {device.card.index}"
    if device.slice_uuid:
        what = f"MIG device {device.slice_uuid} of {what}"
    return Finding(
        kind=KIND.name,
        subject=subject_of(window, gpu=device.uuid),
        summary=f"{what} is shared, and work waits for its turn: on it is {who}.",
        outcome=outcome,
        result=Result.WARN,
        evidence=(
            Evidence("interrupted_bursts", ratio, "ratio", source="probe"),
            Evidence("longest_gap", longest.value if longest else 0.0, "seconds", source="probe"),
        ),
    )
