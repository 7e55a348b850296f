"""Evidence that a detector gives: the same judgement, asked of the GPUs of one replica.

What a detector calls bad is not judged a second time here, with other limits.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gpuward.agent.diagnosis.seen import UNKNOWN, Presence, Seen
from gpuward.agent.model import Outcome, Result, SeriesKey
from gpuward.agent.remembered import once_a_window
from gpuward.agent.signals import SIGNALS, Scope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gpuward.agent.diagnosis.case import Case
    from gpuward.agent.model import Finding
    from gpuward.agent.window import Window

    Detect = Callable[[Window], Iterator[Finding]]

HALF = 0.5
TROUBLE = frozenset({Result.WARN, Result.FAIL})


@once_a_window
def findings(window: Window, detect: Detect) -> tuple[Finding, ...]:
    """Return what a detector says of ``window``."""
    return tuple(detect(window))


def told(
    *detectors: Detect,
    needs: str = "",
    results: frozenset[Result] = TROUBLE,
    hint: bool = False,
) -> Callable[[Case], Seen]:
    """Return what asks ``detectors``; it is present when one finds the replica's GPUs bad.

    ``needs``: a signal of the replica, the node or each of the GPUs, without which the detectors
    have nothing to say.  ``results``: those that count.
    """

    def look(case: Case) -> Seen:
        near = [
            finding
            for detect in detectors
            for finding in findings(case.window, detect)
            if _is_about(case, finding)
        ]
        for finding in near:
            if finding.outcome is Outcome.BAD and finding.result in results:
                return seen_of(finding)
        doubtful = [finding for finding in near if finding.outcome is Outcome.DOUBTFUL]
        if hint and doubtful:
            return replace(seen_of(doubtful[0]), strength=HALF)
        if any(finding.outcome is not Outcome.BAD for finding in near):
            return UNKNOWN
        if needs and not _is_told(case, needs):
            return UNKNOWN
        return Seen(Presence.ABSENT, source="detector")

    return look


def seen_of(finding: Finding) -> Seen:
    """Return ``finding`` as evidence: its first fact with a number, and its own words."""
    fact = next((fact for fact in finding.evidence if fact.unit), None)
    return Seen(
        Presence.PRESENT,
        value=fact.value if fact else 0.0,
        unit=fact.unit if fact else "",
        limit=fact.threshold if fact else None,
        text=finding.summary,
        gpu=finding.subject.gpu,
        upstream="" if finding.subject.service else finding.subject.endpoint,
        source=fact.source if fact else "detector",
        at_s=fact.at_s if fact else None,
        key=finding.dedup_key,
        action=finding.action,
    )


def _is_about(case: Case, finding: Finding) -> bool:
    about = finding.subject
    if about.service and about.endpoint:
        return (about.service, about.endpoint) == (case.service, case.endpoint)
    if about.process:
        return about.process in case.processes and about.gpu in case.gpus
    if about.gpu:
        return about.gpu in case.gpus
    # Of the service as a whole, or of the whole node.
    return about.service in ("", case.service)


def _is_told(case: Case, signal: str) -> bool:
    scope = SIGNALS[signal].scope
    if scope is Scope.REPLICA:
        return case.latest(signal) is not None
    if scope is Scope.NODE:
        return case.window.latest(SeriesKey(signal)) is not None
    told = {key.gpu for key in case.window.keys(signal)}
    return bool(case.gpus) and told.issuperset(case.gpus)
