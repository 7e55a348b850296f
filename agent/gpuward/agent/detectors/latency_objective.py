"""Detect a replica that spends its error budget: too many requests are slower than the objective.

This is what users feel, whatever the reason.  The share above the objective is counted, not taken
from a percentile, and both windows of a pair must burn: one minute and five for what is fast, five
minutes and an hour for what is slow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpuward.agent.detection.poisson import IMPROBABLE, chance_of_as_many
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
    BURN,
    FIVE_MINUTES_S,
    MINUTE_S,
    REQUESTS,
    SLOW_BURN,
    budget_of,
    count_of,
)
from gpuward.agent.subject import subject_of_replica

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.agent.model import SeriesKey
    from gpuward.agent.window import Window

KIND = Kind(
    name="service.latency.objective",
    default_class=FindingClass.TICKET,
    domain=CauseDomain.CAPACITY,
    action=Action.CHECK_APPLICATION,
    meaning="So many requests are slower than the objective that the error budget will not last.",
    raise_after_s=15.0,
    clear_after_s=300.0,
)


@dataclass(frozen=True, slots=True)
class Limits:
    """Speeds of burning, of the workbook: 14.4 spends 2 % of a month's budget in an hour.

    A large budget cannot burn as fast: there it is enough that ``most_ratio`` of requests are slow.
    """

    fast_burn: float = 14.4
    slow_burn: float = 6.0
    most_ratio: float = 0.5
    clear_ratio: float = 0.5


def detect(window: Window) -> Iterator[Finding]:
    """Yield one finding per replica that burns too fast; doubtful down to half of that."""
    yield from findings(window)


@once_a_window
def findings(window: Window, limits: Limits = Limits()) -> tuple[Finding, ...]:
    """Return what is found of each replica whose requests are held against an objective."""
    judged = (_judge(window, limits, replica) for replica in window.keys(REQUESTS))
    return tuple(finding for finding in judged if finding is not None)


def _judge(window: Window, limits: Limits, replica: SeriesKey) -> Finding | None:
    doubtful = None
    most_burn = limits.most_ratio / budget_of(window, replica)
    for signal, speed, lasting_s in (
        (BURN, limits.fast_burn, MINUTE_S),
        (SLOW_BURN, limits.slow_burn, FIVE_MINUTES_S),
    ):
        limit = min(speed, most_burn)
        burn = window.latest(replica._replace(signal=signal))
        if burn is None or burn.value < limits.clear_ratio * limit:
            continue
        is_bad = burn.value >= limit and not _is_chance(window, replica, lasting_s)
        finding = _finding(window, replica, burn.value, limit, lasting_s, is_bad=is_bad)
        if is_bad:
            return finding
        doubtful = doubtful or finding
    return doubtful


def _is_chance(window: Window, replica: SeriesKey, lasting_s: float) -> bool:
    """Return whether a service that keeps its objective may be seen like that: few requests."""
    count = count_of(window, replica, lasting_s)
    expected = budget_of(window, replica) * count.requests
    return chance_of_as_many(int(count.over), expected) >= IMPROBABLE


def _finding(
    window: Window,
    replica: SeriesKey,
    burn: float,
    limit: float,
    lasting_s: float,
    *,
    is_bad: bool,
) -> Finding:
    count = count_of(window, replica, lasting_s)
    return Finding(
        kind=KIND.name,
        subject=subject_of_replica(window, replica.service, replica.endpoint),
        summary=(
            f"{count.over:.0f} of {count.requests:.0f} requests to {replica.service} at"
            f" {replica.endpoint} in {lasting_s:.0f} s were slower than the objective;"
            f" the error budget burns {burn:.1f} times too fast."
        ),
        outcome=Outcome.BAD if is_bad else Outcome.DOUBTFUL,
        result=Result.WARN,
        evidence=(
            Evidence("objective_burn", burn, "ratio", limit, source="engine"),
            Evidence("requests", count.requests, "1", source="engine"),
            Evidence("requests_over_objective", count.over, "1", source="engine"),
        ),
    )
