"""Detect a GPU on which the agent's own small measurements have become slower.

The same kernel and the same copies, every few seconds for weeks: what changes is the card, its link
or its driver, not the load.  What is usual and the evidence against it is worked out where it is
remembered (``samplers/probe_shift``).  Evidence for whoever looks for a cause, not an alarm.
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
from gpuward.agent.subject import subject_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.agent.window import Window

FIGURES = {
    "event": "starting a kernel takes longer",
    "clock": "kernels get a lower clock",
    "host_to_device": "copies to it are slower",
    "device_to_host": "copies from it are slower",
    "device_copy": "its memory is slower",
}

KIND = Kind(
    name="gpu.probe.slow",
    default_class=FindingClass.STORE,
    domain=CauseDomain.GPU,
    action=Action.NONE,
    meaning="The agent's probes of a GPU measure less than they were used to.",
    clear_after_s=300.0,
)


@dataclass(frozen=True, slots=True)
class Limits:
    """By what an alarm takes: raised at all of it, cleared below half."""

    evidence: float = 1.0
    clear_evidence: float = 0.5


def detect(window: Window, limits: Limits = Limits()) -> Iterator[Finding]:
    """Yield one finding per GPU, about the figure that fell furthest."""
    gpus = {key.gpu for name in FIGURES for key in window.keys(f"gpu_probe_{name}_evidence_ratio")}
    for gpu in sorted(gpus):
        slow = [
            (_value(window, gpu, name, "shift"), name, evidence)
            for name in FIGURES
            if (evidence := _value(window, gpu, name, "evidence")) >= limits.clear_evidence
        ]
        if slow:
            yield _finding(window, gpu, limits, sorted(slow, reverse=True))


def _value(window: Window, gpu: str, figure: str, what: str) -> float:
    sample = window.latest(SeriesKey(f"gpu_probe_{figure}_{what}_ratio", gpu=gpu))
    return 0.0 if sample is None else sample.value


def _finding(
    window: Window, gpu: str, limits: Limits, slow: list[tuple[float, str, float]]
) -> Finding:
    shift, name, _ = slow[0]
    is_bad = any(evidence >= limits.evidence for _, _, evidence in slow)
    return Finding(
        kind=KIND.name,
        subject=subject_of(window, gpu=gpu),
        summary=f"Probes of the GPU: {FIGURES[name]}, by {shift:.0%}.",
        outcome=Outcome.BAD if is_bad else Outcome.DOUBTFUL,
        result=Result.WARN,
        evidence=tuple(
            Evidence(f"{figure}_shift", by, "ratio", source="probe") for by, figure, _ in slow
        ),
    )
