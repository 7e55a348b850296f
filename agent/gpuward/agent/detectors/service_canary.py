"""Tell that a replica no longer gives the tokens that it gave before, to the same question.

Status, latency and counters are good; what comes out is not.  Wrong answers may be those of a
corrupted kernel, of weights that were damaged when they were loaded, or of a change that nobody
announced; which, only a comparison with another replica tells.
"""

from __future__ import annotations

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

KIND = Kind(
    name="service.canary",
    default_class=FindingClass.TICKET,
    domain=CauseDomain.MODEL,
    action=Action.CHECK_APPLICATION,
    meaning="A replica lastingly gives other tokens than before to the same question.",
    clear_after_s=120.0,
)
EVIDENCE = "endpoint_canary_evidence_ratio"
AGREEMENT = "endpoint_canary_agreement_ratio"
USUAL = "endpoint_canary_usual_ratio"
LOW = 1.0
DOUBTFUL = 0.5


def detect(window: Window) -> Iterator[Finding]:
    """Yield one finding per replica whose answers are, or may be, others than before."""
    for key in window.keys(EVIDENCE):
        evidence = window.latest(key)
        agreement = window.latest(key._replace(signal=AGREEMENT))
        if evidence is None:
            continue
        if agreement is None:
            yield _finding(window, key, Outcome.UNKNOWN)
        elif evidence.value >= LOW:
            yield _finding(window, key, Outcome.BAD)
        elif evidence.value >= DOUBTFUL:
            yield _finding(window, key, Outcome.DOUBTFUL)


def _finding(window: Window, key: SeriesKey, outcome: Outcome) -> Finding:
    figures = []
    for name, signal, threshold in (
        ("canary_agreement", AGREEMENT, None),
        ("usual_agreement", USUAL, None),
        ("canary_evidence", EVIDENCE, LOW),
    ):
        sample = window.latest(key._replace(signal=signal))
        if sample is not None:
            figures.append(
                Evidence(
                    name,
                    sample.value,
                    "ratio",
                    threshold=threshold,
                    source="endpoint",
                    at_s=sample.at_s,
                )
            )
    return Finding(
        kind=KIND.name,
        subject=Subject(service=key.service, endpoint=key.endpoint),
        summary=f"Replica {key.endpoint} of {key.service} gives other tokens than before.",
        outcome=outcome,
        result=Result.WARN,
        evidence=tuple(figures),
    )
