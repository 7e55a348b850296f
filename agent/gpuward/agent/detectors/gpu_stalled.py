"""Detect requests that wait while the GPU that should serve them has room.

Something before the GPU holds them: a slow host, a lock, a collective that waits for a neighbour, a
batch limit that is set too low.  Utilization does not show it, for some kernel nearly always runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpuward.agent.kind import Kind
from gpuward.agent.limiter import Limiter
from gpuward.agent.load_evidence import evidence_of, judged, unknown
from gpuward.agent.model import Action, CauseDomain, Finding, FindingClass, Outcome, Result
from gpuward.agent.saturation import Verdict
from gpuward.agent.subject import subject_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.agent.model import Gpu
    from gpuward.agent.saturation import Judgement
    from gpuward.agent.window import Window

KIND = Kind(
    name="gpu.stalled",
    default_class=FindingClass.TICKET,
    domain=CauseDomain.CAPACITY,
    action=Action.CHECK_APPLICATION,
    meaning="Requests wait although no resource of the GPU is at its ceiling.",
    # An engine that has just started finds a queue, and is busy with it within a minute.
    raise_after_s=180.0,
    clear_after_s=120.0,
)


@dataclass(frozen=True, slots=True)
class Limits:
    """Load of the fullest resource; between ``room_ratio`` and the ceiling it is only doubtful."""

    room_ratio: float = 0.7


def detect(window: Window, limits: Limits = Limits()) -> Iterator[Finding]:
    """Yield one finding per GPU that has room while requests wait for it."""
    yield from unknown(window, KIND)
    for gpu, judgement in judged(window, Verdict.STALLED):
        # Slow answers alone prove nothing: their objective may be a wish.
        if judgement.service is not None and judgement.service.is_queueing:
            yield _finding(window, limits, gpu, judgement)


def _finding(window: Window, limits: Limits, gpu: Gpu, judgement: Judgement) -> Finding:
    # A limit of power is none of work: a card may draw much and do little.
    fullest = max(load.recent for limiter, load in judgement.loads.items() if limiter in _OF_WORK)
    waiting = 0.0 if judgement.service is None else judgement.service.waiting
    return Finding(
        kind=KIND.name,
        subject=subject_of(window, gpu=gpu.uuid),
        summary=f"{waiting:.0f} requests wait for GPU {gpu.index}, which has room.",
        outcome=Outcome.BAD if fullest < limits.room_ratio else Outcome.DOUBTFUL,
        result=Result.WARN,
        confidence=judgement.confidence,
        evidence=evidence_of(judgement),
    )


_OF_WORK = frozenset({Limiter.COMPUTE, Limiter.MEMORY_BANDWIDTH, Limiter.NVLINK, Limiter.PCIE})
