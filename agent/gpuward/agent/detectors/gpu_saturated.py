"""Note a GPU that is at a ceiling while requests wait, and which ceiling it is.

More load than a card can serve is no fault of the card: it is stored, as the answer to "why is it
slow", and names the resource that more capacity must have more of.  A full card without a queue is
efficient, and nothing is said.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuward.agent.kind import Kind
from gpuward.agent.load_evidence import evidence_of, judged, unknown
from gpuward.agent.model import Action, CauseDomain, Finding, FindingClass, Result
from gpuward.agent.saturation import Verdict
from gpuward.agent.subject import subject_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.agent.window import Window

KIND = Kind(
    name="gpu.saturated",
    default_class=FindingClass.STORE,
    domain=CauseDomain.CAPACITY,
    action=Action.SCALE_UP,
    meaning="A GPU is at the ceiling of a resource, and requests wait or are slow for it.",
    raise_after_s=30.0,
    clear_after_s=60.0,
)


def detect(window: Window) -> Iterator[Finding]:
    """Yield one finding per saturated GPU, naming the limiter."""
    yield from unknown(window, KIND)
    for gpu, judgement in judged(window, Verdict.SATURATED):
        yield Finding(
            kind=KIND.name,
            subject=subject_of(window, gpu=gpu.uuid),
            summary=f"GPU {gpu.index} is saturated: its {judgement.limiter.words} is the limit.",
            result=Result.WARN,
            confidence=judgement.confidence,
            evidence=evidence_of(judgement),
        )
