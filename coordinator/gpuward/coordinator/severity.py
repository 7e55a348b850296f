"""Severity from user impact: how many requests fail, how many are slow, whether anything serves.

Every dimension that reaches a row of the table gives a reason; the worst row wins and all reasons
are kept, so that a person can check the machine's arithmetic.  Upgrades take effect at once,
downgrades only after a hold below 0.8 of the threshold.  Table, holds and the rule for few
requests: research on incident severity, first version (quality drop, burn rate and safety are not
in it yet).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpuward.coordinator.model import Incident, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.coordinator.impact import Impact

WINDOW_S = 300.0
# Failed share: errors and timeouts of all requests, lower bound.
FAILED = (
    (Severity.SEV1, 0.90),
    (Severity.SEV2, 0.10),
    (Severity.SEV3, 0.01),
    (Severity.SEV4, 0.001),
)
# Slow share: over the objective, of successful requests, lower bound.  SEV3 stands for "10 % of
# requests": 0.09 leaves room for the interval.
SLOW = ((Severity.SEV2, 0.50), (Severity.SEV3, 0.09), (Severity.SEV4, 0.01))
# Fewer requests than this prove nothing alone: rates are capped at SEV4 then.
FEW_REQUESTS = 30
# No ready instance although there is demand.  A restart passes in less.
UNREADY_AFTER_S = 15.0
# Requests in flight and none completing: longer than a long generation takes.
STALL_AFTER_S = 60.0
# Whatever the speed: agents report once a second at best, so less is no evidence of anything.
LEAST_SILENCE_S = 5.0

DOWNGRADE_FACTOR = 0.8
HOLD_S = 600.0
SEV1_COOLDOWN_S = 1800.0


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a dimension reaches a severity: a stable headline, and one sentence with the figures."""

    severity: Severity
    headline: str
    text: str


@dataclass(frozen=True, slots=True)
class Assessment:
    """What the impact amounts to; ``severity`` is ``None`` when no threshold is reached."""

    severity: Severity | None
    reasons: tuple[str, ...] = ()
    headline: str = ""


@dataclass(frozen=True, slots=True)
class Keep:
    """Nothing to change; ``better_since_s`` is when the impact fell below the incident's level."""

    better_since_s: float | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """Set this severity."""

    severity: Severity
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Over:
    """Users have not been hurt for the whole hold."""


def assess(impact: Impact, *, speed: float = 1.0, factor: float = 1.0) -> Assessment:
    """Return the severity of ``impact`` with every threshold of a share times ``factor``."""
    reasons = sorted(_reasons(impact, speed, factor), key=lambda reason: reason.severity)
    if not reasons:
        return Assessment(None)
    texts = tuple(reason.text for reason in reasons)
    return Assessment(reasons[0].severity, texts, reasons[0].headline)


def follow(
    incident: Incident,
    impact: Impact,
    better_since_s: float | None,
    *,
    speed: float,
    now_s: float,
) -> Keep | Change | Over:
    """Return what ``impact`` means for an open service incident.

    Worse: at once.  Better, by the relaxed thresholds, for the hold: one change to what it is now,
    or ``Over`` when it is nothing.
    """
    now = assess(impact, speed=speed)
    if now.severity is not None and now.severity.worse_than(incident.severity):
        return Change(now.severity, now.reasons)
    relaxed = assess(impact, speed=speed, factor=DOWNGRADE_FACTOR)
    if relaxed.severity is not None and not incident.severity.worse_than(relaxed.severity):
        return Keep()
    since_s = now_s if better_since_s is None else better_since_s
    if now_s - since_s < HOLD_S / speed:
        return Keep(since_s)
    if relaxed.severity is None:
        return Over()
    lowest = _lowest(incident, speed, now_s)
    target = min(relaxed.severity, lowest)
    if not incident.severity.worse_than(target):
        return Keep(since_s)
    return Change(target, relaxed.reasons)


def _lowest(incident: Incident, speed: float, now_s: float) -> Severity:
    """Return the mildest severity that a machine may set now: SEV2 soon after SEV1."""
    recent = incident.sev1_at_s is not None and now_s - incident.sev1_at_s < SEV1_COOLDOWN_S / speed
    return Severity.SEV2 if recent else Severity.SEV4


def _reasons(impact: Impact, speed: float, factor: float) -> Iterator[Reason]:
    capacity = tuple(_capacity(impact, speed))
    few = impact.requests < FEW_REQUESTS and not capacity
    for reason in (*_failed(impact, factor), *_slow(impact, factor)):
        if few:
            note = f"{reason.text}; capped at SEV4: fewer than {FEW_REQUESTS} requests"
            yield Reason(Severity.SEV4, reason.headline, note)
        else:
            yield reason
    yield from capacity


def _failed(impact: Impact, factor: float) -> Iterator[Reason]:
    for severity, threshold in FAILED:
        if impact.failed_share_low >= threshold * factor:
            share = impact.failed / impact.requests
            yield Reason(
                severity,
                "requests fail",
                f"{share:.1%} of {impact.requests} requests failed"
                f" (at least {impact.failed_share_low:.1%}, {severity.name} from {threshold:.1%})",
            )
            return


def _slow(impact: Impact, factor: float) -> Iterator[Reason]:
    for severity, threshold in SLOW:
        if impact.slow_share_low >= threshold * factor:
            served = impact.requests - impact.failed
            yield Reason(
                severity,
                "requests are slow",
                f"{impact.slow / served:.1%} of {served} served requests were over the objective"
                f" (at least {impact.slow_share_low:.1%}, {severity.name} from {threshold:.1%})",
            )
            return


def _capacity(impact: Impact, speed: float) -> Iterator[Reason]:
    if impact.has_demand and impact.unready_for_s >= _after_s(UNREADY_AFTER_S, speed):
        yield Reason(
            Severity.SEV1,
            "no instance is ready",
            f"none of {impact.instances} instances has been ready for {impact.unready_for_s:.0f} s",
        )
    if impact.stalled_for_s >= _after_s(STALL_AFTER_S, speed):
        yield Reason(
            Severity.SEV2,
            "no request completes",
            f"{impact.running + impact.waiting} requests in flight,"
            f" none completed for {impact.stalled_for_s:.0f} s",
        )


def _after_s(threshold_s: float, speed: float) -> float:
    return max(threshold_s / speed, min(threshold_s, LEAST_SILENCE_S))
