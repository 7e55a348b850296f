"""Detect a GPU that is 100 % busy and does nothing: a kernel that spins, a collective that hangs.

The engine's health page says 200, utilization says 100 %, and no token comes out: a rank waits in a
kernel for one that will never come (vllm-project/vllm#46811, ROCm/device-metrics-exporter#34).
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
    name="gpu.wedged",
    default_class=FindingClass.TICKET,
    domain=CauseDomain.GPU,
    action=Action.RESTART_APPLICATION,
    meaning="A kernel runs all the time, does no work, and requests in flight get no token.",
    raise_after_s=30.0,
    clear_after_s=30.0,
)


def detect(window: Window) -> Iterator[Finding]:
    """Yield one finding per GPU that only seems to work."""
    yield from unknown(window, KIND)
    for gpu, judgement in judged(window, Verdict.WEDGED):
        running = 0.0 if judgement.service is None else judgement.service.running or 0.0
        yield Finding(
            kind=KIND.name,
            subject=subject_of(window, gpu=gpu.uuid),
            summary=(
                f"GPU {gpu.index} is always busy and does nothing; {running:.0f} requests in"
                " flight get no token."
            ),
            result=Result.WARN,
            confidence=judgement.confidence,
            evidence=evidence_of(judgement),
        )
