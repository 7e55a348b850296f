"""Detect a replica of which more requests fail than usual.

Errors are rare and come in twos and threes, so they are judged as counts: would chance alone make
as many in the last minute, or in five, of a replica that fails as it usually does?
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpuward.agent.detection.usual_ratio import is_unusual
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
from gpuward.agent.replica_watch import (
    FAILED,
    FIVE_MINUTES_S,
    MINUTE_S,
    USUALLY_FAILED,
    failures_of,
)
from gpuward.agent.subject import subject_of_replica

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.agent.model import SeriesKey
    from gpuward.agent.window import Window

KIND = Kind(
    name="service.errors",
    default_class=FindingClass.TICKET,
    domain=CauseDomain.MODEL,
    action=Action.CHECK_APPLICATION,
    meaning="More requests to a replica fail than usually do, and more than chance makes.",
    raise_after_s=15.0,
    clear_after_s=300.0,
)


@dataclass(frozen=True, slots=True)
class Limits:
    """Shares of the requests of a minute, or of five; fewer are not worth a ticket."""

    raise_ratio: float = 0.01
    clear_ratio: float = 0.005


def detect(window: Window) -> Iterator[Finding]:
    """Yield one finding per replica that fails too often; doubtful down to half of that."""
    yield from findings(window)


@once_a_window
def findings(window: Window, limits: Limits = Limits()) -> tuple[Finding, ...]:
    """Return what is found of each replica that counts requests and failures."""
    judged = (_judge(window, limits, replica) for replica in window.keys(USUALLY_FAILED))
    return tuple(finding for finding in judged if finding is not None)


def _judge(window: Window, limits: Limits, usual: SeriesKey) -> Finding | None:
    sample = window.latest(usual)
    since_s = window.now_s - FIVE_MINUTES_S
    if sample is None or not any(window.risen(usual._replace(signal=s), since_s) for s in FAILED):
        return None
    doubtful = None
    for lasting_s in (MINUTE_S, FIVE_MINUTES_S):
        requests, failed = failures_of(window, usual, lasting_s)
        ratio = failed / requests if requests else 0.0
        if ratio < limits.clear_ratio:
            continue
        is_bad = ratio >= limits.raise_ratio and is_unusual(failed, requests, sample.value)
        finding = Finding(
            kind=KIND.name,
            subject=subject_of_replica(window, usual.service, usual.endpoint),
            summary=(
                f"{failed:.0f} of {requests:.0f} requests to {usual.service} at {usual.endpoint}"
                f" failed in {lasting_s:.0f} s; usually it is {sample.value:.1%}."
            ),
            outcome=Outcome.BAD if is_bad else Outcome.DOUBTFUL,
            result=Result.WARN,
            evidence=(
                Evidence("requests", requests, "1", source="engine"),
                Evidence("requests_failed", failed, "1", source="engine"),
                Evidence("requests_failed_share", ratio, "ratio", limits.raise_ratio),
                Evidence("requests_failed_usual", sample.value, "ratio", source="a day"),
            ),
        )
        if is_bad:
            return finding
        doubtful = doubtful or finding
    return doubtful
