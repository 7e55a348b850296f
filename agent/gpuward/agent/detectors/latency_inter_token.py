"""Detect a replica whose tokens come slower than they did at the same load.

A rise of traffic makes tokens slower too, and is no fault; what is left after that is an engine, a
GPU or a host that has changed.  It is seen minutes before a percentile of latency shows it, because
a percentile out of buckets moves only when requests change their bucket.
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
)
from gpuward.agent.remembered import once_a_window
from gpuward.agent.replica_load import TOKENS, is_silent
from gpuward.agent.replica_watch import (
    EVIDENCE,
    EXPECTED,
    RECENT,
    REQUESTS,
    SHIFT,
    SHIFT_AGE,
)
from gpuward.agent.subject import subject_of_replica
from gpuward.agent.window import RING_KEEP_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.agent.model import SeriesKey, Subject
    from gpuward.agent.window import Window

KIND = Kind(
    name="service.latency.inter_token",
    default_class=FindingClass.TICKET,
    domain=CauseDomain.GPU,
    # Whose fault it is, a slow token does not tell: no node is drained for it.
    action=Action.CHECK_APPLICATION,
    meaning="A replica's tokens come slower than they usually do at the same load.",
    # A pause of an engine is over by then.
    raise_after_s=15.0,
    clear_after_s=300.0,
)


@dataclass(frozen=True, slots=True)
class Limits:
    """Evidence is by what one false alarm in thirty days takes."""

    raise_evidence: float = 1.0
    clear_evidence: float = 0.5
    # Certain or not, less than that is not worth a ticket.
    least_shift_ratio: float = 0.03


def detect(window: Window) -> Iterator[Finding]:
    """Yield one finding per replica that is slow; doubtful until little evidence is left."""
    yield from findings(window)


@once_a_window
def findings(window: Window, limits: Limits = Limits()) -> tuple[Finding, ...]:
    """Return what is found of each replica that counts its tokens."""
    judged = (_judge(window, limits, replica) for replica in window.keys(TOKENS))
    return tuple(finding for finding in judged if finding is not None)


def _judge(window: Window, limits: Limits, replica: SeriesKey) -> Finding | None:
    evidence = window.latest(replica._replace(signal=EVIDENCE))
    subject = subject_of_replica(window, replica.service, replica.endpoint)
    if evidence is None or is_silent(window, replica):
        text = f"Whether tokens of {replica.service} at {replica.endpoint} are slow is not known."
        return Finding(KIND.name, subject, text, outcome=Outcome.UNKNOWN)
    if evidence.value < limits.clear_evidence:
        return None
    return _finding(window, limits, replica, subject)


def _finding(window: Window, limits: Limits, replica: SeriesKey, subject: Subject) -> Finding:
    recent, expected, shift, evidence, age_s = (
        0.0 if (sample := window.latest(replica._replace(signal=signal))) is None else sample.value
        for signal in (RECENT, EXPECTED, SHIFT, EVIDENCE, SHIFT_AGE)
    )
    is_bad = evidence >= limits.raise_evidence and shift >= limits.least_shift_ratio
    since_s = window.now_s - age_s
    seen_since_s = max(since_s, window.now_s - RING_KEEP_S)
    requests = window.risen(replica._replace(signal=REQUESTS), seen_since_s)
    return Finding(
        kind=KIND.name,
        subject=subject,
        summary=(
            f"Tokens of {replica.service} at {replica.endpoint} come {shift:.0%} slower than usual"
            f" at this load: {recent * 1e3:.1f} ms, not {expected * 1e3:.1f} ms."
        ),
        outcome=Outcome.BAD if is_bad else Outcome.DOUBTFUL,
        result=Result.WARN,
        since_s=since_s,
        evidence=(
            Evidence("inter_token", recent, "seconds", source="engine"),
            Evidence("inter_token_expected", expected, "seconds", source="load regression"),
            Evidence("inter_token_shift", shift, "ratio", limits.least_shift_ratio, source="EWMA"),
            Evidence("inter_token_evidence", evidence, "ratio", limits.raise_evidence, "", "CUSUM"),
            Evidence("requests", requests, "1", source="engine"),
        ),
    )
