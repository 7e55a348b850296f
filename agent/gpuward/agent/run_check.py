"""Run one detector now, for whoever asks about one kind of trouble on one subject.

The answer is of this second alone: unlike a finding it has no dwell, so that it can tell what is
not raised yet.  It reads the window like every judgement and costs as little.  OK means that the
detector looked at figures and found nothing; where there was nothing to look at it is unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpuward.agent.detectors import DETECTORS
from gpuward.agent.model import Evidence, Outcome, Result, Subject

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gpuward.agent.component import Components
    from gpuward.agent.detectors import Detector
    from gpuward.agent.model import Finding
    from gpuward.agent.window import Window

MAX_EVIDENCE = 100
LOUDNESS = (Result.OK, Result.UNKNOWN, Result.WARN, Result.FAIL)


@dataclass(frozen=True, slots=True)
class Checked:
    """What a detector says now; ``reason`` is why a result is unknown, and empty otherwise."""

    result: Result
    evidence: tuple[Evidence, ...] = ()
    reason: str = ""


def run_check(
    kind: str,
    subject: Subject,
    window: Window,
    components: Components,
    detectors: Sequence[Detector] = DETECTORS,
) -> Checked:
    """Return what the detector of ``kind`` says of ``subject``; empty fields of it mean any."""
    detector = next((detector for detector in detectors if detector.kind.name == kind), None)
    if detector is None:
        known = ", ".join(detector.kind.name for detector in detectors)
        return _unknown(f"there is no check of that name; there are: {known}")
    if reason := _blind(kind, subject, window):
        return _unknown(reason)
    with components.contain(detector.component):
        found = [f for f in detector.detect(window) if _is_of(f, subject)]
        return _checked(found)
    return _unknown("the check failed; the agent's log says how")


def _checked(found: Iterable[Finding]) -> Checked:
    results = [(_result(finding), finding) for finding in found]
    worst = max((result for result, _ in results), key=LOUDNESS.index, default=Result.OK)
    evidence = tuple(fact for _, finding in results for fact in _facts(finding))
    reasons = "; ".join(f.summary for result, f in results if result is Result.UNKNOWN)
    return Checked(worst, evidence[:MAX_EVIDENCE], reasons if worst is Result.UNKNOWN else "")


def _result(finding: Finding) -> Result:
    """Return a finding's result: softer while it is between its limits."""
    if finding.outcome is Outcome.UNKNOWN:
        return Result.UNKNOWN
    if finding.outcome is Outcome.DOUBTFUL and finding.result is Result.FAIL:
        return Result.WARN
    return finding.result


def _facts(finding: Finding) -> tuple[Evidence, ...]:
    # The sentence first: facts alone do not say of what they are.
    return (Evidence(finding.kind, text=finding.summary), *finding.evidence)


def _blind(kind: str, subject: Subject, window: Window) -> str:
    """Return why nothing can be said of ``subject``; empty when something can."""
    if subject.gpu and all(subject.gpu != gpu.uuid for gpu in window.gpus):
        return "no GPU of that UUID is seen on this node"
    if subject.process and all(subject.process != process.key for process in window.processes):
        return "no process of that key is seen on this node"
    if kind.startswith("gpu.") and not window.gpus:
        return "no GPU is seen on this node"
    if kind.startswith(("gpu.", "process.")) and not window.driver.up:
        why = window.driver.reason
        return f"the driver does not answer{f': {why}' if why else ''}"
    return ""


def _is_of(finding: Finding, subject: Subject) -> bool:
    about = finding.subject
    return (
        subject.gpu in ("", about.gpu)
        and subject.process in ("", about.process)
        and subject.service in ("", about.service)
    )


def _unknown(reason: str) -> Checked:
    return Checked(Result.UNKNOWN, reason=reason)
